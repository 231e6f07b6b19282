"""What the head line says: what is done now, what it has taken."""

from __future__ import annotations

import pytest

from agent_magics.widgets import TurnRecord
from agent_magics.widgets._advice import error_words
from agent_magics.widgets._progress import facts, status_words
from agent_magics.wire import (
    AgentEvent,
    SendResult,
    StepFinished,
    StepFinishPart,
    Tokens,
    TurnEnded,
    WireError,
)
from tests.support.agent_events import (
    asked,
    ended,
    status,
    step,
    text,
    thought,
    tool_done,
    tool_runs,
    tool_start,
)


def after(*events: AgentEvent) -> TurnRecord:
    record = TurnRecord()
    for event in (status("busy"), *events):
        record.handle(event)
    return record


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((), "working"),
        ((thought("Hm."),), "thinking"),
        ((tool_start(),), "preparing bash"),
        ((tool_runs(title="Count\nrows"),), "running bash: Count rows"),
        ((tool_runs(title="x" * 99),), f"running bash: {'x' * 59}…"),
        ((tool_runs(), tool_runs(call="2")), "running 2 tools"),
        ((tool_runs(), tool_done()), "thinking"),
        ((tool_done(), text("So:")), "writing"),
        ((asked(),), "waiting for you"),
        ((asked(), asked("per_2")), "waiting for you: 2 questions"),
        ((asked(), ended()), "done"),
        ((status("retry", "slow down", attempt=2),), "waiting to try again (attempt 3): slow down"),
    ],
)
def test_the_status_says_what_it_does(events: tuple[AgentEvent, ...], words: str) -> None:
    assert status_words(after(*events)) == words


def test_tokens_are_estimated_until_the_model_has_counted_them() -> None:
    record = after(step(Tokens(1000, 200), 0.5))
    assert facts(record) == ["1\u202f200 tokens", "$0.5000"]
    record.handle(text("four" * 330))
    assert facts(record)[0] == "~1\u202f500 tokens"
    record.handle(step(Tokens(1500, 330), 0.5))
    assert facts(record) == ["3\u202f030 tokens", "$1.0000"]


@pytest.mark.parametrize(
    ("used", "limit", "said"),
    [
        (26_000, 200_000, "context 13 % of 200k"),
        (1, 8192, "context 1 % of 8\u202f192"),
        (500_000, 1_000_000, "context 50 % of 1M"),
        (500, None, None),
        (None, 8192, None),
    ],
)
def test_the_context_window_is_named_where_it_is_known(
    used: int | None, limit: int | None, said: str | None
) -> None:
    part = StepFinishPart(
        "prt_s", "msg_2", "ses_1", "stop", Tokens(), context_used=used, context_limit=limit
    )
    assert facts(after(StepFinished(part))) == ([said] if said else [])


def test_an_error_names_the_next_step() -> None:
    assert "%agent_doctor" in error_words(WireError("ProviderAuthError", "No key."))
    stated = WireError("SandboxUnavailableError", "No bwrap.", {"nextStep": "Install it."})
    assert error_words(stated) == "No bwrap.\nInstall it."
    named = WireError("APIError", "Install it, please.", {"nextStep": "Install it"})
    assert error_words(named) == "Install it, please."
    assert error_words(WireError("TurnLimitError", "50 steps.")) == "50 steps."
    record = after(ended("error", "slow down"))
    assert "%agent_model" in record.html()
    assert "%agent_model" in record.text()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("MessageOutputLengthError", "cut off by the token limit"),
        ("ContentFilterError", "refused by the provider"),
        ("ContextOverflowError", "cut off: the context window is full"),
        ("ReplyIncompleteError", "cut off"),
        ("APIError", "failed"),
    ],
)
def test_a_reply_that_was_cut_is_never_called_done(error: str, words: str) -> None:
    result = SendResult("msg_2", "Half a", error=WireError(error, "It ended early."))
    record = after(text("Half a"), TurnEnded("error", result))
    assert status_words(record) == words
    assert "It ended early." in record.text() and words in record.html()
    assert "done" not in record.text()


def test_a_silent_model_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def words(*events: AgentEvent, silent: float) -> str:
        record = after(*events)
        record.heard -= silent
        return status_words(record)

    assert words(thought("Hm."), silent=9) == "thinking"
    assert words(thought("Hm."), silent=47) == "thinking, no answer for 40 s"
    assert words(text("Half a"), silent=130) == "writing, no answer for 2 min 10 s"
    assert words(tool_runs(title="Wait"), silent=130) == "running bash: Wait"
    assert words(asked(), silent=130) == "waiting for you"
    assert words(ended(), silent=130) == "done"


def test_a_turn_without_a_word_says_so() -> None:
    said = "ended its turn without a word"
    assert said in after(tool_runs(), tool_done(), ended()).text()
    assert said not in after(text("Done."), ended()).text()
