"""What goes to the browser: enough, in order, and not too much of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from agent_magics.widgets import TurnRecord, render_markdown
from agent_magics.widgets._ops import OpWriter
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    status,
    text,
    thought,
    tool_done,
    tool_prints,
    tool_runs,
    tool_start,
)
from tests.support.turn_page import TurnPage

PARAGRAPHS = ("Some words of a paragraph, then a line end. " * 10 + "\n\n") * 230
REPLIES = {
    "paragraphs": PARAGRAPHS,
    "one paragraph": "word " * 20_000,
    "one code block": "```python\n" + "x = [1, 2, 3] < 4\n" * 5_500,
    "one list": "- an item with *emphasis*\n" * 3_900,
    "one table": "| a | b |\n|---|---|\n" + "| 1 & 2 | <x> |\n" * 6_000,
    "one loose list": "- item\n\n" * 12_500,
    "code blocks": ("Words.\n\n```python\n" + "return a + b * 3  # sum\n" * 20 + "```\n\n") * 200,
    "unclosed emphasis": "**a _b `c " * 10_000,
}


def follow(writer: OpWriter, page: TurnPage, number: int = 0) -> None:
    page.receive({"n": page.next, "ops": writer.changes()})


def stream(reply: str, deltas_per_update: int = 80, delta: int = 5) -> tuple[TurnPage, int, int]:
    """The page after a reply, the bytes of all operations, the number of updates."""
    record, page, sent, updates = TurnRecord(), TurnPage(), 0, 0
    writer = OpWriter(record)
    pieces = [reply[i : i + delta] for i in range(0, len(reply), delta)]
    for begin in range(0, len(pieces), deltas_per_update):
        for piece in pieces[begin : begin + deltas_per_update]:
            record.handle(text(piece))
        ops = writer.changes()
        page.receive({"n": page.next, "ops": ops})
        sent += len(json.dumps(ops).encode())
        updates += 1
    return page, sent, updates


@pytest.mark.parametrize("name", REPLIES)
def test_bytes_stay_within_their_budget(name: str) -> None:
    reply = REPLIES[name]
    page, sent, updates = stream(reply)
    overhead = 700 * updates  # what the messaging protocol adds to each
    assert sent + overhead <= 6 * len(reply)
    shown = page.texts["text prt_t"] + page.open["text prt_t"]
    assert len(shown) >= len(reply) * 0.9  # all of it is there


def test_the_end_shows_the_whole_rendering() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    for piece in PARAGRAPHS.splitlines(keepends=True):
        record.handle(text(piece))
        follow(writer, page)
    record.handle(ended())
    follow(writer, page)
    shown = page.texts["text prt_t"] + page.open["text prt_t"]
    assert shown.split() == render_markdown(PARAGRAPHS).split()


def test_text_is_settled_when_something_follows() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    for _ in range(4000):
        record.handle(text("*word* "))
    follow(writer, page)
    record.handle(text("*end*"))
    follow(writer, page)
    record.handle(tool_start())
    follow(writer, page)
    assert page.open["text prt_t"].endswith("<em>end</em></p>\n")


def events() -> list[Any]:
    return [
        status("busy"),
        thought("Hm. "),
        thought("Yes."),
        text("First\n\nsec"),
        text("ond *part*\n\nthird"),
        tool_start(),
        tool_runs(input={"command": "make"}),
        asked(),
        asked("per_2", patterns=("make",), metadata={"command": "make"}),
        replied(),
        tool_prints("one\n", input={"command": "make"}),
        tool_prints("two\n", input={"command": "make"}),
        plan(("a", "pending")),
        tool_done(input={"command": "make"}, output="one\ntwo\n", title="make"),
        plan(("a", "completed")),
        text("The end.", "prt_t2"),
        replied("reject", "per_2"),
        ended(),
    ]


def test_only_changes_are_sent() -> None:
    record = TurnRecord()
    writer = OpWriter(record)
    record.handle(text("hello"))
    assert {op["op"] for op in writer.changes()} == {"text", "head"}
    assert writer.changes() == []
    record.handle(plan(("a", "pending")))
    assert [op["op"] for op in writer.changes()] == ["todos"]


@pytest.mark.parametrize("when", range(len(events()) + 1))
def test_a_view_that_comes_late_shows_the_same(when: int) -> None:
    """Whenever a page is loaded, it ends up showing what the first one shows."""
    record, first, late = TurnRecord(), TurnPage(), TurnPage()
    writer = OpWriter(record)

    def send(ops: Iterable[dict[str, Any]], *, reset: bool = False) -> None:
        message = {"n": first.next, "ops": list(ops), "reset": reset}
        first.receive(message)
        if reset or late.next:
            late.receive(message)

    for number, event in enumerate(events()):
        if number == when:
            writer = OpWriter(record)
            send(writer.everything(), reset=True)
        record.handle(event)
        send(writer.changes())
    if when == len(events()):
        send(OpWriter(record).everything(), reset=True)
    assert late.shown() == first.shown()
    assert not late.missed

    alone = TurnPage()
    plain, steady = TurnRecord(), None
    steady = OpWriter(plain)
    for event in events():
        plain.handle(event)
        alone.receive({"n": alone.next, "ops": steady.changes()})
    shown, expected = first.shown(), alone.shown()
    for one in (shown, expected):
        one["texts"] = {k: v.split() for k, v in one["texts"].items()}
    assert shown == expected


def test_live_output_that_rushes_by_is_clipped() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    record.handle(tool_start())
    follow(writer, page)
    for _ in range(50):
        record.handle(tool_prints("q" * 10_000))
    follow(writer, page)
    assert len(page.live["tool prt_1"]) < 40_000
    assert "characters went by" in page.live["tool prt_1"]


def test_code_at_the_end_gets_its_colours() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    record.handle(text("```python\nif x:\n    pass\n```\n"))
    follow(writer, page)
    assert "<data" not in page.open["text prt_t"]
    record.handle(ended())
    follow(writer, page)
    assert '<data value="3k' in page.open["text prt_t"]


def test_a_progress_bar_is_one_line() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    record.handle(tool_start())
    for percent in range(0, 101, 5):
        record.handle(tool_prints(f"\r{percent}% 🐧"))
        follow(writer, page)
    assert page.live["tool prt_1"] == "100% 🐧"


def test_it_says_what_the_agent_does_now() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    seen = []
    for event in (status("busy"), thought("Hm."), tool_start(), tool_runs(), text("So:")):
        record.handle(event)
        follow(writer, page)
        seen.append(page.head["status"])
    assert seen == ["working", "thinking", "preparing bash", "running bash", "writing"]


def test_the_plan_speaks_for_todo_calls() -> None:
    record, page = TurnRecord(), TurnPage()
    writer = OpWriter(record)
    record.handle(tool_start("todowrite"))
    record.handle(plan(("a", "pending")))
    record.handle(tool_done("todowrite", output="[]"))
    follow(writer, page)
    assert page.tools == {}
    assert page.todos == [{"mark": "☐", "text": "a", "status": "pending"}]
