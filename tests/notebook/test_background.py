"""Turns that go on while other cells run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from IPython.core.error import UsageError

from agent_magics.notebook import TurnFailed, TurnInterrupted, ask_in_background
from agent_magics.notebook._turn._background import turns_of
from tests.support.fake_session import FakeClient, FakeTurn, broken, endless, hello, install
from tests.support.signals import stop_when
from tests.support.waiting import wait_until


class Gate:
    """A script that says its prompt, waits, and says the end."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, turn: FakeTurn) -> None:
        turn.say(f"{turn.prompt}: ")
        assert self.open.wait(60)
        turn.say("done")


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def client(shell: Any, gate: Gate) -> Iterator[FakeClient]:
    client = install(shell, gate)
    shell.extension_manager.load_extension("agent_magics")
    yield client
    gate.open.set()
    for turn in turns_of(shell):
        turn.abort()
    shell.extension_manager.unload_extension("agent_magics")


def started(client: FakeClient) -> list[str]:
    return [turn.prompt for session in client.sessions.values() for turn in session.turns]


def test_the_cell_returns_and_the_result_comes_later(
    shell: Any, client: FakeClient, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run_cell("%%agent -b --out answer\nfirst").success
    turn = shell.user_ns["_agent_turn"]
    wait_until(lambda: started(client) == ["first"])
    assert not turn.done and "running" in repr(turn) and "answer" not in shell.user_ns
    gate.open.set()
    assert shell.run_cell("result = %agent_wait").success
    assert shell.user_ns["result"].text == shell.user_ns["answer"].text == "first: done"
    assert "first: done" in capsys.readouterr().out
    assert turn.outcome == "completed" and turns_of(shell) == []


def test_the_end_is_announced_once(
    shell: Any, client: FakeClient, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%%agent -b\nfirst")
    shell.run_cell("1 + 1")
    assert "has ended" not in capsys.readouterr().out
    gate.open.set()
    wait_until(lambda: shell.user_ns["_agent_turn"].done)
    shell.run_cell("2 + 2")
    assert "first: done\nThe agent's turn in In[1] has ended: completed" in capsys.readouterr().out
    shell.run_cell("3 + 3")
    assert "has ended" not in capsys.readouterr().out
    assert shell.run_line_magic("agent_wait", "").text == "first: done"  # whenever it ended
    assert "has ended" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="no turn runs"):
        shell.run_line_magic("agent_wait", "")


def test_a_cell_may_end_while_another_thread_imports_what_runs_turns(
    shell: Any,
    client: FakeClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = turns_of.__module__
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # as it is until its last line ran
    shell.run_cell("x = 1")
    assert capsys.readouterr() == ("", "")


def test_turns_of_one_session_run_one_after_the_other(
    shell: Any, client: FakeClient, gate: Gate
) -> None:
    shell.run_cell("%%agent -b\none")
    wait_until(lambda: started(client) == ["one"])
    shell.run_cell("%%agent -b\ntwo")
    shell.run_cell("%%agent -b --new\nelsewhere")
    wait_until(lambda: "elsewhere" in started(client))
    assert "two" not in started(client)
    gate.open.set()
    results = shell.run_line_magic("agent_wait", "")
    assert [result.text for result in results] == ["one: done", "two: done", "elsewhere: done"]


def test_a_turn_keeps_the_session_it_was_begun_in(
    shell: Any, client: FakeClient, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although a later cell makes another one the notebook's before the turn's thread has come."""
    from agent_magics.notebook._session import SessionKeeper

    may_go, acquire = threading.Event(), SessionKeeper.acquire

    def slow(self: SessionKeeper, connection: Any, wanted: Any) -> Any:
        if not wanted.new:
            assert may_go.wait(60)
        return acquire(self, connection, wanted)

    shell.run_cell("%%agent -b\none")
    wait_until(lambda: started(client) == ["one"])
    monkeypatch.setattr(SessionKeeper, "acquire", slow)
    shell.run_cell("%%agent -b\ntwo")
    shell.run_cell("%%agent -b --new\nelsewhere")
    may_go.set()
    wait_until(lambda: "elsewhere" in started(client))
    gate.open.set()
    assert len(shell.run_line_magic("agent_wait", "")) == 3
    by_session = [[turn.prompt for turn in s.turns] for s in client.sessions.values()]
    assert by_session == [["one", "two"], ["elsewhere"]]


def test_a_cell_waits_for_the_turn_before_it(shell: Any, client: FakeClient, gate: Gate) -> None:
    shell.run_cell("%%agent -b\none")
    wait_until(lambda: started(client) == ["one"])
    threading.Timer(0.1, gate.open.set).start()
    assert shell.run_cell("%%agent\ntwo").success
    assert started(client) == ["one", "two"]


def test_stopping_one(shell: Any, client: FakeClient) -> None:
    client.script = endless
    turn = ask_in_background("talk")
    wait_until(lambda: started(client) == ["talk"])
    turn.abort()
    with pytest.raises(TurnInterrupted):
        turn.result(60)
    assert turn.outcome == "stopped"
    with pytest.raises(TurnFailed, match="the background: stopped"):
        shell.run_line_magic("agent_wait", "")


def test_one_that_fails(shell: Any, client: FakeClient) -> None:
    client.script = broken
    turn = ask_in_background("x", name="the night", after=(found := []).append)
    with pytest.raises(TurnFailed, match="answered 500"):
        turn.result(60)
    assert found[0].text == "It began well"
    with pytest.raises(TurnFailed, match="the night: The model's server answered 500"):
        shell.run_line_magic("agent_wait", "")


def test_stop_ends_the_waiting_only(shell: Any, client: FakeClient, gate: Gate) -> None:
    shell.run_cell("%%agent -b\none")
    wait_until(lambda: started(client) == ["one"])
    before = signal.getsignal(signal.SIGINT)
    stop_when(lambda: signal.getsignal(signal.SIGINT) is not before)
    with pytest.raises(TurnInterrupted):
        shell.run_line_magic("agent_wait", "")
    assert not shell.user_ns["_agent_turn"].done
    gate.open.set()
    assert shell.run_line_magic("agent_wait", "").text == "one: done"


def test_nobody_is_asked_without_a_notebook(shell: Any, client: FakeClient) -> None:
    client.script = lambda turn: turn.say(f"{turn.ask()}")
    assert ask_in_background("x").result(60).text == "reject"
    assert ask_in_background("x", permissions="once").result(60).text == "once"


def test_mistakes(
    shell: Any, client: FakeClient, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (
        "agent -b --code hi",
        "agent -b --get x:y hi",
        "agent_wait",
        "agent_wait --timeout x",
    ):
        assert not shell.run_cell(f"%{line}").success
        assert "UsageError" in capsys.readouterr().err
    shell.run_cell("%%agent -b\none")
    with pytest.raises(TurnFailed, match=r"not over after 0\.01 s: In\[\d\]"):
        shell.run_line_magic("agent_wait", "--timeout 0.01")


def test_without_a_shell_it_works_too() -> None:
    from agent_magics.client import SessionHandle
    from tests.support.fake_session import FakeSession

    session: SessionHandle = FakeSession(hello)  # type: ignore[assignment]
    assert ask_in_background("hi", session=session).result(60).text == "You said: hi"
