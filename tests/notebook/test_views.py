"""What a terminal shows of a turn."""

from __future__ import annotations

import io
import time

from agent_magics.notebook._turn._views import TerminalView
from agent_magics.wire import StatusChanged
from tests.support.agent_events import (
    ended,
    plan,
    replied,
    text,
    thought,
    tool_done,
    tool_failed,
    tool_prints,
    tool_runs,
)


def shown(*events: object) -> str:
    stream = io.StringIO()
    view = TerminalView(stream)
    view.open()
    for event in events:
        view.handle(event)  # type: ignore[arg-type]
    view.finish()
    return stream.getvalue()


def test_a_turn_is_plain_lines() -> None:
    assert (
        shown(
            thought("hm"),
            text("Let me look."),
            tool_runs(input={"command": "ls"}),
            replied(),
            tool_prints("a.csv\n", input={"command": "ls"}),
            tool_done(input={"command": "ls"}, output="a.csv\n"),
            text("Done."),
        )
        == "[thinking]\nhm\nLet me look.\n[bash] ls\n[permission] once\na.csv\nDone.\n"
    )


def test_the_plan_is_shown_once_and_its_tool_calls_are_not() -> None:
    output = shown(
        tool_runs("todowrite", input={"todos": []}),
        plan(("load", "completed"), ("plot", "in_progress")),
        tool_done("todowrite", output="[]"),
        plan(("load", "completed"), ("plot", "in_progress")),
        tool_failed("todowrite", "2", error="no list given"),
    )
    assert output.count("[plan]\n  [x] load\n  [>] plot\n") == 1
    assert output.count("[todowrite]") == 2  # only the failed call: its line and its error
    assert "no list given" in output


def test_no_control_sequence_reaches_the_terminal() -> None:
    output = shown(text("\x1b]0;title\x07\x1b[2Jhi \u202e"), tool_prints("\x1b[31mred\r\n"))
    assert "\x1b" not in output
    assert "\u202e" not in output


def test_making_room_is_told() -> None:
    output = shown(text("Let me look."), StatusChanged("compacting"), StatusChanged("busy"))
    assert output == "Let me look.\n[compacting] the conversation is summarized to make room\n"


def test_a_silent_model_is_told_of() -> None:
    stream = io.StringIO()
    view = TerminalView(stream)
    view.open()
    for silent in (29.0, 31.0, 45.0, 61.0):
        view._heard = time.monotonic() - silent
        view.tick()
    assert stream.getvalue() == "[agent] no answer for 30 s\n[agent] no answer for 60 s\n"
    view.handle(tool_runs(input={"command": "sleep 99"}))
    view._heard -= 300  # a tool at work is no silence of the model
    view.tick()
    assert stream.getvalue().count("no answer") == 2


def test_a_turn_without_a_word_says_so() -> None:
    assert "without a word" in shown(tool_runs(), tool_done(), ended())
    assert "without a word" not in shown(text("Done."), ended())
