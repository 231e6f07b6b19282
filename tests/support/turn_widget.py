"""The browser's half of the turn widget, as far as the kernel sees it."""

from __future__ import annotations

from typing import Any

from tests.support.kernel import FrontEnd


class TurnCard:
    """The live widget of one turn: `shows()` it renders, `reply()` clicks a permission button."""

    def __init__(self, front: FrontEnd, *, known: frozenset[str] = frozenset()) -> None:
        self.front = front
        self.comm_id: str = front.until(lambda: self._find(known), what="the turn's widget")

    def _find(self, known: frozenset[str]) -> str | None:
        found = (
            comm_id
            for comm_id, state in self.front.comms.items()
            if "_esm" in state and comm_id not in known
        )
        return next(found, None)

    def messages(self) -> list[dict[str, Any]]:
        """The custom messages that the widget has sent to the browser."""
        return [
            m["content"]["data"].get("content")
            for m in self.front.messages
            if m["msg_type"] == "comm_msg"
            and m["content"]["comm_id"] == self.comm_id
            and m["content"]["data"].get("method") == "custom"
        ]

    def shows(self) -> None:
        """Tell the kernel that the widget is on the screen."""
        self.front.custom(self.comm_id, {"kind": "ready"})

    def operations(self, kind: str) -> list[dict[str, Any]]:
        """The drawing operations of this kind that have been sent."""
        ops = (op for message in self.messages() for op in message["ops"])
        return [op for op in ops if op["op"] == kind]

    def asked(self) -> str:
        """Wait until the agent asks; the request's id."""
        ask = self.front.until(lambda: self.operations("ask"), what="a permission card")[-1]
        return str(ask["id"])

    def reply(self, request_id: str, reply: str) -> str:
        return self.front.custom(
            self.comm_id, {"kind": "reply", "id": request_id, "reply": reply, "message": None}
        )
