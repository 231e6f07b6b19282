"""`--replay --step` in a real kernel: buttons for whoever has widgets, Enter for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_magics.notebook._replay._recording import Entry, Recording, write_recording
from agent_magics.wire import SendResult, SessionInfo, TextDelta, TurnEnded
from tests.support.kernel import FrontEnd

pytestmark = pytest.mark.kernel


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    words = [Entry(0.0, TextDelta(f"part {part} ", part)) for part in ("one", "two", "three")]
    ended = Entry(0.0, TurnEnded("completed", SendResult("msg_1", "all of it")))
    path = tmp_path / "turn.jsonl"
    session = SessionInfo("ses_1", "T")
    write_recording(path, Recording("Say it", session, (*words, ended)))
    return path


def drawn(kernel: FrontEnd) -> str:
    """What the turn's widget was told to show."""
    messages = [m for m in kernel.messages if m["msg_type"] == "comm_msg"]
    return str([m["content"]["data"] for m in messages])


def test_a_click_for_each_step(kernel: FrontEnd, recording: Path) -> None:
    kernel.run("%load_ext agent_magics")
    cell = kernel.execute(f"%agent --replay {recording} --speed 0 --step --out out")
    kernel.click("Next step")
    kernel.until(lambda: "part one" in drawn(kernel))
    assert "part two" not in drawn(kernel)
    kernel.click("Next step")
    kernel.until(lambda: "part two" in drawn(kernel))
    assert not kernel.is_done(cell)
    kernel.click("Play the rest")
    kernel.until(lambda: kernel.is_done(cell))
    (turn, buttons) = kernel.outputs(cell)
    assert "part three" in turn["text/plain"] and buttons["text/plain"] == ""
    assert kernel.comm_with(description="Next step") is None
    assert kernel.run("print(out.text)") == "all of it\n"


def test_enter_where_there_are_no_widgets(kernel: FrontEnd, recording: Path) -> None:
    kernel.run("%load_ext agent_magics\nfrom agent_magics.notebook import _stepper")
    kernel.run("_stepper._HANDSHAKE = 0")
    kernel.inputs += ["", "r"]
    cell = kernel.execute(f"%agent --replay {recording} --speed 0 --step")
    kernel.until(lambda: kernel.is_done(cell))
    assert kernel.inputs == []
    assert "part three" in kernel.outputs(cell)[0]["text/plain"]
