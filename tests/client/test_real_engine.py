"""The client and the real engine, with the built-in demo model and real containers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magics.client import (
    AsyncClient,
    BadRequest,
    Busy,
    Client,
    EngineLauncher,
    EngineNotResponding,
    FileInput,
    FileMissing,
    MessageNotFound,
    ModelNotFound,
    PermissionNotFound,
    ProviderAuth,
    RevertConflict,
    SessionHandle,
    SessionNotFound,
    StateDir,
    StreamPolicy,
    TextInput,
)
from agent_magics.client._launch import is_alive
from agent_magics.wire import (
    AgentEvent,
    PermissionAsked,
    PermissionReplied,
    PermissionRequest,
    StatusChanged,
    TextDelta,
    ToolComplete,
    ToolUpdate,
    TurnEnded,
)
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.container

ROOT = Path(__file__).resolve().parents[2]
RUN = "Write a small hello function and a test, and run it"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="am-", dir="/tmp"))
    yield path
    engine = StateDir(path / "state").read()
    if engine is not None and is_alive(engine.pid):
        os.kill(engine.pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(engine.pid))
    shutil.rmtree(path, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "AGENT_MAGICS_DATA_DIR": str(home / "data"),
        "AGENT_MAGICS_CONFIG": str(home / "none.toml"),
    }


def launcher(home: Path) -> EngineLauncher:
    (home / "none.toml").touch()
    return EngineLauncher(StateDir(home / "state"), environ=environment(home))


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    with Client(launcher=launcher(home)) as client:
        yield client


@pytest.fixture
def session(client: Client) -> Iterator[SessionHandle]:
    session = client.create_session("A test")
    yield session
    session.end()


def engine_pid(home: Path) -> int:
    engine = StateDir(home / "state").read()
    assert engine is not None
    return engine.pid


def test_a_turn_with_a_permission(session: SessionHandle) -> None:
    asked: list[PermissionRequest] = []
    texts: list[str] = []
    tools: list[str] = []

    def allow(request: PermissionRequest) -> str:
        asked.append(request)
        return "once"

    result = session.send(
        RUN,
        on_text=texts.append,
        on_permission=allow,
        on_tool_complete=lambda part: tools.append(part.tool),
    )
    assert result.error is None
    assert result.text == "".join(texts) != ""
    assert "bash" in tools
    assert asked and asked[0].permission == "bash" and asked[0].patterns
    assert session.get_info().status == "idle"
    messages = session.get_messages()
    assert [message.info.role for message in messages] == ["user", "assistant"]
    assert (messages[0].text, messages[1].text) == (RUN, result.text)
    assert messages[1].info.id == result.message_id
    metrics = session.get_metrics()
    assert metrics.tool_calls >= len(tools)
    assert metrics.tool_usage["bash"] >= 1
    used = [part.context_used for part in messages[1].parts if part.type == "step-finish"]
    assert used[-1] == metrics.context_used
    assert session.get_permissions() == []
    with pytest.raises(PermissionNotFound):
        session.reply_to_permission(asked[0].id, "once")


def test_a_rejected_permission_does_not_end_the_turn(session: SessionHandle) -> None:
    failed: list[str] = []
    result = session.send(RUN, on_tool_error=lambda part: failed.append(part.state.error))
    assert result.error is None
    assert len(failed) >= 1


@pytest.mark.parametrize(
    ("mime", "kind"), [("image/png", "no images"), ("application/pdf", "no documents")]
)
def test_what_the_model_cannot_take_is_refused_before_it_is_said(
    session: SessionHandle, mime: str, kind: str
) -> None:
    with pytest.raises(BadRequest, match=f"demo/guide takes {kind}"):
        session.send([TextInput("look"), FileInput(b"data", mime)])
    assert session.get_messages() == []
    table = FileInput(b"x,y\n1,2\n", "text/csv", "a.csv")
    assert session.send([TextInput("hello"), table]).error is None


def test_a_summary_of_the_demo_model(session: SessionHandle) -> None:
    with pytest.raises(BadRequest, match="nothing to summarize"):
        session.summarize()
    session.send("what can you do, in short?")
    assert session.summarize() is True
    messages = session.get_messages()
    assert [m.info.summary for m in messages] == [False, False, False, True]
    assert "a script, not an AI" in messages[-1].text
    assert "- what can you do, in short?" in messages[-1].text
    assert session.get_info().status == "idle"
    assert session.send("and now?").error is None
    assert session.summarize("demo/guide") is True


def test_a_turn_is_taken_back_and_brought_back(client: Client, session: SessionHandle) -> None:
    session.put_file("mine.txt", "mine")
    session.send("hello")
    result = session.send(RUN, on_permission=lambda request: "once")
    messages, files = session.get_messages(), session.list_files(recursive=True)
    changed = session.get_diff(result.message_id)
    assert changed and {diff.status for diff in changed} == {"added"}
    assert session.get_diff() == changed and any(diff.patch for diff in changed)
    preview = session.revert(result.message_id, preview=True)
    assert [f.path for f in preview.files] == [diff.path for diff in changed]
    assert (preview.messages, preview.conflicts) == (2, ())
    assert session.get_messages() == messages
    copy = client.fork_session(session.id)
    done = session.revert(result.message_id)
    assert (done.message_id, done.files) == (messages[2].info.id, preview.files)
    assert session.get_messages() == messages[:2]
    assert [f.path for f in session.list_files()] == ["/workspace/mine.txt"]
    assert len(copy.get_messages()) == 4
    copied = copy.list_files(recursive=True)
    assert [(f.path, f.size) for f in copied] == [(f.path, f.size) for f in files]
    session.unrevert()
    assert session.get_messages() == messages
    # (a directory's time is its own)
    kept = [f for f in session.list_files(recursive=True) if f.kind == "file"]
    assert kept == [f for f in files if f.kind == "file"]
    path = next(diff.path for diff in changed if not diff.path.endswith("/"))
    session.put_file(path, "changed by me")
    with pytest.raises(RevertConflict) as conflict:
        session.revert(result.message_id)
    assert conflict.value.paths == (path,) and session.get_file(path) == "changed by me"
    with pytest.raises(MessageNotFound):
        session.revert("msg_unknown")
    copy.end()


def test_a_fork_says_what_it_left_out(client: Client, session: SessionHandle) -> None:
    made = session.shell(
        "set -e; mkdir -p .local open closed; for f in a .local/b open/c; do echo x > $f; done;"
        "echo 1 > .local/kept; ln a twin; ln open/c open/d; truncate -s 10M sparse;"
        "echo x > $'no\\xfftext'; echo x > $'closed \\xfe'; mkfifo pipe .local/pipe;"
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")';"
        "chmod 0 a .local/b open/c $'closed \\xfe'; echo x > closed/inside; chmod 0 closed;"
        "mkdir names .local/names; echo x > names/a; echo x > .local/names/a;"
        "chmod 400 names .local/names"
    )
    assert made.exit_code == 0, made
    copy = client.fork_session(session.id)
    reasons = {file.path: file.reason for file in copy.skipped}
    unreadable = {"a", "twin", ".local/b", "open/c", "open/d", "closed \udcfe"}
    closed = {"closed", "names", ".local/names"}
    assert set(reasons) == {*unreadable, *closed, "pipe", ".local/pipe", "socket"}
    assert all("can't be read" in reasons[path] for path in (*unreadable, *closed))
    assert all(reasons[path] == "it is no file" for path in ("pipe", ".local/pipe", "socket"))
    listed = copy.shell("ls -A . .local open; stat -c %b sparse").stdout
    expected = [".:", ".local", "no", "open", "sparse", ".local:", "kept", "open:"]
    assert [line.split("\ufffd")[0] for line in listed.split("\n") if line][:-1] == expected
    assert int(listed.split()[-1]) < 1000
    assert client.fork_session(copy.id).skipped == ()
    copy.end()


def test_names_that_are_no_utf8(session: SessionHandle, tmp_path: Path) -> None:
    session.shell(
        "mkdir $'d\\xff' artifacts; echo one > $'d\\xff/caf\\xe9.txt'; echo two > $'x\\xe9';"
        "echo plain > 'x\\xe9 plain'; echo bytes > $'both\\xe9'; echo text > 'both\\xe9';"
        "echo made > $'artifacts/r\\xe9sum\\xe9.txt'"
    )
    listed = [f.path for f in session.list_files(recursive=True) if f.kind == "file"]
    read = {path: session.get_file_buffer(path) for path in listed}
    assert sorted(read.values()) == [
        b"bytes\n",
        b"made\n",
        b"one\n",
        b"plain\n",
        b"text\n",
        b"two\n",
    ]
    # as a person or a model reads and writes them
    assert session.get_file("d\\xff/caf\\xe9.txt") == "one\n"
    assert session.get_file("x\\xe9") == "two\n" and session.get_file("x\\xe9 plain") == "plain\n"
    assert session.get_file("both\\xe9") == "text\n" and session.get_file("both\udce9") == "bytes\n"
    (entry,) = session.list_files("/workspace/d\\xff")
    assert entry.path == "/workspace/d\udcff/caf\udce9.txt"
    assert session.get_file_to("x\udce9", tmp_path / "x") == 4
    session.put_file("x\\xe9", "three")
    assert session.get_file("x\udce9") == "three"
    session.put_file("new\udcfe", "new")
    assert session.get_file("new\\xfe") == "new"
    (artifact,) = session.list_artifacts()
    assert artifact.key == "r\\xe9sum\\xe9.txt"
    assert session.get_artifact(artifact.key) == "made\n"
    with pytest.raises(BadRequest):
        session.get_file("half a pair \ud800")


def test_raw_events_are_numbered_without_gaps(session: SessionHandle) -> None:
    import json

    session.send("hello there")
    data = b""
    with session.events(0) as chunks:
        for chunk in chunks:
            data += chunk
            if b'"session.idle"' in data:
                break
    events = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
    assert events[0]["type"] == "server.connected"
    numbers = [event["seq"] for event in events[1:]]
    assert numbers == sorted(set(numbers))
    assert [e["type"] for e in events].count("turn.ended") == 1


def test_commands(session: SessionHandle) -> None:
    result = session.shell("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    chunks: list[tuple[str, str, float]] = []
    session.shell(
        "echo one; sleep 0.3; printf two",
        on_output=lambda stream, text: chunks.append((stream, text, time.monotonic())),
    )
    assert [(stream, text) for stream, text, _ in chunks] == [
        ("stdout", "one\n"),
        ("stdout", "two"),
    ]
    assert chunks[1][2] - chunks[0][2] > 0.2
    late = session.shell("echo before; sleep 60", timeout=300)
    assert (late.stdout, late.exit_code, late.timed_out) == ("before\n", 124, True)
    assert session.shell("pwd; cat", cwd="/tmp", stdin=b"in").stdout == "/tmp\nin"
    version = session.shell("python -c 'import sys; print(sys.version)'").stdout
    assert version.strip() == sys.version.strip()


def test_leaving_a_command_ends_it(session: SessionHandle) -> None:
    commands = 'for f in /proc/[0-9]*/cmdline; do tr "\\0" " " < $f; echo; done'

    def is_running() -> bool:
        return "sleep 987" in session.shell(commands).stdout

    with session.shell_stream("echo up; exec sleep 987") as stream:
        assert next(stream).text == "up\n"
        wait_until(is_running)
    wait_until(lambda: not is_running())


def test_an_interrupted_command_says_how_it_ended(session: SessionHandle) -> None:
    with session.shell_stream("echo up; sleep 988; echo never") as stream:
        assert not stream.running and not stream.interrupt()
        assert next(stream).text == "up\n"
        assert stream.running and stream.interrupt()
        assert list(stream) == []
    assert stream.result is not None and not stream.running
    assert (stream.result.stdout, stream.result.exit_code) == ("up\n", 130)
    assert not stream.interrupt()
    with session.shell_stream("trap '' INT TERM; echo up; while :; do sleep 0.1; done") as stream:
        assert next(stream).text == "up\n"
        assert stream.interrupt(kill=True)
        assert list(stream) == []
    assert stream.result is not None and stream.result.exit_code == 137


def test_files(session: SessionHandle, tmp_path: Path) -> None:
    data = bytes(range(256)) * 500
    session.put_file("/workspace/deep/ä b.bin", data)
    assert session.get_file_buffer("/workspace/deep/ä b.bin") == data
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    session.put_file("x.csv", tmp_path / "x.csv")
    assert session.get_file("/workspace/x.csv") == "a,b\n1,2\n"
    listed = {(e.path, e.kind) for e in session.list_files(recursive=True)}
    assert ("/workspace/deep/ä b.bin", "file") in listed
    with pytest.raises(FileMissing):
        session.get_file("/workspace/nope")
    with pytest.raises(FileMissing):
        session.list_files("/workspace/nope")


def test_an_abort_while_a_permission_is_asked(session: SessionHandle) -> None:
    events: list[AgentEvent] = []
    turn = session.start(RUN, on_event=events.append)
    wait_until(lambda: any(isinstance(event, PermissionAsked) for event in events))
    assert [p.id for p in session.get_permissions()]
    turn.abort()
    result = turn.result(timeout=30)
    assert isinstance(events[-1], TurnEnded) and events[-1].outcome == "aborted"
    assert result.error is not None and result.error.name == "MessageAbortedError"
    (reply,) = [e.reply for e in events if isinstance(e, PermissionReplied)]
    assert reply == "reject"
    assert session.get_permissions() == []
    assert session.get_info().status == "idle"
    assert session.send("hello there").error is None


def test_refusals(client: Client, session: SessionHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SessionNotFound):
        client.session("ses_000000000000000000000000").send("hi")
    with pytest.raises(SessionNotFound):
        client.session("../x").get_info()
    with pytest.raises(ModelNotFound):
        session.send("hi", model="nobody/nothing")
    with pytest.raises(ProviderAuth, match="OPENAI_API_KEY"):
        session.send("hi", model="openai/gpt-4o")
    with pytest.raises(BadRequest):
        client.create_session(sandbox="nonsense")
    events: list[AgentEvent] = []
    turn = session.start(RUN, on_event=events.append)
    wait_until(lambda: any(isinstance(event, PermissionAsked) for event in events))
    with pytest.raises(Busy):
        session.send("second")
    turn.abort()


def test_another_client_finds_the_same_engine(home: Path, client: Client) -> None:
    session = client.create_session("shared")
    with Client(launcher=launcher(home)) as other:
        assert session.id in [info.id for info in other.list_sessions()]
        other.session(session.id).update(title="renamed")
    assert session.get_info().title == "renamed"
    session.end()
    assert client.health().engine == "agent-magics"


def test_a_session_survives_its_client(home: Path, client: Client) -> None:
    with Client(launcher=launcher(home)) as other:
        session = other.create_session("kept")
        session.put_file("/workspace/x", b"kept")
        session.send("hello there")
        id = session.id
    again = client.session(id)
    assert again.get_file("/workspace/x") == "kept"
    assert len(again.get_messages()) == 2
    again.end()


def test_a_kill_in_the_middle_of_a_turn(home: Path, client: Client) -> None:
    """The turn ends as an error, what had arrived is kept, the next one works."""
    session = client.create_session("killed")
    events: list[AgentEvent] = []
    turn = session.start(RUN, on_event=events.append)
    wait_until(lambda: any(isinstance(event, PermissionAsked) for event in events))
    before = engine_pid(home)
    os.kill(before, signal.SIGKILL)
    result = turn.result(timeout=60)
    assert isinstance(events[-1], TurnEnded) and events[-1].outcome == "error"
    assert result.error is not None and result.error.message
    assert "reconnecting" in [e.status for e in events if isinstance(e, StatusChanged)]
    assert engine_pid(home) != before
    assert result.text == "".join(e.delta for e in events if isinstance(e, TextDelta))
    messages = session.get_messages()
    assert messages[0].text == RUN
    assert messages[1].info.error is not None
    assert session.get_permissions() == []
    after = session.send(RUN, on_permission=lambda request: "once")
    assert after.error is None
    session.end()


def test_a_kill_while_the_client_is_idle(home: Path, client: Client) -> None:
    session = client.create_session("idle")
    session.send("hello there")
    os.kill(engine_pid(home), signal.SIGKILL)
    assert len(session.get_messages()) == 2
    session.end()


async def test_the_async_face(home: Path, client: Client) -> None:
    async with AsyncClient(launcher=launcher(home)) as other:
        session = await other.create_session("async")
        events: list[AgentEvent] = []
        async for event in session.stream(RUN):
            events.append(event)
            if isinstance(event, PermissionAsked):
                await session.reply_to_permission(event.request.id, "always")
        assert isinstance(events[-1], TurnEnded) and events[-1].result.error is None
        assert any(isinstance(event, ToolComplete) for event in events)
        output = [e for e in events if isinstance(e, ToolUpdate) and e.output]
        assert output
        results = await asyncio.gather(*(session.shell(f"echo {number}") for number in range(10)))
        assert [result.stdout for result in results] == [f"{number}\n" for number in range(10)]
        await session.end()


async def test_a_stopped_engine_is_not_ended_while_it_has_turns(home: Path) -> None:
    """It says nothing: the client's time is kept, who waits is told, and then all goes on."""
    policy = StreamPolicy(heartbeat=1.0, give_up=60, quiet=1.0)
    usual = launcher(home)
    impatient = EngineLauncher(
        usual.state, environ=usual.environ, hang_timeout=0.5, probe_timeout=0.5
    )
    told: list[str] = []
    async with (
        AsyncClient(launcher=impatient, policy=policy, on_silence=told.append) as patient,
        AsyncClient(launcher=impatient, timeout=60) as quick,
    ):
        await quick.health()
        quick._api._timeout = 1.0  # now that it is connected, on a machine however busy
        session = await patient.create_session("stopped")
        events: list[AgentEvent] = []
        turn = session.start(RUN, on_event=events.append)
        await until(lambda: any(isinstance(event, PermissionAsked) for event in events))
        pid = engine_pid(home)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(EngineNotResponding, match=f"kill -9 {pid}"):
                    await quick.session(session.id).get_info()
                assert time.monotonic() - began < 20  # 1 s on a machine that is not busy
            asking = asyncio.create_task(session.get_info())
            await until(lambda: bool(told))
            assert f"process {pid}" in told[0] and not asking.done()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await asking).id == session.id
        await until(lambda: told[-1] == "")
        request = next(e.request for e in events if isinstance(e, PermissionAsked))
        await session.reply_to_permission(request.id, "always")
        async with asyncio.timeout(60):
            result = await turn.result()
        assert result.error is None and engine_pid(home) == pid
        assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == result.text
        assert sum(isinstance(event, TurnEnded) for event in events) == 1
        await session.end()


def test_the_engine_goes_when_nobody_needs_it(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.client import test_real_engine as t;"
        "from agent_magics.client import Client;"
        "print(Client(launcher=t.launcher(Path(sys.argv[1]))).health().healthy)"
    )
    command = [sys.executable, "-m", "agent_magics.engine", "--grace", "0.5"]
    own = home / "own"
    own.mkdir()
    (own / "none.toml").touch()
    quick = EngineLauncher(StateDir(own / "state"), command, environment(own))
    with Client(launcher=quick) as client:
        assert client.health().healthy
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(own)],
            env=environment(own), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("True\n", "")
        engine = quick.state.read()
        assert engine is not None
    wait_until(lambda: not is_alive(engine.pid))
    assert not quick.state.socket.exists()
