"""The tools, called as a model calls them, on real files and processes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any

import pytest
from pydantic_ai import BinaryContent
from pydantic_ai.messages import ModelRequest, ToolReturnPart

from agent_magics.engine.tools import INSTRUCTIONS, build_tools, tool_title
from agent_magics.sandbox import Limits, Sandbox, SandboxGone, SandboxUnavailable
from tests.support.agent_loop import Record, run_turn
from tests.tools.conftest import CallTool, one_call

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def test_names_and_parameters_are_opencodes() -> None:
    tools = {tool.name: tool.tool_def.parameters_json_schema for tool in build_tools()}
    parameters = {name: set(schema["properties"]) for name, schema in tools.items()}
    assert parameters == {
        "bash": {"command", "timeout", "workdir", "description"},
        "read": {"filePath", "offset", "limit"},
        "write": {"filePath", "content"},
        "edit": {"filePath", "oldString", "newString", "replaceAll"},
        "grep": {"pattern", "path", "include"},
        "glob": {"pattern", "path"},
        "todowrite": {"todos"},
        "todoread": set(),
        "artifact": {"path", "key", "description"},
        "webfetch": {"url", "format", "timeout"},
        "batch": {"tool_calls"},
        "skill": {"name"},
        "task": {"description", "prompt", "subagent_type"},
    }


def test_every_tool_and_parameter_is_described() -> None:
    for tool in build_tools():
        assert len(tool.tool_def.description or "") > 20
        for schema in tool.tool_def.parameters_json_schema["properties"].values():
            assert schema["description"]
    assert len(INSTRUCTIONS) < 3000


# bash


async def test_bash_streams_and_reports(call: CallTool) -> None:
    done = await call("bash", command="echo out; echo err >&2; exit 3", description="Try it")
    assert done.result in ("out\nerr\n[exit code 3]", "err\nout\n[exit code 3]")
    assert {stream for stream, _ in done.live} == {"stdout", "stderr"}
    assert b"".join(chunk for stream, chunk in done.live if stream == "stdout") == b"out\n"
    assert done.facts["exit"] == 3
    assert done.facts["description"] == "Try it"


async def test_bash_without_output(call: CallTool) -> None:
    assert (await call("bash", command="true")).result == "(no output)"


async def test_bash_workdir(call: CallTool) -> None:
    await call("bash", command="mkdir -p a/b && echo hi > a/b/x")
    assert (await call("bash", command="cat x", workdir="a/b")).result == "hi"
    assert (await call("bash", command="cat x", workdir="/workspace/a/b")).result == "hi"


async def test_bash_timeout_is_in_milliseconds(call: CallTool) -> None:
    done = await call("bash", command="echo early; sleep 30", timeout=300)
    assert done.result == "early\n[killed after the timeout of 300 ms]"
    assert done.facts["timedOut"]


async def test_bash_output_is_capped_in_the_middle(call: CallTool) -> None:
    done = await call("bash", command="seq 1 200000")
    assert len(done.result) < 31_000
    assert done.result.startswith("1\n2\n")
    assert done.result.endswith("\n199999\n200000")
    assert "bytes left out" in done.result
    assert done.facts["truncated"]


async def test_bash_output_is_cleaned_for_the_model_only(call: CallTool) -> None:
    command = r"printf '\033[31mred\033[0m 10%%\r50%%\r100%%\n\377\000end\n'"
    done = await call("bash", command=command)
    assert done.result == "100%\n\ufffdend"
    assert b"\033[31m" in b"".join(chunk for _, chunk in done.live)


@pytest.mark.parametrize("arguments", [{"command": " "}, {"command": "ls", "timeout": 0}])
async def test_bash_bad_arguments_can_be_mended(call: CallTool, arguments: dict[str, Any]) -> None:
    done = await call("bash", **arguments)
    assert done.failed


async def test_cancelling_a_turn_kills_the_command(record: Record, sandbox: Sandbox) -> None:
    model = one_call("bash", {"command": "echo $$ > pid; sleep 60"})
    turn = asyncio.create_task(run_turn(record, model, "go"))
    async with asyncio.timeout(30):
        while True:
            try:
                pid = int(await sandbox.read_file("pid"))
                break
            except (FileNotFoundError, ValueError):
                await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    for _ in range(1000):
        if not _alive(pid):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the command still runs")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# read


async def test_read_numbers_lines(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("x.txt", b"one\r\ntwo\n\nfour")
    assert (await call("read", filePath="x.txt")).result == "1: one\n2: two\n3: \n4: four"
    part = await call("read", filePath="/workspace/x.txt", offset=2, limit=1)
    assert part.result == "2: two\n[4 lines in all; read on with offset=3]"
    beyond = await call("read", filePath="x.txt", offset=9)
    assert beyond.failed
    assert "only 4 lines" in beyond.result


async def test_read_caps_long_lines_and_files(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("long.txt", b"x" * 5000 + b"\n" + b"line\n" * 10_000)
    text = (await call("read", filePath="long.txt")).result
    assert "line of 5000 characters" in text
    assert "[10001 lines in all; read on with offset=2001]" in text
    await sandbox.write_file("wide.txt", (b"y" * 1000 + b"\n") * 100)
    text = (await call("read", filePath="wide.txt")).result
    assert len(text) < 31_000
    assert "[100 lines in all; read on with offset=30]" in text


async def test_read_empty_binary_missing_and_directory(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("empty", b"")
    await sandbox.write_file("data.bin", b"a\0b" * 100)
    await sandbox.write_file("penguins.csv", b"a,b\n")
    await sandbox.write_file("sub/inner.txt", b"x")
    assert (await call("read", filePath="empty")).result == "(the file is empty)"
    binary = await call("read", filePath="data.bin")
    assert (binary.failed, binary.result) == (True, "data.bin is a binary file of 300 bytes.")
    missing = await call("read", filePath="pengiuns.csv")
    assert missing.failed
    assert missing.result == "pengiuns.csv does not exist. Did you mean penguins.csv?"
    lost = await call("read", filePath="no/such/dir.txt")
    assert lost.result == "no/such/dir.txt does not exist."
    listing = (await call("read", filePath=".")).result
    assert listing.splitlines() == [
        "/workspace is a directory:",
        "data.bin  (300 bytes)",
        "empty  (0 bytes)",
        "penguins.csv  (4 bytes)",
        "sub/",
    ]


async def test_read_shows_images(call: CallTool, record: Record, sandbox: Sandbox) -> None:
    await sandbox.write_file("chart.png", PNG)
    await call("read", filePath="chart.png")
    shown = [
        part.content
        for message in record.messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    (image,) = shown
    assert isinstance(image, BinaryContent)
    assert (image.media_type, image.data) == ("image/png", PNG)


async def test_names_that_are_no_utf8_can_be_sent(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.run(r"touch $'bad\xff.txt'; echo needle > $'bad\xff.txt'")
    for done in (
        await call("read", filePath="."),
        await call("glob", pattern="*.txt"),
        await call("grep", pattern="needle"),
    ):
        assert r"bad\xff.txt" in done.result
        done.result.encode()
    path = r"bad\xff.txt"
    assert (await call("read", filePath=path)).result == "1: needle"
    assert r"bad\xff.txt:1" in (await call("grep", pattern="needle", path=path)).result
    await call("edit", filePath=path, oldString="needle", newString="pin")
    await call("write", filePath=r"new\xff.txt", content="x")
    shown = (await sandbox.run("cat bad*; ls new*")).stdout
    assert shown == b"pin\n" + rb"new\xff.txt" + b"\n"  # there was none to be meant


async def test_read_knows_byte_order_marks(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("a.txt", "é\n".encode("utf-8-sig"))
    await sandbox.write_file("b.txt", "é\n".encode("utf-16"))
    assert (await call("read", filePath="a.txt")).result == "1: é"
    assert (await call("read", filePath="b.txt")).result == "1: é"


# write and edit


async def test_write_makes_directories_and_says_what_it_did(
    call: CallTool, record: Record, sandbox: Sandbox
) -> None:
    done = await call("write", filePath="a/b/x.py", content="print('é')\n")
    assert done.result == "Wrote /workspace/a/b/x.py: 1 lines, 12 bytes."
    assert await sandbox.read_file("a/b/x.py") == "print('é')\n".encode()
    assert record.edited == ["/workspace/a/b/x.py"]
    assert done.facts["created"]
    again = await call("write", filePath="a/b/x.py", content="print(1)\n")
    assert again.result.startswith("Replaced")
    assert "-print('é')\n+print(1)\n" in again.facts["diff"]


async def test_write_outside_is_denied(call: CallTool) -> None:
    done = await call("write", filePath="/etc/evil", content="x")
    assert done.failed
    assert not os.path.exists("/etc/evil")


async def test_write_to_a_directory_and_below_a_file(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("d/f", b"x")
    assert "d is a directory" in (await call("write", filePath="d", content="x")).result
    below = await call("write", filePath="d/f/g", content="x")
    assert below.failed
    assert "not a directory" in below.result


async def test_lone_surrogates_are_refused(call: CallTool, sandbox: Sandbox) -> None:
    done = await call("write", filePath="x", content="\ud800")
    assert done.failed
    assert not await sandbox.list_files()


@pytest.mark.parametrize("path", ["", "a\0b"])
async def test_impossible_paths_can_be_mended(call: CallTool, path: str) -> None:
    assert (await call("read", filePath=path)).failed


async def test_edit_replaces_exactly_one(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("x.py", b"a = 1\nb = 1\n")
    done = await call("edit", filePath="x.py", oldString="a = 1", newString="a = 2")
    assert done.result == "Edited /workspace/x.py: 1 replacement."
    assert await sandbox.read_file("x.py") == b"a = 2\nb = 1\n"
    assert "-a = 1\n+a = 2\n" in done.facts["diff"]


async def test_edit_explains_what_is_wrong(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("x.py", b"def f():\n    return 1\n\nx = 1\nx = 1\n")

    async def message(**arguments: Any) -> str:
        done = await call("edit", filePath="x.py", **arguments)
        assert done.failed
        return done.result

    assert "found" not in await message(oldString="zzz", newString="y")
    blank = await message(oldString="def f():\n  return 1", newString="y")
    assert "Line 1 differs from it only in blanks" in blank
    near = await message(oldString="    return 11", newString="y")
    assert "The nearest is line 2: return 1" in near
    many = await message(oldString="x = 1", newString="y")
    assert "2 times (lines 4, 5)" in many
    assert "identical" in await message(oldString="x", newString="x")
    assert "empty" in await message(oldString="", newString="x")
    missing = await call("edit", filePath="y.py", oldString="a", newString="b")
    assert missing.result == "y.py does not exist."
    assert await sandbox.read_file("x.py") == b"def f():\n    return 1\n\nx = 1\nx = 1\n"


async def test_edit_all_and_windows_line_ends(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("w.txt", b"a\r\nb\r\na\r\nb\r\n")
    done = await call("edit", filePath="w.txt", oldString="a\nb", newString="c\nd", replaceAll=True)
    assert done.result == "Edited /workspace/w.txt: 2 replacements."
    assert await sandbox.read_file("w.txt") == b"c\r\nd\r\nc\r\nd\r\n"
    await sandbox.write_file("l1.txt", b"caf\xe9")
    latin = await call("edit", filePath="l1.txt", oldString="caf", newString="x")
    assert "not UTF-8" in latin.result


# grep and glob


async def test_grep(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("a.py", b"import os\nx = 'needle 1'\n")
    await sandbox.write_file("sub/b.txt", b"no\nneedle 22  \n")
    await sandbox.write_file(".git/c", b"needle 3\n")
    await sandbox.write_file("bin.dat", b"\0needle 4\n")
    done = await call("grep", pattern=r"needle \d+")
    assert sorted(done.result.splitlines()) == ["a.py:2: x = 'needle 1'", "sub/b.txt:2: needle 22"]
    assert done.facts["matches"] == 2
    assert (await call("grep", pattern="needle", include="*.{py,csv}")).result == (
        "a.py:2: x = 'needle 1'"
    )
    assert (await call("grep", pattern="needle", path="sub")).result == "sub/b.txt:2: needle 22"
    assert (await call("grep", pattern="os", path="a.py")).result == "a.py:1: import os"
    assert (await call("grep", pattern="absent")).result == "No matches."
    missing = await call("grep", pattern="x", path="gone")
    assert (missing.failed, missing.result) == (True, "gone does not exist.")
    bad = await call("grep", pattern="(")
    assert bad.failed
    assert "regular expression" in bad.result


async def test_grep_arguments_never_reach_a_shell(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("x.txt", b"it's $(touch pwned) `here`\n")
    done = await call("grep", pattern=r"it's \$\(touch pwned\) `here`", path=".", include="*'*$(x)")
    assert done.result == "No matches."
    done = await call("grep", pattern=r"it's \$\(touch pwned\) `here`")
    assert done.result.startswith("x.txt:1:")
    assert [entry.path for entry in await sandbox.list_files()] == ["/workspace/x.txt"]


async def test_grep_is_capped(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.write_file("big.txt", b"needle\n" * 1000)
    done = await call("grep", pattern="needle")
    assert len(done.result.splitlines()) == 201
    assert "more than 200 matches" in done.result


async def test_glob(call: CallTool, sandbox: Sandbox) -> None:
    for name in ("a.csv", "b.CSV", "d/c.csv", "d/e/f.tsv", "[x].txt", "node_modules/n.csv"):
        await sandbox.write_file(name, b"")
    await sandbox.run("touch -d 2020-01-01 a.csv; touch -d 2021-01-01 d/c.csv")

    async def found(pattern: str, **more: Any) -> list[str]:
        text = (await call("glob", pattern=pattern, **more)).result
        return [line.removeprefix("/workspace/") for line in text.splitlines()]

    assert await found("*.csv") == ["d/c.csv", "a.csv"]
    assert set(await found("*.{csv,CSV,tsv}")) == {"a.csv", "b.CSV", "d/c.csv", "d/e/f.tsv"}
    assert await found("d/*") == ["d/c.csv"]
    assert set(await found("d/**/*")) == {"d/c.csv", "d/e/f.tsv"}
    assert await found("/workspace/d/**/*.tsv") == ["d/e/f.tsv"]
    assert await found("*.tsv", path="d") == ["d/e/f.tsv"]
    assert await found("[[]x].txt") == ["[x].txt"]
    assert await found("?.csv") == ["d/c.csv", "a.csv"]
    assert await found("[!a].csv") == ["d/c.csv"]
    assert await found("zzz") == ["No files found."]
    assert (await call("glob", pattern="*", path="gone")).failed
    assert not (await call("glob", pattern="[z-a]")).result.startswith("/")


async def test_glob_shows_the_newest_hundred(call: CallTool, sandbox: Sandbox) -> None:
    await sandbox.run("for i in $(seq 1 130); do touch -d 2020-01-01 f$i; done; touch f7")
    lines = (await call("glob", pattern="f*")).result.splitlines()
    assert lines[0] == "/workspace/f7"
    assert len(lines) == 101
    assert lines[-1] == "[130 files in all, the newest 100 are shown]"


# todos


async def test_todos(call: CallTool, record: Record) -> None:
    todo = {"content": " look ", "status": "in_progress", "priority": "high"}
    done = await call("todowrite", todos=[todo, {"content": "go"}])
    expected = [
        {"content": "look", "status": "in_progress", "priority": "high"},
        {"content": "go", "status": "pending", "priority": "medium"},
    ]
    assert record.todos == expected
    assert json.loads(done.result) == expected
    assert json.loads((await call("todoread")).result) == expected
    bad = await call("todowrite", todos=[{"content": "x", "status": "doing"}])
    assert bad.failed
    assert record.todos == expected


# the container fails


class DeadSandbox:
    """A container that ends under every request."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.limits = Limits()
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        if isinstance(self.error, SandboxUnavailable):
            raise self.error

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error

    read_file = write_file = list_files = run


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("bash", {"command": "ls"}),
        ("read", {"filePath": "x"}),
        ("write", {"filePath": "x", "content": ""}),
        ("edit", {"filePath": "x", "oldString": "a", "newString": "b"}),
        ("grep", {"pattern": "x"}),
        ("glob", {"pattern": "x"}),
    ],
)
@pytest.mark.parametrize("error", [SandboxGone("killed"), SandboxUnavailable("No bwrap.", "Go.")])
async def test_a_failing_container_is_told_to_the_model(
    tool: str, arguments: dict[str, Any], error: Exception
) -> None:
    dead = DeadSandbox(error)
    record = Record(dead)  # type: ignore[arg-type]
    await run_turn(record, one_call(tool, arguments), "go")
    (done,) = record.calls.values()
    assert done.failed
    assert "container" in done.result
    assert record.said == "done"
    assert dead.starts == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "title"),
    [
        ("bash", {"command": "ls\n -l", "description": ""}, "ls -l"),
        ("bash", {"command": "ls", "description": "List files"}, "List files"),
        ("bash", {"command": "x" * 300}, "x" * 99 + "…"),
        ("read", {"filePath": "/workspace/a/b.txt"}, "a/b.txt"),
        ("edit", {"filePath": "/etc/x"}, "/etc/x"),
        ("grep", {"pattern": "x", "path": "a"}, "x in a"),
        ("glob", {"pattern": "*.py"}, "*.py"),
        ("todowrite", {"todos": [{}]}, "1 todo"),
        ("todowrite", {}, "0 todos"),
        ("bash", {"command": None}, ""),
        ("other", {"n": 1, "q": "what\ud800"}, "what\ufffd"),
    ],
)
def test_titles(tool: str, arguments: dict[str, Any], title: str) -> None:
    assert tool_title(tool, arguments) == title


@pytest.mark.parametrize(("command", "told"), [("cat /workspace/x", True), ("cat x", False)])
async def test_commands_without_a_container_are_told_of_the_workspace(
    call: CallTool, command: str, told: bool
) -> None:
    output = (await call("bash", command=command)).result
    assert "[exit code 1]" in output
    assert ("use relative paths, or $HOME" in output) is told
