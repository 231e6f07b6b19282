"""What the head line says: what is done now, what it has taken."""

from __future__ import annotations

import pytest

from agent_magics.widgets import TurnRecord
from agent_magics.widgets._advice import error_words
from agent_magics.widgets._progress import facts, status_words
from agent_magics.wire import AgentEvent, StepFinished, StepFinishPart, Tokens, WireError
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
