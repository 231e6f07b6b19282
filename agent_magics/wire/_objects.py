"""
What users hold: frozen dataclasses with snake_case names, built from the wire's JSON.

Every `from_json` tolerates missing optional keys and ignores unknown ones, so an older client
reads a newer server. A missing *required* key raises `KeyError`; the client turns that into its
own `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._json import MessageInfoJSON
from ._parts import Part, TextPart, Tokens, WireError, part_from_json

__all__ = [
    "FileEntry",
    "Message",
    "MessageInfo",
    "PermissionRequest",
    "SendResult",
    "SessionInfo",
    "SessionMetrics",
    "ShellResult",
    "Todo",
]


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
class MessageInfo:
    """
    The head of a message. `model` is `provider/model-id`, empty when unknown.

    An assistant message has `parent_id`, the id of the user message that it answers; `summary`
    says that it is the summary which the model sees in place of all messages before it.
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
    summary: bool = False

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
            time_completed=None if (done := time.get("completed")) is None else int(done),
            # A user message of opencode has an object of this name, about something else.
            summary=raw.get("summary") is True,
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

    `status`: idle, busy, compacting, or error: nothing runs, and the last turn failed with `error`.
    An abort is no failure; the next prompt clears it. `sandbox` names the container provider;
    `isolated` is False only for the explicit `local` provider. `network` are the hosts that
    commands reach without asking, beside those of the server's configuration; None: they reach
    nothing. `limits` says what the container may use: bytes, seconds and counts, `None` for no
    limit.
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
    agent: str = ""
    network: tuple[str, ...] | None = None
    error: WireError | None = None
    limits: Mapping[str, int | float | None] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], status: str = "idle") -> SessionInfo:
        """`status` is what the session does now; idle when it is not known to do anything."""
        failed = status == "idle" and bool(data.get("error"))
        time = data.get("time") or {}
        model = data.get("model") or {}
        sandbox = data.get("sandbox") or {}
        network = data.get("network")
        provider, name = model.get("providerID"), model.get("id")
        return cls(
            id=str(data["id"]),
            title=str(data.get("title") or ""),
            status="error" if failed else status,
            parent_id=data.get("parentID"),
            time_created=int(time.get("created", 0)),
            time_updated=int(time.get("updated", 0)),
            archived=bool(time.get("archived")),
            model=f"{provider}/{name}" if provider and name else "",
            sandbox=str(sandbox.get("provider") or ""),
            isolated=bool(sandbox.get("isolated", True)),
            agent=str(data.get("agent") or ""),
            network=None if network is None else tuple(network.get("allow") or ()),
            error=WireError.from_json(data["error"]) if failed else None,
            limits=sandbox.get("limits") or {},
        )


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """
    The agent asks before it uses a tool.

    `permission` is the tool's kind, `patterns` what it wants now, `always` the patterns that an
    "always" reply would allow for the rest of the session, `metadata` the tool's whole input.
    `agent` names who asks. For a sub-agent `parent_id` is the session that waits for it and
    `session_title` says what it works on. `reason` is a sentence that says why it is asked, where
    the call alone does not show it; else "".
    """

    id: str
    session_id: str
    permission: str
    patterns: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    message_id: str = ""
    call_id: str = ""
    agent: str = ""
    parent_id: str | None = None
    session_title: str = ""
    reason: str = ""

    @property
    def asker(self) -> str:
        """Who asks, for people: "the agent", or which sub-agent and what it works on."""
        if self.parent_id is None:
            return "the agent"
        work = self.session_title.removesuffix(f" (@{self.agent} subagent)")
        return f"the sub-agent {self.agent}" + (f" ({work})" if work else "")

    @property
    def asker_capitalized(self) -> str:
        """`asker` at the beginning of a sentence."""
        return self.asker[0].upper() + self.asker[1:]

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
            agent=str(data.get("agent") or ""),
            parent_id=data.get("parentID"),
            session_title=str(data.get("sessionTitle") or ""),
            reason=str(data.get("reason") or ""),
        )


@dataclass(frozen=True, slots=True)
class SessionMetrics:
    """
    Usage of a session. `cost` in US dollars, `None` when a price is unknown.

    `context_used`/`context_limit`: tokens in the model's context window, `None` when unknown.
    All counters are the session's own; those of its sub-agents' sessions are in `children`, and
    `total_tokens` and `total_cost` take everything together. What was spent stays spent: a revert
    changes `messages` and `context_used` only, its sub-agents go on counting, and those whose
    sessions were deleted stand in a last child together, whose `session_id` is empty.
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
    title: str = ""
    agent: str = ""
    children: tuple[SessionMetrics, ...] = ()

    @property
    def total_tokens(self) -> Tokens:
        """The session's and its sub-agents'."""
        return sum((child.tokens for child in self.children), self.tokens)

    @property
    def total_cost(self) -> float | None:
        """The session's and its sub-agents', in US dollars; `None` when a price is unknown."""
        costs = [self.cost, *(child.cost for child in self.children)]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

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
            title=str(data.get("title") or ""),
            agent=str(data.get("agent") or ""),
            children=tuple(cls.from_json(child) for child in data.get("children") or ()),
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

    `message_id` is the id of the agent's last message; that of the prompt when the turn ended
    before there was one.
    `text` is the agent's text, `parts` everything it did, in order. `error` is set when the turn
    failed or was aborted; what had arrived until then is kept. `seconds` is how long the turn ran,
    from its prompt to the end of its last message by the server's clock, if that is known.

    `finish_reason` is why the model stopped: "stop" after a whole reply, "length" when the token
    limit of one reply cut it off, "content-filter" when the provider refused or cut it,
    "context-window" when the window was full, "error" when the turn failed, "other" for a reason
    of the provider's own; empty when the server did not say. After all but "stop" there is an
    `error`, unless a summary made room. A whole reply may be empty.
    """

    message_id: str
    text: str
    parts: tuple[Part, ...] = ()
    tokens: Tokens = Tokens()
    cost: float | None = None
    error: WireError | None = None
    seconds: float | None = field(default=None, compare=False)
    finish_reason: str = ""
