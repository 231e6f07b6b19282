"""Calls of a recorded turn, carried out again; the container is a fake of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from agent_magics.client import FileMissing
from agent_magics.notebook import TurnFailed, ask
from agent_magics.notebook._replay._real_tools import RealTools
from agent_magics.wire import SessionInfo, ShellResult, ToolPart, ToolState
from tests.support.fake_session import FakeClient, full, install


class Container:
    """Files, and one command: `cat`."""

    def __init__(self, isolated: bool = True) -> None:
        self.files: dict[str, str] = {}
        self.isolated = isolated
        self.seen: list[Any] = []

    def get_info(self) -> SessionInfo:
        return SessionInfo("ses_1", "T", isolated=self.isolated)

    def get_file(self, path: str) -> str:
        if path not in self.files:
            raise FileMissing(f"There is no {path}.")
        return self.files[path]

    def put_file(self, path: str, data: bytes) -> None:
        self.files[path] = data.decode()

    def shell(
        self, command: str, *, timeout: Any, cwd: str, on_output: Callable[[str, str], Any]
    ) -> ShellResult:
        self.seen.append((command, timeout.total_seconds(), cwd))
        path = f"{cwd}/{command.removeprefix('cat ')}"
        known = path in self.files
        on_output("stdout" if known else "stderr", self.files.get(path, "cat: nothing\n"))
        return ShellResult("", "", 0 if known else 1)


def call(tool: str, output: str = "", **given: Any) -> ToolPart:
    state = ToolState("completed", given, title="t", output=output, metadata={"exit": 0})
    return ToolPart("prt_1", "msg_1", "ses_1", tool, "call_1", state)


def again(container: Container, part: ToolPart) -> tuple[str, bool, Mapping[str, Any]]:
    found = RealTools(container).again(part)  # type: ignore[arg-type]
    assert found is not None
    return found[0].state.output, found[1], found[0].state.metadata


def test_files_are_written_edited_and_read() -> None:
    box = Container()
    write = call("write", "Wrote it.", filePath="a/x.py", content="one\ntwo\n")
    assert again(box, write)[:2] == ("Wrote it.", False)
    assert box.files == {"/workspace/a/x.py": "one\ntwo\n"}
    edit = call("edit", "Edited.", filePath="/workspace/a/x.py", oldString="two", newString="2")
    assert again(box, edit)[:2] == ("Edited.", False)
    read = call("read", "1: one\n2: 2", filePath="a/x.py")
    assert again(box, read)[:2] == ("1: one\n2: 2", False)
    part = call("read", "2: two", filePath="a/x.py", offset=2, limit=1)
    assert again(box, part)[:2] == ("2: 2", True)
    part = call("read", filePath="a/x.py", limit=1)
    assert again(box, part)[0] == "1: one\n[2 lines in all; read on with offset=2]"


def test_commands_run_and_differences_are_told() -> None:
    box = Container()
    box.files["/workspace/x"] = "now\r\n 10%\r100%  \n"
    bash = call("bash", "now\n100%", command="cat x", timeout=5000)
    assert again(box, bash)[1] is False
    assert box.seen == [("cat x", 5.0, "/workspace")]
    output, differs, metadata = again(box, call("bash", "now", command="cat y", workdir="sub"))
    assert (output, differs) == ("cat: nothing\n[exit code 1]", True) and metadata["exit"] == 1
    assert box.seen[-1] == ("cat y", 120.0, "/workspace/sub")
    box.files["/workspace/x"] = ""
    assert again(box, call("bash", "(no output)", command="cat x"))[1] is False


@pytest.mark.parametrize(
    "part",
    [
        call("read", "1: x", filePath="none"),
        call("edit", "Edited.", filePath="none", oldString="a", newString="b"),
        call("edit", "Edited.", filePath="twice", oldString="a", newString="b"),
        call("write", "Wrote.", content="no path"),
        call("bash", "x", command=3),
    ],
)
def test_what_can_not_be_done_today_is_told(part: ToolPart) -> None:
    box = Container()
    box.files["/workspace/twice"] = "a a"
    output, differs, _ = again(box, part)
    assert output.startswith("[failed: ") and differs


def test_other_tools_stay_as_recorded() -> None:
    tools = RealTools(Container())  # type: ignore[arg-type]
    assert tools.again(call("webfetch", url="x")) is None
    assert tools.again(call("todowrite", todos=[])) is None
    assert tools.left_out == {"webfetch"}


def test_without_a_container_nothing_runs() -> None:
    with pytest.raises(TurnFailed, match="no container"):
        RealTools(Container(isolated=False))  # type: ignore[arg-type]


@pytest.fixture
def client(shell: Any) -> Iterator[FakeClient]:
    client = install(shell, full)
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


def test_a_replay_with_real_tools(
    shell: Any, client: FakeClient, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turn.jsonl"
    recorded = ask("hi", record=file, permissions="once")
    (session,) = client.sessions.values()
    sent = len(session.turns)
    capsys.readouterr()
    shell.run_cell(f"%agent --replay {file} --speed 0 --real-tools --out fresh")
    fresh = shell.user_ns["fresh"]
    assert len(session.turns) == sent and fresh.text == recorded.text
    assert session.calls[-1][:2] == ("shell", "ls /workspace")
    out = capsys.readouterr().out
    assert "not what was recorded" in out
    assert "[bash] ls /workspace\nout\n" in out and "penguins.csv" not in out
