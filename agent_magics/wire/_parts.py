"""
The parts of a message: what the agent said, thought, did and made, with token counts and errors.

As in `_objects`, every `from_json` tolerates missing optional keys and ignores unknown ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._json import PartJSON

__all__ = [
    "CompactionPart",
    "FilePart",
    "Part",
    "ReasoningPart",
    "StepFinishPart",
    "StepStartPart",
    "TextPart",
    "Tokens",
    "ToolPart",
    "ToolState",
    "UnknownPart",
    "WireError",
    "part_from_json",
]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts; `input` excludes what was read from or written to the provider's cache."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        """All tokens that were billed in some way. Reasoning is part of `output`."""
        return self.input + self.output + self.cache_read + self.cache_write

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tokens:
        cache = data.get("cache") or {}
        return cls(
            int(data.get("input", 0)),
            int(data.get("output", 0)),
            int(data.get("reasoning", 0)),
            int(cache.get("read", 0)),
            int(cache.get("write", 0)),
        )


@dataclass(frozen=True, slots=True)
class WireError:
    """An error as the server states it: `name` for programs, `message` for people."""

    name: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WireError:
        detail = data.get("data") or {}
        name = str(data.get("name") or "UnknownError")
        return cls(name, str(detail.get("message") or name), detail)


@dataclass(frozen=True, slots=True)
class TextPart:
    id: str
    message_id: str
    session_id: str
    text: str
    synthetic: bool = False
    closed: bool = True
    """False while the text is still being streamed."""
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    id: str
    message_id: str
    session_id: str
    text: str
    closed: bool = True
    type: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True, slots=True)
class ToolState:
    """
    `status`: pending (arguments are arriving), running, completed or error.

    `input` holds the parsed arguments, `raw` their text while they stream. Times are
    milliseconds since the epoch, `None` when not reached.
    """

    status: str
    input: Mapping[str, Any] = field(default_factory=dict)
    raw: str = ""
    title: str = ""
    output: str = ""
    error: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    time_start: int | None = None
    time_end: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolState:
        time = data.get("time") or {}
        return cls(
            status=str(data["status"]),
            input=data.get("input") or {},
            raw=str(data.get("raw") or ""),
            title=str(data.get("title") or ""),
            output=str(data.get("output") or ""),
            error=str(data.get("error") or ""),
            metadata=data.get("metadata") or {},
            time_start=time.get("start"),
            time_end=time.get("end"),
        )


@dataclass(frozen=True, slots=True)
class ToolPart:
    id: str
    message_id: str
    session_id: str
    tool: str
    call_id: str
    state: ToolState
    type: Literal["tool"] = "tool"

    @property
    def is_shown_by_todos(self) -> bool:
        """Whether the todo list itself shows what this call did: one about it, not failed."""
        return self.tool in ("todoread", "todowrite") and self.state.status != "error"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a message. `url` is a `data:` URL or `file:///workspace/...` in the container."""

    id: str
    message_id: str
    session_id: str
    mime: str
    url: str
    filename: str = ""
    type: Literal["file"] = "file"

    @property
    def path(self) -> str | None:
        """The path in the container, `None` for a `data:` URL."""
        return self.url.removeprefix("file://") if self.url.startswith("file://") else None


@dataclass(frozen=True, slots=True)
class StepStartPart:
    id: str
    message_id: str
    session_id: str
    type: Literal["step-start"] = "step-start"


@dataclass(frozen=True, slots=True)
class StepFinishPart:
    """
    The end of one request to the model. `cost` in US dollars, `None` when unknown.

    `context_used` of the `context_limit` tokens of the model's window are taken; `None`: unknown.
    """

    id: str
    message_id: str
    session_id: str
    reason: str
    tokens: Tokens
    cost: float | None = None
    type: Literal["step-finish"] = "step-finish"
    context_used: int | None = None
    context_limit: int | None = None


@dataclass(frozen=True, slots=True)
class CompactionPart:
    """Asks for a summary of the conversation; `auto` when the context window was getting full."""

    id: str
    message_id: str
    session_id: str
    auto: bool = False
    type: Literal["compaction"] = "compaction"


@dataclass(frozen=True, slots=True)
class UnknownPart:
    """A part of a type this version does not know; `data` is its JSON."""

    id: str
    message_id: str
    session_id: str
    type: str
    data: Mapping[str, Any]


Part = (
    TextPart
    | ReasoningPart
    | ToolPart
    | FilePart
    | StepStartPart
    | StepFinishPart
    | CompactionPart
    | UnknownPart
)


def part_from_json(data: PartJSON | Mapping[str, Any]) -> Part:
    """Build the part dataclass that `data["type"]` names."""
    raw: Mapping[str, Any] = data
    ids = (str(raw["id"]), str(raw["messageID"]), str(raw["sessionID"]))
    kind = str(raw["type"])
    if kind in ("text", "reasoning"):
        time = raw.get("time")
        closed = time is None or "end" in time
        text = str(raw.get("text") or "")
        if kind == "text":
            return TextPart(*ids, text, bool(raw.get("synthetic")), closed)
        return ReasoningPart(*ids, text, closed)
    if kind == "tool":
        return ToolPart(
            *ids, str(raw["tool"]), str(raw["callID"]), ToolState.from_json(raw["state"])
        )
    if kind == "file":
        return FilePart(*ids, str(raw["mime"]), str(raw["url"]), str(raw.get("filename") or ""))
    if kind == "step-start":
        return StepStartPart(*ids)
    if kind == "step-finish":
        tokens, context = Tokens.from_json(raw.get("tokens") or {}), raw.get("context") or {}
        return StepFinishPart(
            *ids,
            str(raw.get("reason") or "unknown"),
            tokens,
            raw.get("cost"),
            context_used=context.get("used"),
            context_limit=context.get("limit"),
        )
    if kind == "compaction":
        return CompactionPart(*ids, bool(raw.get("auto")))
    return UnknownPart(*ids, kind, raw)
