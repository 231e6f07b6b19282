"""A reply that was cut off is one wherever it comes out: never data, never done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_magics.notebook import InvalidReply, TurnFailed, ask, ask_in_background, ask_json
from agent_magics.notebook._hub._state import session_json, status_of
from agent_magics.notebook._replay._recording import read_recording
from agent_magics.wire import SessionInfo, TurnEnded, WireError
from tests.support.fake_session import FakeClient, cut, install

SAID = "cut off: it reached the token limit"
SHAPE = {"type": "object", "properties": {"people": {"type": "integer"}}}


@pytest.fixture
def client(shell: Any) -> FakeClient:
    client = install(shell, cut)
    shell.run_line_magic("load_ext", "agent_magics")
    return client


def prompts(client: FakeClient) -> int:
    return sum(len(session.turns) for session in client.sessions.values())


def test_in_the_background_and_when_it_is_waited_for(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Any] = []
    turn = ask_in_background("x", name="the night", after=found.append)
    with pytest.raises(TurnFailed, match=SAID):
        turn.result(60)
    assert found[0].finish_reason == "length" and SAID in turn.outcome
    with pytest.raises(TurnFailed, match=f"the night: The reply was {SAID}"):
        shell.run_line_magic("agent_wait", "")
    printed = capsys.readouterr().out
    assert SAID in printed and "completed" not in printed


def test_it_is_no_data_even_if_it_looks_like_it(
    shell: Any, client: FakeClient, tmp_path: Path
) -> None:
    file = tmp_path / "turn.jsonl"
    for options in ({"record": file}, {"replay": file, "speed": 0}):
        with pytest.raises(TurnFailed, match=SAID) as raised:
            ask_json("Which?", SHAPE, **options)
        assert not isinstance(raised.value, InvalidReply)
    assert prompts(client) == 1, "it is not asked for again"
    assert not shell.run_cell("%agent --json SHAPE --out r Which?").success
    assert "r" not in shell.user_ns


def test_a_replay_ends_as_the_turn_did(client: FakeClient, tmp_path: Path) -> None:
    file = tmp_path / "turn.jsonl"
    results = []
    for options in ({"record": file}, {"replay": file, "speed": 0}):
        with pytest.raises(TurnFailed, match=SAID) as raised:
            ask("hi", **options)
        results.append(raised.value.result)
    assert results[0] == results[1] and results[1].finish_reason == "length"
    ended = read_recording(file).entries[-1].what
    assert isinstance(ended, TurnEnded) and ended.outcome == "error"


def test_the_panel_says_it() -> None:
    info = SessionInfo(
        "ses_1", "t", status="error", error=WireError("MessageOutputLengthError", f"Was {SAID}.")
    )
    assert status_of(info, ()) == "error"
    assert session_json(info)["error"] == f"Was {SAID}."
