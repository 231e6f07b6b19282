"""The widget and its two-way talk with the front end, over a comm that only writes down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comm
import pytest
from comm.base_comm import BaseComm

from agent_magics.widgets import TurnWidget
from tests.support.agent_events import asked, ended, replied, text, tool_start
from tests.support.turn_page import TurnPage


class WrittenComm(BaseComm):
    sent: list[dict[str, Any]]

    def publish_msg(self, msg_type: str, data: Any = None, *args: Any, **rest: Any) -> None:
        if not hasattr(self, "sent"):
            self.sent = []
        self.sent.append({"type": msg_type, "data": data})


@pytest.fixture
def replies() -> list[tuple[str, str, str | None]]:
    return []


@pytest.fixture
def widget(
    monkeypatch: pytest.MonkeyPatch, replies: list[tuple[str, str, str | None]]
) -> Iterator[TurnWidget]:
    monkeypatch.setattr(comm, "create_comm", WrittenComm)
    widget = TurnWidget(on_reply=lambda *reply: replies.append(reply))
    yield widget
    widget.close()


def messages(widget: TurnWidget) -> list[dict[str, Any]]:
    return [
        m["data"]["content"]
        for m in widget.comm.sent
        if m["type"] == "comm_msg" and m["data"].get("method") == "custom"
    ]


def page_of(widget: TurnWidget) -> TurnPage:
    page = TurnPage()
    for message in messages(widget):
        page.receive(message)
    return page


def click(widget: TurnWidget, **content: Any) -> None:
    widget._handle_custom_msg(content, [])


def test_one_widget_is_two_comms_at_most(widget: TurnWidget) -> None:
    opened = [m for m in widget.comm.sent if m["type"] == "comm_open"]
    assert len(opened) == 1
    assert repr(widget) == "TurnWidget(connecting)"


def test_a_permission_is_sent_at_once_and_answered_once(
    widget: TurnWidget, replies: list[tuple[str, str, str | None]]
) -> None:
    widget.handle(text("hello"))
    widget.handle(asked())
    page = page_of(widget)
    assert page.asks["per_1"]["always"] == 'Always allow "ls *" in this session'
    assert page.head["state"] == "waiting"
    click(widget, kind="reply", id="per_1", reply="reject", message=" not now ")
    click(widget, kind="reply", id="per_1", reply="once")
    assert replies == [("per_1", "reject", "not now")]
    widget.handle(replied("reject"))
    assert page_of(widget).asks["per_1"]["answer"] == "rejected: not now"


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "reply", "id": "per_9", "reply": "once"},
        {"kind": "reply", "id": "per_1", "reply": "forever"},
        {"kind": "reply", "id": ["per_1"], "reply": "once"},
        {"kind": "reply", "reply": "once"},
        {"kind": "reply", "id": "per_1", "reply": "always"},
        {"kind": "other"},
        {},
    ],
)
def test_what_is_no_answer_is_ignored(
    widget: TurnWidget, replies: list[Any], content: dict[str, Any]
) -> None:
    widget.handle(asked(always=()))
    click(widget, **content)
    widget._handle_custom_msg("text", [])
    assert replies == []


def test_a_settled_request_cannot_be_clicked(widget: TurnWidget, replies: list[Any]) -> None:
    widget.handle(asked())
    widget.handle(replied())
    click(widget, kind="reply", id="per_1", reply="once")
    widget.handle(asked("per_2"))
    widget.handle(ended("aborted", "stopped"))
    click(widget, kind="reply", id="per_2", reply="once")
    assert replies == []


def test_a_lost_answer_can_be_given_again(widget: TurnWidget, replies: list[Any]) -> None:
    widget.handle(asked())
    click(widget, kind="reply", id="per_1", reply="once")
    widget.reopen("per_1")
    click(widget, kind="reply", id="per_1", reply="always")
    assert [reply for _, reply, _ in replies] == ["once", "always"]


def test_a_click_is_confirmed_and_stays_so_on_a_reloaded_page(
    widget: TurnWidget, replies: list[Any]
) -> None:
    widget.handle(asked())
    click(widget, kind="reply", id="per_1", reply="once")
    assert messages(widget)[-1]["ops"] == [{"op": "taken", "id": "per_1", "reply": "once"}]
    click(widget, kind="reply", id="per_1", reply="reject")  # its confirmation got lost
    assert messages(widget)[-1]["ops"] == [{"op": "taken", "id": "per_1", "reply": "once"}]
    assert len(replies) == 1
    click(widget, kind="hello", next=0)
    assert page_of(widget).asks["per_1"]["taken"] == "once"
    widget.reopen("per_1")
    assert page_of(widget).asks["per_1"]["taken"] is None
    widget.handle(replied())
    before = len(messages(widget))
    widget.reopen("per_1")  # too late: it is settled
    assert len(messages(widget)) == before


def test_handshake_and_resync(widget: TurnWidget) -> None:
    assert not widget.rendered
    click(widget, kind="ready")
    assert widget.rendered
    widget.handle(text("one\n\ntwo"))
    widget.handle(tool_start())
    widget.handle(asked())
    sent = len(messages(widget))
    click(widget, kind="hello", next=sent)
    assert len(messages(widget)) == sent  # it has everything
    click(widget, kind="hello", next=0)
    reloaded = TurnPage()
    (snapshot,) = messages(widget)[sent:]
    reloaded.receive(snapshot)
    assert snapshot["reset"]
    assert reloaded.shown() == page_of(widget).shown()
    assert reloaded.asks["per_1"]["answer"] is None
    widget.handle(replied())
    reloaded.receive(messages(widget)[-1])
    assert reloaded.asks["per_1"]["answer"] == "allowed once"


def test_ticks_are_paced(widget: TurnWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent_magics.widgets import _turn_widget

    now = 100.0
    monkeypatch.setattr(_turn_widget.time, "monotonic", lambda: now)
    updates = 0
    for _ in range(1000):  # ten seconds
        now += 0.01
        before = len(messages(widget))
        widget.handle(text("word "))
        widget.tick()
        updates += len(messages(widget)) - before
    assert 100 <= updates <= 250
    assert messages(widget)[0]["n"] == 0
    assert [m["n"] for m in messages(widget)] == list(range(len(messages(widget))))


def test_images_and_notes_reach_the_page(widget: TurnWidget) -> None:
    widget.add_image("image/svg+xml", b"<svg onload='x()'/>", "a.svg")
    widget.note("careful", "warning")
    widget.flush()
    page = page_of(widget)
    assert page.images["image a.svg"].startswith("data:image/svg+xml;base64,")
    assert page.notes == ["careful"]
