"""The foreground turn without a kernel: what runs, who is asked, how it ends."""

from __future__ import annotations

import builtins
import os
import signal
import threading
import time
from typing import Any

import pytest

from agent_magics.notebook import TurnFailed, TurnInterrupted
from agent_magics.notebook._turn import _turn as turn_module
from agent_magics.notebook._turn._permissions import Policy, question
from agent_magics.notebook._turn._turn import TurnSettings, run_turn
from agent_magics.wire import PermissionRequest, SendResult
from tests.support.fake_session import (
    FakeSession,
    FakeTurn,
    Script,
    broken,
    endless,
    flood,
    full,
    hello,
    prompting,
)
from tests.support.signals import stop_when


def run(script: Script, prompt: str = "Hi", **settings: Any) -> tuple[SendResult, FakeSession]:
    session = FakeSession(script)
    begin = prompting(prompt, settings.get("model"))
    return run_turn(lambda: session, begin, TurnSettings(**settings)), session  # type: ignore[arg-type,return-value]


def test_text_streams_and_the_result_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    result, session = run(hello, "x {y} <b>", model="demo/guide", notes=("a note",))
    assert result.text == "You said: x {y} <b>"
    assert session.turns[0].model == "demo/guide"
    assert capsys.readouterr().out == "[agent] a note\nYou said: x {y} <b>\n"


def test_nobody_to_ask_means_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    result, session = run(full)
    message = "Rejected: nobody can be asked here, see AgentMagics.headless."
    assert session.calls == [("reply", "per_1", "reject", message)]
    assert "The answer was reject." in result.text
    out = capsys.readouterr().out
    assert "[warning] rejected: bash: rm -rf build (nobody can be asked here" in out
    assert "[bash] ls /workspace\npenguins.csv\n" in out
    assert "[plan]\n  [>] look\n  [ ] draw\n" in out
    assert "[file] /workspace/mass.png" in out


@pytest.mark.parametrize("reply", ["once", "always", "reject"])
def test_policies(reply: str) -> None:
    for policy in (Policy(turn=reply), Policy(nobody=reply)):
        _, session = run(full, policy=policy)
        assert session.calls[0][1:3] == ("per_1", reply)


def keyboard(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Play a terminal whose user types these answers; gives the questions."""
    monkeypatch.setattr(turn_module, "front_end", lambda shell: "terminal")
    asked: list[str] = []
    left = list(answers)

    def answer(prompt: str = "") -> str:
        asked.append(prompt)
        if not left:
            raise EOFError
        return left.pop(0)

    monkeypatch.setattr(builtins, "input", answer)
    return asked


@pytest.mark.parametrize(
    ("typed", "reply"),
    [
        (["y"], "once"),
        (["A "], "always"),
        (["n"], "reject"),
        (["maybe", "yes"], "once"),
        (["", "", ""], "reject"),
    ],
)
def test_the_keyboard_answers(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], reply: str
) -> None:
    asked = keyboard(monkeypatch, *typed)
    result, session = run(full)
    assert session.calls == [("reply", "per_1", reply, None)]
    assert f"The answer was {reply}." in result.text
    assert asked[0] == (
        "The agent asks for permission: bash\n    rm -rf build\n"
        "y = allow once, a = always allow rm *, n = reject: "
    )


def test_the_question_says_which_sub_agent_asks() -> None:
    request = PermissionRequest(
        id="per_1",
        session_id="ses_2",
        permission="bash",
        patterns=("ls",),
        agent="explore",
        parent_id="ses_1",
        session_title="Find \x1b[8mit (@explore subagent)",
    )
    first = question(request).splitlines()[0]
    assert first == "The sub-agent explore (Find it) asks for permission: bash"


def test_the_question_shows_what_tries_to_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    def sneaky(turn: FakeTurn) -> None:
        turn.ask("ls \x1b[8mrm -rf /\x1b[0m \u202egnp.exe")

    asked = keyboard(monkeypatch, "n")
    run(sneaky)
    assert "ls rm -rf / ⟦U+202E⟧gnp.exe" in asked[0]
    assert "\x1b" not in asked[0]


def test_a_closed_keyboard_means_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard(monkeypatch)
    _, session = run(full)
    assert session.calls == [
        ("reply", "per_1", "reject", "Rejected: the keyboard cannot be used here.")
    ]


def test_a_reply_that_gets_lost_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard(monkeypatch, "y", "a")

    def failing(turn: FakeTurn) -> None:
        turn.session.reply_error = OSError("the line is cut")
        full(turn)

    _, session = run(failing)
    assert [call[2] for call in session.calls] == ["once", "always"]
    assert "[error] The answer did not reach the agent: the line is cut" in capsys.readouterr().out


def test_a_failed_turn_is_one_line_and_keeps_what_came() -> None:
    with pytest.raises(TurnFailed) as raised:
        run(broken)
    assert raised.value._render_traceback_() == [
        "agent: APIError: The model's server answered 500."
    ]
    assert raised.value.result is not None
    assert raised.value.result.text == "It began well"


def test_errors_before_the_turn_are_one_line() -> None:
    session = FakeSession(hello)
    session.start_error = ConnectionError("nobody\nlistens \x1b[2J")
    with pytest.raises(TurnFailed) as raised:
        run_turn(lambda: session, prompting("Hi"), TurnSettings())  # type: ignore[arg-type,return-value]
    assert raised.value._render_traceback_() == ["agent: ConnectionError: nobody listens"]
    assert raised.value.__cause__ is session.start_error


def test_an_error_while_the_session_is_made() -> None:
    def refuse() -> Any:
        raise ValueError("no such container")

    with pytest.raises(TurnFailed, match="no such container"):
        run_turn(refuse, prompting("Hi"), TurnSettings())


def drawn_text(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the cell has drawn text: the agent is at work, and the cell knows it."""
    drawn = threading.Event()

    class Telling(turn_module.TerminalView):
        def handle(self, event: Any) -> None:
            super().handle(event)
            if event.type == "text-delta":
                drawn.set()

    monkeypatch.setattr(turn_module, "TerminalView", Telling)
    return drawn


def test_stop_aborts_and_drains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = FakeSession(endless)
    stop_when(drawn_text(monkeypatch).is_set)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TurnInterrupted) as raised:
        run_turn(lambda: session, prompting("Hi"), TurnSettings())  # type: ignore[arg-type,return-value]
    assert session.calls == [("abort", session.turns[0].message_id)]
    assert raised.value._render_traceback_() == ["agent: the turn was stopped"]
    assert isinstance(raised.value, KeyboardInterrupt)
    assert "not confirmed" not in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before


