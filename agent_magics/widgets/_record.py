"""
What happened in one turn: plain state, built from `AgentEvent`s, without any output.

The live widget and the static record in the saved notebook both draw from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..wire import (
    AgentEvent,
    PermissionRequest,
    SendResult,
    StatusChanged,
    Todo,
    Tokens,
    ToolPart,
)
from ._advice import error_words

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MIME",
    "AskItem",
    "ImageItem",
    "Item",
    "NoteItem",
    "TextItem",
    "ThinkItem",
    "TodosItem",
    "ToolItem",
    "TurnRecord",
]

MIME = "application/vnd.agent-magics.turn+json"

SAID_NOTHING = "The agent ended its turn without a word."
_LIVE_KEPT = 1_000_000
"""Characters of a call's live output that are kept."""


@dataclass(eq=False)
class _Growing:
    """Text that arrives in pieces."""

    key: str
    chunks: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.chunks)


class TextItem(_Growing):
    """Text of the agent, in Markdown."""


class ThinkItem(_Growing):
    """Reasoning of the model."""


@dataclass(eq=False)
class ToolItem:
    """A tool call and, while it runs, its live output; `dropped` characters of that are gone."""

    key: str
    part: ToolPart
    live: list[str] = field(default_factory=list)
    live_length: int = 0
    dropped: int = 0

    @property
    def quiet(self) -> bool:
        """The todo list itself shows what this call did."""
        return self.part.is_shown_by_todos

    def append(self, text: str) -> None:
        """More live output."""
        self.live.append(text)
        self.live_length += len(text)
        if self.live_length > 2 * _LIVE_KEPT:
            kept = "".join(self.live)[-_LIVE_KEPT:]
            self.dropped += self.live_length - len(kept)
            self.live, self.live_length = [kept], len(kept)

    @property
    def output(self) -> str:
        """
        The result, or what the call has printed so far.

        The agent is told the beginning and the end of a long output; whoever followed it live
        has more of it.
        """
        output = self.part.state.output
        if self.part.state.metadata.get("truncated") is True and self.live_length > len(output):
            return "".join(self.live)
        return output or "".join(self.live)


@dataclass(eq=False)
class AskItem:
    """
    A permission request; `reply` is empty while it is open.

    `taken` is the answer that was clicked and is on its way to the engine, `reason` what was said
    with it. `asked` is a time of `time.monotonic()`.
    """

    key: str
    request: PermissionRequest
    reply: str = ""
    taken: str = ""
    reason: str = ""
    asked: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class TodosItem:
    key: str
    todos: tuple[Todo, ...] = ()


@dataclass(eq=False)
class ImageItem:
    key: str
    mime: str
    data: bytes
    name: str


@dataclass(eq=False)
class NoteItem:
    """A line of our own. `kind`: info, warning or error."""

    key: str
    text: str
    kind: str = "info"


Item = TextItem | ThinkItem | ToolItem | AskItem | TodosItem | ImageItem | NoteItem


