"""A model of the browser's half of the turn widget: what the page shows after some messages."""

from __future__ import annotations

from typing import Any

from agent_magics.widgets._visible import utf16_length


class TurnPage:
    """Follows `turn.js`: numbered messages in, the state of the page out."""

    def __init__(self) -> None:
        self.next = 0
        self.missed = False
        self.clear()

    def clear(self) -> None:
        self.texts: dict[str, str] = {}
        self.open: dict[str, str] = {}
        self.html: dict[str, str] = {}
        self.thoughts: dict[str, str] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.live: dict[str, str] = {}
        self.asks: dict[str, dict[str, Any]] = {}
        self.images: dict[str, str] = {}
        self.notes: list[str] = []
        self.todos: list[dict[str, Any]] = []
        self.head: dict[str, Any] = {}
        self.order: list[str] = []

    def receive(self, message: dict[str, Any]) -> None:
        if message.get("reset"):
            self.clear()
        elif message["n"] != self.next:
            self.missed = self.missed or message["n"] > self.next
            return
        self.next = message["n"] + 1
        self.apply(message["ops"])

    def apply(self, ops: list[dict[str, Any]]) -> None:
        for op in ops:
            getattr(self, f"_{op['op']}")(op)

    def shown(self) -> dict[str, Any]:
        """Everything a person sees, in comparable form."""
        return {
            "texts": {k: self.texts[k] + self.open[k] for k in self.texts},
            "thoughts": self.thoughts,
            "tools": self.tools,
            "live": {k: v for k, v in self.live.items() if "result" not in self.tools[k]},
            "asks": {k: _settled(ask) for k, ask in self.asks.items()},
            "images": self.images,
            "notes": self.notes,
            "todos": self.todos,
            "order": self.order,
            "head": {k: v for k, v in self.head.items() if k not in ("elapsed", "retryIn")},
        }

    def _place(self, key: str) -> None:
        if key not in self.order:
            self.order.append(key)

    def _text(self, op: dict[str, Any]) -> None:
        key = op["id"]
        self._place(key)
        if "add" in op:
            html = _slice(self.html.get(key, ""), 0, op["keep"]) + op["add"]
            done = op.get("done", 0)
            self.texts[key] = self.texts.get(key, "") + _slice(html, 0, done)
            self.html[key] = self.open[key] = _slice(html, done)
        self.texts.setdefault(key, "")
        self.open[key] = op.get("tail", self.open.get(key, "")) + op.get("more", "")

    def _think(self, op: dict[str, Any]) -> None:
        self._place(op["id"])
        self.thoughts[op["id"]] = self.thoughts.get(op["id"], "") + op["more"]

    def _tool(self, op: dict[str, Any]) -> None:
        self._place(op["id"])
        self.tools[op["id"]] = op

    def _output(self, op: dict[str, Any]) -> None:
        shown = self.live.get(op["id"], "")
        end = utf16_length(shown) - op["back"]
        self.live[op["id"]] = _slice(shown, 0, end) + op["more"]

    def _todos(self, op: dict[str, Any]) -> None:
        self._place("todos")
        self.todos = op["todos"]

    def _ask(self, op: dict[str, Any]) -> None:
        self._place(op["id"])
        self.asks[op["id"]] = {**op, "taken": None, "answer": None}

    def _taken(self, op: dict[str, Any]) -> None:
        self.asks[op["id"]]["taken"] = op["reply"]

    def _answered(self, op: dict[str, Any]) -> None:
        self.asks[op["id"]]["answer"] = op["text"]

    def _reopen(self, op: dict[str, Any]) -> None:
        self.asks[op["id"]]["taken"] = None

    def _image(self, op: dict[str, Any]) -> None:
        if op["id"] in self.order:
            self.order.remove(op["id"])
        self.order.append(op["id"])
        self.images[op["id"]] = op["src"]

    def _note(self, op: dict[str, Any]) -> None:
        self.notes.append(op["text"])

    def _head(self, op: dict[str, Any]) -> None:
        self.head = op

    def _facts(self, op: dict[str, Any]) -> None:
        self.head = {**self.head, "facts": op["facts"]}


def _slice(text: str, start: int, end: int | None = None) -> str:
    """`text.slice(start, end)` as JavaScript has it."""
    units = text.encode("utf-16-le", "surrogatepass")
    cut = units[2 * start : None if end is None else 2 * end]
    return cut.decode("utf-16-le", "surrogatepass")


def _settled(ask: dict[str, Any]) -> dict[str, Any]:
    """Once it is answered it does not matter on which page the click was."""
    return {**ask, "taken": None} if ask["answer"] else ask
