"""The sync face: the same things from ordinary code, from busy threads, and under interrupts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_magics.client import (
    AsyncClient,
    AsyncSessionHandle,
    BadRequest,
    Client,
    ConnectionFailed,
    PermissionNotFound,
    SessionHandle,
    SessionNotFound,
)
from agent_magics.wire import AgentEvent, PermissionRequest, StatusChanged, TextDelta, TurnEnded
from tests.support.fake_engine import FakeEngine, FakeTurn
from tests.support.fake_launcher import sync_client
from tests.support.turn_events import a_rich_turn
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


async def endless(turn: FakeTurn) -> None:
    turn.events.begin().write("half")
    turn.publish()
    await asyncio.Event().wait()


async def asking(turn: FakeTurn) -> None:
    turn.events.begin()
    reply = await turn.ask("per_1")
    turn.events.write(f"got {reply}").end()


def test_everything_once(engine: FakeEngine, tmp_path: Path) -> None:
    engine.exec_frames = [("stdout", b"out"), ("exit", {"exitCode": 0})]
    with sync_client(engine) as client:
        assert client.health().engine == "agent-magics"
        assert client.providers()["providers"] == []
        session = client.create_session("title")
        assert repr(session) == f"SessionHandle({session.id!r})"
        assert [info.title for info in client.list_sessions()] == ["title"]
        texts: list[str] = []
        assert session.send("hi", on_text=texts.append).text == "".join(texts) == "Hello world"
        output: list[tuple[str, str]] = []
        assert session.shell("x", on_output=lambda *a: output.append(a)).stdout == "out"
        assert output == [("stdout", "out")]
        with session.shell_stream("x") as stream:
            assert [chunk.data for chunk in stream] == [b"out"]
        assert stream.result is not None and stream.result.exit_code == 0
        (tmp_path / "f").write_bytes(b"\x00\xff")
        session.put_file("/workspace/f", tmp_path / "f")
        assert session.get_file_buffer("/workspace/f") == b"\x00\xff"
        session.put_file("/workspace/g", "text")
        assert session.get_file("/workspace/g") == "text"
        assert [e.path for e in session.list_files()] == ["/workspace/f", "/workspace/g"]
        assert session.get_metrics().steps == 1
        assert len(session.get_messages()) == 2
        assert len(session.get_todos()) == 1
        assert session.get_permissions() == []
        session.update(title="other")
        assert session.get_info().title == "other"
        assert not session.abort()
        with pytest.raises(PermissionNotFound):
            session.reply_to_permission("per_1", "once")
        first = next(session.events(0))
        assert b"server.connected" in first
        assert next(session.parsed_events(0)).seq == 1
        session.end()
        with pytest.raises(SessionNotFound):
            client.session(session.id).get_info()


def test_callbacks_run_on_the_callers_thread(engine: FakeEngine) -> None:
    threads: set[threading.Thread] = set()

    with sync_client(engine) as client:
        session = client.create_session()

        def on_text(delta: str) -> None:
            threads.add(threading.current_thread())
            assert session.get_info().status in ("busy", "idle")

        session.send("hi", on_text=on_text)
    assert threads == {threading.current_thread()}


def test_permissions(engine: FakeEngine) -> None:
    engine.script = asking
    with sync_client(engine) as client:
        session = client.create_session()
        assert session.send("hi", on_permission=lambda request: "once").text == "got once"
        assert session.send("hi").text == "got reject"

        def elsewhere(request: PermissionRequest) -> str:
            session.reply_to_permission(request.id, "always")
            return "reject"

        assert session.send("hi", on_permission=elsewhere).text == "got always"

        def fail(request: PermissionRequest) -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            session.send("hi", on_permission=fail)


def test_streams(engine: FakeEngine) -> None:
    async def rich(turn: FakeTurn) -> None:
        turn.events = a_rich_turn(turn.session.id, turn.events.message_id)

    engine.script = rich
    with sync_client(engine) as client:
        session = client.create_session()
        events = list(session.stream("hi"))
        assert isinstance(events[-1], TurnEnded)
        engine.script = endless
        stream = session.stream("hi")
        for event in stream:
            if isinstance(event, TextDelta):
                break
        assert stream.message_id.startswith("msg_")
        stream.close()
        assert session.get_info().status == "busy"
        assert session.abort()
        assert list(stream) == []
        with session.stream("hi") as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    stream.abort()
        assert isinstance(event, TurnEnded) and event.outcome == "aborted"


def test_start(engine: FakeEngine) -> None:
    engine.script = endless
    events: list[AgentEvent] = []
    with sync_client(engine) as client:
        session = client.create_session()
        turn = session.start("hi", on_event=events.append)
        assert not turn.done
        assert turn.message_id.startswith("msg_")
        with pytest.raises(TimeoutError):
            turn.result(timeout=0.05)
        wait_until(lambda: any(isinstance(event, TextDelta) for event in events))
        turn.abort()
        result = turn.result(timeout=30)
        assert turn.done
        turn.abort()
        assert result.text == "half"
        assert isinstance(events[-1], TurnEnded) and events[-1].outcome == "aborted"
        with pytest.raises(BadRequest):
            session.start("", on_event=events.append)


def test_sync_calls_in_an_event_callback_are_refused(engine: FakeEngine) -> None:
    errors: list[str] = []
    with sync_client(engine) as client:
        session = client.create_session()

        def on_event(event: AgentEvent) -> None:
            try:
                session.get_info()
            except RuntimeError as error:
                errors.append(str(error))

        session.start("hi", on_event=on_event).result()
    assert errors and "another thread" in errors[0]


async def test_calls_inside_a_running_loop(engine: FakeEngine) -> None:
    with sync_client(engine) as client:
        assert client.create_session().send("hi").text == "Hello world"


def test_many_threads(engine: FakeEngine) -> None:
    with sync_client(engine) as client:
        texts: list[str] = []

        def one() -> None:
            texts.append(client.create_session().send("hi").text)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert texts == ["Hello world"] * 8


def interrupt_when(condition: Callable[[], object]) -> threading.Thread:
    def wait_and_interrupt() -> None:
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    return thread


def test_an_interrupt_aborts_the_turn(engine: FakeEngine) -> None:
    engine.script = endless
    with sync_client(engine) as client:
        session = client.create_session()
        texts: list[str] = []
        thread = interrupt_when(lambda: texts)
        with pytest.raises(KeyboardInterrupt):
            session.send("hi", on_text=texts.append)
        thread.join()
        assert engine.seen("POST", "abort")
        assert session.get_info().status == "idle"


def test_an_interrupt_while_the_prompt_is_sent(engine: FakeEngine) -> None:
    """It may have arrived or not: either way no turn is left running."""
    engine.script = endless
    with sync_client(engine) as client:
        session = client.create_session()
        for status in ["connecting", "connected"]:

            def interrupt(event: StatusChanged, status: str = status) -> None:
                if event.status == status:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                session.send("hi", on_status=interrupt)
            wait_until(lambda: session.get_info().status == "idle")


def test_an_interrupt_ends_a_command(engine: FakeEngine) -> None:
    engine.exec_frames = [("stdout", b"x")]
    engine.exec_hangs = True
    with sync_client(engine) as client:
        session = client.create_session()
        output: list[str] = []
        thread = interrupt_when(lambda: output)
        with pytest.raises(KeyboardInterrupt):
            session.shell("x", on_output=lambda stream, text: output.append(text))
        thread.join()
        assert engine.exec_left.wait(30)


def test_a_command_may_be_ended_by_another_thread(engine: FakeEngine) -> None:
    engine.exec_frames = [("stdout", b"x")]
    engine.exec_hangs = True
    with sync_client(engine) as client, client.create_session().shell_stream("x") as stream:
        assert next(stream).text == "x"
        thread = threading.Thread(target=stream.close)
        thread.start()
        with pytest.raises(concurrent.futures.CancelledError):
            next(stream)
        thread.join()
        assert stream.result is None
        assert engine.exec_left.wait(30)


# -- the end --------------------------------------------------------------------------------------


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "agent-magics-client"]


def test_closing_ends_the_thread_and_the_lease(engine: FakeEngine) -> None:
    client = sync_client(engine)
    client.health()
    assert engine.leases == 1
    client.close()
    client.close()
    assert threads() == []
    wait_until(lambda: engine.leases == 0)
    with pytest.raises(ConnectionFailed, match="closed"):
        client.health()


def test_a_client_that_is_dropped_lets_go(engine: FakeEngine) -> None:
    client = sync_client(engine)
    session = client.create_session()
    del client
    gc.collect()
    assert engine.leases == 1
    assert session.get_info().id == session.id
    del session
    gc.collect()
    wait_until(lambda: engine.leases == 0 and threads() == [])


def test_closing_tells_running_turns(engine: FakeEngine) -> None:
    engine.script = endless
    events: list[AgentEvent] = []
    client = sync_client(engine)
    session = client.create_session()
    session.start("hi", on_event=events.append)
    wait_until(lambda: any(isinstance(event, TextDelta) for event in events))
    errors: list[Exception] = []

    def send() -> None:
        try:
            client.create_session().send("hi")
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: len(engine.seen("POST", "prompt_async")) == 2)
    client.close()
    thread.join(60)
    assert isinstance(events[-1], TurnEnded)
    assert events[-1].result.error is not None
    assert events[-1].result.error.name == "ClientClosedError"
    assert len(errors) == 1


def test_a_process_that_ends_lets_go(engine: FakeEngine) -> None:
    code = """
import sys
from pathlib import Path
from tests.support.fake_engine import FakeEngine
from tests.support.fake_launcher import sync_client
engine = FakeEngine(Path(sys.argv[1]))
client = sync_client(engine)
session = client.create_session()
turn = session.start("hi", on_event=lambda event: None)
print("ready")
"""
    engine.script = endless
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(engine.socket.parent)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
    wait_until(lambda: engine.leases == 0)


# -- the two faces --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sync", "other"), [(Client, AsyncClient), (SessionHandle, AsyncSessionHandle)]
)
def test_both_faces_take_the_same(sync: type, other: type) -> None:
    own = {"run", "close", "aclose", "id", "skipped"}  # of the instance in one of the two
    names = {name for name in dir(sync) if not name.startswith("_")} - own
    assert names == {name for name in dir(other) if not name.startswith("_")} - own
    for name in names:
        mine = inspect.signature(getattr(sync, name)).parameters
        theirs = inspect.signature(getattr(other, name)).parameters
        assert str(mine) == str(theirs), name
    mine = inspect.signature(sync).parameters
    if sync is Client:
        assert str(mine) == str(inspect.signature(other).parameters)
