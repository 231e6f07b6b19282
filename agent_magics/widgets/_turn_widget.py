"""The live view of a turn in a notebook: one widget, fed with numbered operations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from ..wire import AgentEvent
from ._ops import Op, OpWriter
from ._record import AskItem, TurnRecord
from ._script import STATIC, turn_script

__all__ = ["TurnWidget"]

_REPLIES = ("once", "always", "reject")
_REASON_LIMIT = 2000
_PACES = ((50, 0.04), (150, 0.08))
_STEADY = 0.12
"""Seconds between two updates: up to so many updates of a turn, and for all that follow."""


class TurnWidget(anywidget.AnyWidget):  # type: ignore[misc]  # the base is untyped
    """
    Shows one turn: transcript, plan, permission buttons, status and usage.

    `handle` takes the turn's events, `tick` sends what is due, at most 25 times a second.
    `on_reply(request_id, reply, message)` is called for a click on a button of an open request,
    once per request; anything else the front end sends is ignored. The buttons say that whoever
    waits for the click does so for `answer_within` seconds.

    `rendered` says whether a front end has shown the widget and can be talked to. A view that
    appears later (a reloaded page) is sent the whole state.
    """

    _esm = turn_script()
    _css = STATIC / "turn.css"
    layout = traitlets.Any(None).tag(sync=True)
    """Its style sheet lays it out: it needs no widget of its own for that."""

    def __init__(
        self,
        *,
        on_reply: Callable[[str, str, str | None], None],
        show_reasoning: bool = True,
        answer_within: float | None = None,
    ) -> None:
        self.record = TurnRecord(show_reasoning=show_reasoning, answer_within=answer_within)
        self.rendered = False
        self._on_reply = on_reply
        self._writer = OpWriter(self.record)
        self._number = 0
        self._updates = 0
        self._due = 0.0
        self._lock = threading.RLock()  # clicks come on the kernel's thread, events may not
        super().__init__()
        self.on_msg(self._from_front_end)

    def __repr__(self) -> str:
        return f"TurnWidget({self.record.status})"

    def handle(self, event: AgentEvent) -> None:
        """Take an event; it is drawn with the next `tick`."""
        with self._lock:
            self.record.handle(event)
            if event.type in ("permission-asked", "permission-replied", "turn-ended"):
                self.flush()  # somebody waits for these

    def note(self, text: str, kind: str = "info") -> None:
        """Add a line of our own. `kind`: info, warning or error."""
        with self._lock:
            self.record.note(text, kind)

    def add_image(self, mime: str, data: bytes, name: str) -> None:
        """Show an image that the turn made."""
        with self._lock:
            self.record.add_image(mime, data, name)

    def tick(self) -> None:
        """Send what is due."""
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Send everything now."""
        with self._lock:
            ops = self._writer.changes()
            if not ops:
                return
            self._put(ops)
            self._updates += 1
            pause = next((p for limit, p in _PACES if self._updates < limit), _STEADY)
            self._due = time.monotonic() + pause

    def reopen(self, request_id: str) -> None:
        """The click on this request did not reach the engine: its buttons work again."""
        with self._lock:
            item = self.record.items.get(f"ask {request_id}")
            if isinstance(item, AskItem) and not item.reply:
                item.taken = item.reason = ""
                self._put([{"op": "reopen", "id": request_id}])

    def _put(self, ops: list[Op], **more: Any) -> None:
        self.send({"n": self._number, "ops": ops, **more})
        self._number += 1

    def _from_front_end(self, _widget: Any, content: Any, _buffers: Any) -> None:
        self.receive(content)

    def receive(self, content: Any) -> None:
        """Take a message of a view. The kernel's own thread does it, or whoever has got one."""
        if not isinstance(content, dict):
            return
        kind = content.get("kind")
        with self._lock:
            if kind == "ready":
                self.rendered = True
            elif kind == "hello" and content.get("next") != self._number:
                self._writer = OpWriter(self.record)  # goes on from what this view is shown
                self._put(self._writer.everything(), reset=True)
            elif kind == "reply":
                self._replied(content)

    def _replied(self, content: dict[str, Any]) -> None:
        request_id, reply = content.get("id"), content.get("reply")
        item = self.record.items.get(f"ask {request_id}")
        if not isinstance(item, AskItem) or item.reply or reply not in _REPLIES:
            return
        if reply == "always" and not item.request.always:
            return
        if fresh := not item.taken:
            item.taken = str(reply)
        # The first click counts. Every one is confirmed: the page may not have heard of it.
        self._put([{"op": "taken", "id": item.request.id, "reply": item.taken}])
        if fresh:
            message = content.get("message")
            reason = message.strip()[:_REASON_LIMIT] if isinstance(message, str) else ""
            item.reason = reason
            self._on_reply(item.request.id, item.taken, reason or None)