class TurnRecord:
    """
    One turn. `handle` takes every event in order; nothing in it is ever interpreted as HTML.

    `items` is the transcript in order, the todo list at the place where it first appeared.
    `dirty` collects the keys of items that changed; a live view empties it. `answer_within` are
    the seconds after which a request that nobody answers is rejected, `None` for never.
    """

    def __init__(self, *, show_reasoning: bool = True, answer_within: float | None = None) -> None:
        self.show_reasoning = show_reasoning
        self.answer_within = answer_within
        self.items: dict[str, Item] = {}
        self.dirty: dict[str, None] = {}
        self.status = "connecting"
        self.status_message = ""
        self.retry_at: int | None = None
        self.outcome = ""
        self.result: SendResult | None = None
        self.session_id = ""
        self.model = ""
        self.sandbox = ""
        self.isolated = True
        self.tokens = Tokens()
        self.cost: float | None = None
        self.steps = 0
        self.context_used: int | None = None
        self.context_limit: int | None = None
        self.streamed = 0
        """Characters of the model since its last finished step."""
        self.attempt = 0
        self.started = time.time()
        self.heard = time.monotonic()
        """When the last event came."""
        self.ended: float | None = None

    # -- what happens

    def describe(self, session_id: str, model: str, sandbox: str, isolated: bool) -> None:
        """Say where the turn runs; shown in the head line."""
        self.session_id, self.model = session_id, model
        self.sandbox, self.isolated = sandbox, isolated

    def handle(self, event: AgentEvent) -> None:
        """Take the next event of the turn."""
        self.heard = time.monotonic()
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event)

    def note(self, text: str, kind: str = "info") -> None:
        """Add a line of our own. `kind`: info, warning or error."""
        self._add(NoteItem(f"note{len(self.items)}", text, kind))

    def add_image(self, mime: str, data: bytes, name: str) -> None:
        """Add an image that the turn made; a newer one of the same name takes its place."""
        key = f"image {name}"
        self.items.pop(key, None)
        self._add(ImageItem(key, mime, data, name))

    @property
    def open_asks(self) -> list[AskItem]:
        """Permission requests that nobody has answered yet."""
        return [i for i in self.items.values() if isinstance(i, AskItem) and not i.reply]

    @property
    def silence(self) -> int:
        """
        Seconds, in steps of 10, for which the model has not answered; 0 while nobody waits for it.
        """
        if self.outcome or self.status != "busy" or self.open_asks:
            return 0
        for item in self.items.values():
            if isinstance(item, ToolItem) and item.part.state.status == "running":
                return 0
        return int(time.monotonic() - self.heard) // 10 * 10

    @property
    def elapsed(self) -> float:
        """Seconds that the turn has run."""
        return (self.ended or time.time()) - self.started

    def took(self, seconds: float) -> None:
        """It took so long, whatever the clock says."""
        self.ended = self.started + seconds

    # -- what it looks like without a front end

    def html(self) -> str:
        """Safe HTML of the whole turn, complete in itself."""
        from ._static import record_html

        return record_html(self)

    def text(self) -> str:
        """The turn as plain text."""
        from ._static import record_text

        return record_text(self)

    def json(self) -> dict[str, Any]:
        """The turn's facts for programs: ids, model, outcome, usage. No contents, no secrets."""
        from ._static import record_json

        return record_json(self)

    # -- events

    def _add(self, item: Item) -> None:
        self.items[item.key] = item
        self.dirty[item.key] = None

    def _turn_started(self, event: Any) -> None:
        self.model = event.model or self.model

    def _text(self, event: Any) -> None:
        self._grow(TextItem, f"text {event.part_id}", event.delta)

    def _reasoning(self, event: Any) -> None:
        self._grow(ThinkItem, f"think {event.part_id}", event.delta)

    def _grow(self, kind: type[TextItem] | type[ThinkItem], key: str, delta: str) -> None:
        item = self.items.get(key)
        if not isinstance(item, kind):
            item = kind(key)
            self._add(item)
        item.chunks.append(delta)
        self.streamed += len(delta)
        self.dirty[key] = None

    def _tool(self, event: Any) -> None:
        part: ToolPart = event.part
        self.session_id = self.session_id or part.session_id
        key = f"tool {part.id}"
        item = self.items.get(key)
        if isinstance(item, ToolItem):
            item.part = part
        else:
            item = ToolItem(key, part)
            self._add(item)
        if event.type == "tool-update" and event.output:
            item.append(event.output)
        self.dirty[key] = None

    def _asked(self, event: Any) -> None:
        self._add(AskItem(f"ask {event.request.id}", event.request))

    def _replied(self, event: Any) -> None:
        item = self.items.get(f"ask {event.request_id}")
        if isinstance(item, AskItem):
            item.reply = event.reply
            self.dirty[item.key] = None

    def _todos(self, event: Any) -> None:
        item = self.items.get("todos")
        if isinstance(item, TodosItem):
            item.todos = event.todos
            self.dirty["todos"] = None
        else:
            self._add(TodosItem("todos", event.todos))

    def _step(self, event: Any) -> None:
        self.steps += 1
        self.streamed = 0
        self.tokens += event.part.tokens
        self.context_used = event.part.context_used
        self.context_limit = event.part.context_limit
        if event.part.cost is not None:
            self.cost = (self.cost or 0.0) + event.part.cost

    def _status(self, event: StatusChanged) -> None:
        self.status, self.status_message = event.status, event.message
        self.retry_at, self.attempt = event.next, event.attempt

    def _ended(self, event: Any) -> None:
        self.took(max(self.elapsed, event.result.seconds or 0))  # it may have begun before us
        self.outcome, self.result = event.outcome, event.result
        self.status, self.status_message = event.outcome, ""
        self.streamed = 0
        self.tokens, self.cost = event.result.tokens, event.result.cost
        for ask in self.open_asks:  # whoever should have closed them is gone
            ask.reply = "cancelled"
            self.dirty[ask.key] = None
        if event.result.error is not None:
            kind = "warning" if event.outcome == "aborted" else "error"
            self.note(error_words(event.result.error), kind)
        elif not any(isinstance(item, TextItem) for item in self.items.values()):
            self.note(SAID_NOTHING)


_HANDLERS: Mapping[str, Callable[[TurnRecord, Any], None]] = {
    "turn-started": TurnRecord._turn_started,
    "text-delta": TurnRecord._text,
    "reasoning-delta": TurnRecord._reasoning,
    "tool-start": TurnRecord._tool,
    "tool-update": TurnRecord._tool,
    "tool-complete": TurnRecord._tool,
    "tool-error": TurnRecord._tool,
    "permission-asked": TurnRecord._asked,
    "permission-replied": TurnRecord._replied,
    "todos-updated": TurnRecord._todos,
    "step-finished": TurnRecord._step,
    "status": TurnRecord._status,
    "turn-ended": TurnRecord._ended,
}