def test_stop_while_connecting_starts_nothing() -> None:
    session = FakeSession(hello)
    connecting, go_on = threading.Event(), threading.Event()

    def slow() -> Any:
        connecting.set()
        go_on.wait(60)
        return session

    stop_when(connecting.is_set)
    with pytest.raises(TurnInterrupted):
        run_turn(slow, prompting("Hi"), TurnSettings())
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "agent-magics _start":
            thread.join(60)
    assert session.turns == []


def test_a_stop_that_is_not_confirmed_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(turn_module, "_DRAIN", 0.2)
    release = threading.Event()

    def deaf(turn: FakeTurn) -> None:
        turn.say("I do not listen")
        release.wait(60)

    session = FakeSession(deaf)
    stop_when(drawn_text(monkeypatch).is_set)
    with pytest.raises(TurnInterrupted):
        run_turn(lambda: session, prompting("Hi"), TurnSettings())  # type: ignore[arg-type,return-value]
    release.set()
    assert "has not confirmed the stop" in capsys.readouterr().out


def test_stop_at_the_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "front_end", lambda shell: "terminal")
    sessions: list[FakeSession] = []

    def asked_and_stopped(prompt: str = "") -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
        return "y"

    monkeypatch.setattr(builtins, "input", asked_and_stopped)

    def acquire() -> Any:
        sessions.append(FakeSession(full))
        return sessions[0]

    with pytest.raises(TurnInterrupted):
        run_turn(acquire, prompting("Hi"), TurnSettings())
    assert [call[0] for call in sessions[0].calls] == ["abort"]


def test_timeout_stops_the_turn() -> None:
    session = FakeSession(endless)
    with pytest.raises(TurnFailed, match=r"not over after 0\.2 s") as raised:
        run_turn(lambda: session, prompting("Hi"), TurnSettings(timeout=0.2))  # type: ignore[arg-type,return-value]
    assert session.calls == [("abort", session.turns[0].message_id)]
    assert raised.value.result is not None
    assert "word" in raised.value.result.text


def test_an_unanswered_request_is_rejected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Buttons(turn_module.TerminalView):
        rendered = True

    monkeypatch.setattr(turn_module, "front_end", lambda shell: "kernel")
    monkeypatch.setattr(turn_module, "WidgetView", lambda on_reply, **options: Buttons())
    _, session = run(full, policy=Policy(timeout=0.2))
    assert session.calls == [("reply", "per_1", "reject", "Rejected: no answer within 0.2 s.")]


def test_a_failing_view_does_not_leave_the_agent_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(turn_module.TerminalView):
        def handle(self, event: Any) -> None:
            if event.type == "text-delta":
                raise RuntimeError("cannot draw this")

    monkeypatch.setattr(turn_module, "TerminalView", Failing)
    session = FakeSession(endless)
    with pytest.raises(RuntimeError, match="cannot draw this"):
        run_turn(lambda: session, prompting("Hi"), TurnSettings())  # type: ignore[arg-type,return-value]
    assert session.wait_for(lambda: session.turns[0].aborted.is_set())


def test_a_flood_of_deltas_arrives_whole(capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = run(flood)
    assert capsys.readouterr().out.split() == result.text.split()
    assert len(result.text.split()) == 20_000


def test_hostile_output_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def hostile(turn: FakeTurn) -> None:
        turn.say("\x1b]0;owned\x07\x1b[2Jtext\x1b")
        turn.say("[31mred")
        turn.tool("echo \x1b[2J", "\x1b[5mblink\r")

    run(hostile)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
