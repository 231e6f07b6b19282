"""
What users hold: frozen dataclasses with snake_case names, built from the wire's JSON.

Every `from_json` tolerates missing optional keys and ignores unknown ones, so an older client
reads a newer server. A missing *required* key raises `KeyError`; the client turns that into its
own `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._json import MessageInfoJSON, PartJSON

__all__ = [
    "FileEntry",
    "FilePart",
    "Message",
    "MessageInfo",
    "Part",
    "PermissionRequest",
    "ReasoningPart",
    "SendResult",
    "SessionInfo",
    "SessionMetrics",
    "ShellResult",
    "StepFinishPart",
    "StepStartPart",
    "TextPart",
    "Todo",
    "Tokens",
    "ToolPart",
    "ToolState",
    "UnknownPart",
    "WireError",
    "part_from_json",
]

SessionStatusName = Literal["idle", "busy", "compacting", "error"]


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
class Todo:
    """`status`: pending, in_progress, completed or cancelled. `priority`: high, medium or low."""

    content: str
    status: str = "pending"
    priority: str = "medium"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Todo:
        return cls(
            str(data["content"]),
            str(data.get("status") or "pending"),
            str(data.get("priority") or "medium"),
        )


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
    """The end of one request to the model. `cost` in US dollars, `None` when unknown."""

    id: str
    message_id: str
    session_id: str
    reason: str
    tokens: Tokens
    cost: float | None = None
    type: Literal["step-finish"] = "step-finish"


@dataclass(frozen=True, slots=True)
class UnknownPart:
    """A part of a type this version does not know; `data` is its JSON."""

    id: str
    message_id: str
    session_id: str
    type: str
    data: Mapping[str, Any]


Part = TextPart | ReasoningPart | ToolPart | FilePart | StepStartPart | StepFinishPart | UnknownPart


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
        tokens = Tokens.from_json(raw.get("tokens") or {})
        return StepFinishPart(*ids, str(raw.get("reason") or "unknown"), tokens, raw.get("cost"))
    return UnknownPart(*ids, kind, raw)


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """
    The head of a message. `model` is `provider/model-id`, empty when unknown.

    An assistant message has `parent_id`, the id of the user message that it answers.
    `cost` in US dollars, `None` when the price is unknown.
    """

    id: str
    session_id: str
    role: str
    parent_id: str | None = None
    agent: str = ""
    model: str = ""
    tokens: Tokens = Tokens()
    cost: float | None = None
    finish: str = ""
    error: WireError | None = None
    time_created: int = 0
    time_completed: int | None = None

    @classmethod
    def from_json(cls, data: MessageInfoJSON | Mapping[str, Any]) -> MessageInfo:
        raw: Mapping[str, Any] = data
        ref = raw.get("model") or raw
        provider, model = ref.get("providerID"), ref.get("modelID")
        time = raw.get("time") or {}
        return cls(
            id=str(raw["id"]),
            session_id=str(raw["sessionID"]),
            role=str(raw["role"]),
            parent_id=raw.get("parentID"),
            agent=str(raw.get("agent") or ""),
            model=f"{provider}/{model}" if provider and model else "",
            tokens=Tokens.from_json(raw.get("tokens") or {}),
            cost=raw.get("cost"),
            finish=str(raw.get("finish") or ""),
            error=WireError.from_json(raw["error"]) if raw.get("error") else None,
            time_created=int(time.get("created", 0)),
            time_completed=time.get("completed"),
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the history: its `info` and its `parts` in order."""

    info: MessageInfo
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined; what a person reads."""
        return "".join(p.text for p in self.parts if isinstance(p, TextPart) and not p.synthetic)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        return cls(
            MessageInfo.from_json(data["info"]),
            tuple(part_from_json(p) for p in data.get("parts") or ()),
        )


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """
    A session's metadata. Times are milliseconds since the epoch.

    `status`: idle, busy, compacting or error. `sandbox` names the container provider;
    `isolated` is False only for the explicit `local` provider.
    """

    id: str
    title: str
    status: str = "idle"
    parent_id: str | None = None
    time_created: int = 0
    time_updated: int = 0
    archived: bool = False
    model: str = ""
    sandbox: str = ""
    isolated: bool = True

    @classmethod
    def from_json(cls, data: Mapping[str, Any], status: str = "idle") -> SessionInfo:
        time = data.get("time") or {}
        model = data.get("model") or {}
        sandbox = data.get("sandbox") or {}
        provider, name = model.get("providerID"), model.get("id")
        return cls(
            id=str(data["id"]),
            title=str(data.get("title") or ""),
            status=status,
            parent_id=data.get("parentID"),
            time_created=int(time.get("created", 0)),
            time_updated=int(time.get("updated", 0)),
            archived=bool(time.get("archived")),
            model=f"{provider}/{name}" if provider and name else "",
            sandbox=str(sandbox.get("provider") or ""),
            isolated=bool(sandbox.get("isolated", True)),
        )


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """
    The agent asks before it uses a tool.

    `permission` is the tool's kind, `patterns` what it wants now, `always` the patterns that an
    "always" reply would allow for the rest of the session, `metadata` the tool's whole input.
    """

    id: str
    session_id: str
    permission: str
    patterns: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    message_id: str = ""
    call_id: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PermissionRequest:
        tool = data.get("tool") or {}
        return cls(
            id=str(data["id"]),
            session_id=str(data["sessionID"]),
            permission=str(data.get("permission") or ""),
            patterns=tuple(str(p) for p in data.get("patterns") or ()),
            always=tuple(str(p) for p in data.get("always") or ()),
            metadata=data.get("metadata") or {},
            message_id=str(tool.get("messageID") or ""),
            call_id=str(tool.get("callID") or ""),
        )


@dataclass(frozen=True, slots=True)
class SessionMetrics:
    """
    Usage of a session. `cost` in US dollars, `None` when a price is unknown.

    `context_used`/`context_limit`: tokens in the model's context window, `None` when unknown.
    """

    session_id: str
    messages: int = 0
    steps: int = 0
    tool_calls: int = 0
    tool_usage: Mapping[str, int] = field(default_factory=dict)
    tokens: Tokens = Tokens()
    cost: float | None = None
    context_used: int | None = None
    context_limit: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SessionMetrics:
        context = data.get("context") or {}
        return cls(
            session_id=str(data["sessionID"]),
            messages=int(data.get("messages", 0)),
            steps=int(data.get("steps", 0)),
            tool_calls=int(data.get("toolCalls", 0)),
            tool_usage=data.get("toolUsage") or {},
            tokens=Tokens.from_json(data.get("tokens") or {}),
            cost=data.get("cost"),
            context_used=context.get("used"),
            context_limit=context.get("limit"),
        )


@dataclass(frozen=True, slots=True)
class ShellResult:
    """
    What a command in the container did.

    `exit_code` is 124 after a timeout and 128+n after signal n; `truncated` says that output
    over the cap was dropped from the middle.
    """

    stdout: str
    stderr: str
    exit_code: int
    timed_out: bool = False
    truncated: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ShellResult:
        return cls(
            str(data.get("stdout") or ""),
            str(data.get("stderr") or ""),
            int(data["exitCode"]),
            bool(data.get("timedOut")),
            bool(data.get("truncated")),
        )


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A directory entry. `kind`: file, directory, link or other. `size` in bytes, `mtime` in ms."""

    path: str
    kind: str
    size: int = 0
    mtime: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileEntry:
        return cls(
            str(data["path"]),
            str(data["kind"]),
            int(data.get("size", 0)),
            int(data.get("mtime", 0)),
        )


@dataclass(frozen=True, slots=True)
class SendResult:
    """
    What one turn brought.

    `text` is the agent's text, `parts` everything it did, in order. `error` is set when the turn
    failed or was aborted; what had arrived until then is kept.
    """

    message_id: str
    text: str
    parts: tuple[Part, ...] = ()
    tokens: Tokens = Tokens()
    cost: float | None = None
    error: WireError | None = None
