"""Sessions: what is kept of each, and the book of all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from agent_magics import __version__
from agent_magics.wire import ErrorJSON, MetricsJSON, SessionJSON, TodoJSON, TokensJSON

from ._errors import NotFound
from ._ids import new_id, now_ms
from ._log import EventLog
from ._records import Unreadable, check_session, decoded, is_session_id, time_of_id, title_in
from ._store import Store
from ._text import dumps

if TYPE_CHECKING:
    import asyncio

    from ._checkpoints import Checkpoint

__all__ = [
    "WORKSPACE",
    "RunningTurn",
    "Session",
    "SessionBook",
    "Usage",
    "add_tokens",
    "all_tokens",
    "no_tokens",
    "raise_usage",
    "shelf",
]

log = logging.getLogger(__name__)

_TABLES = (
    *("message", "part", "turn", "permission", "checkpoint", "revert", "artifact_version"),
    "removed_message",
)
"""Those that have rows of sessions, beside their own."""
WORKSPACE = "/workspace"
"""Where a session's files are, inside its container."""


def shelf(session_id: str) -> str:
    """Under this id are kept, out of sight, the rows of messages that are reverted."""
    return f"reverted:{session_id}"


def no_tokens() -> TokensJSON:
    return {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}


def add_tokens(total: TokensJSON, more: TokensJSON) -> None:
    """Add `more` to `total` in place."""
    total["input"] += more["input"]
    total["output"] += more["output"]
    total["reasoning"] += more["reasoning"]
    total["cache"]["read"] += more["cache"]["read"]
    total["cache"]["write"] += more["cache"]["write"]


def all_tokens(tokens: TokensJSON) -> int:
    """What a request took in and gave out, cached or not; reasoning is part of the output."""
    cache = tokens["cache"]
    return tokens["input"] + tokens["output"] + cache["read"] + cache["write"]


@dataclass
class Usage:
    """Counters of a session. `cost` in US dollars, None once a price was unknown."""

    messages: int = 0
    steps: int = 0
    tools: dict[str, int] = field(default_factory=dict)
    tokens: TokensJSON = field(default_factory=no_tokens)
    cost: float | None = 0.0
    context_used: int | None = None
    context_limit: int | None = None


def add_usage(total: Usage, more: Usage) -> None:
    """Add the counters of `more` to `total` in place; not its context."""
    total.messages += more.messages
    total.steps += more.steps
    for tool, calls in more.tools.items():
        total.tools[tool] = total.tools.get(tool, 0) + calls
    add_tokens(total.tokens, more.tokens)
    total.cost = None if total.cost is None or more.cost is None else total.cost + more.cost


def raise_usage(usage: Usage, least: Usage) -> None:
    """Raise the counters of `usage` to those of `least`; not its context."""
    usage.messages = max(usage.messages, least.messages)
    usage.steps = max(usage.steps, least.steps)
    for tool, calls in least.tools.items():
        usage.tools[tool] = max(usage.tools.get(tool, 0), calls)
    tokens, more = usage.tokens, least.tokens
    tokens["input"] = max(tokens["input"], more["input"])
    tokens["output"] = max(tokens["output"], more["output"])
    tokens["reasoning"] = max(tokens["reasoning"], more["reasoning"])
    for kind in ("read", "write"):
        tokens["cache"][kind] = max(tokens["cache"][kind], more["cache"][kind])
    unknown = usage.cost is None or least.cost is None
    usage.cost = None if unknown else max(usage.cost or 0.0, least.cost or 0.0)


class RunningTurn(Protocol):
    """What keeps a session busy: a turn of the agent, or a summary of the conversation."""

    message_id: str
    done: asyncio.Event
    current_status: dict[str, Any]

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What its tools change; None for a summary, which has no tools."""

    def abort(self, reason: str, error: ErrorJSON | None = None) -> None:
        """Stop it, as aborted or with an `error`; `done` is set soon after. Idempotent."""

    async def kill(self) -> None:
        """End it although it does not react to an abort."""


@dataclass
class Session:
    """
    One session. `rules` came with its creation, `standing` from "always" replies.

    `sandbox` is the provider that was asked for, `provider` and `isolated` what it became.
    `model` is what answered last. `chosen` was asked for when the session was made; without it
    every turn takes the best model there is then, so that a key found later is used.
    `revert` is what opencode says of messages that are reverted.
    `python` is `{"executable", "prefixes"}` of the interpreter that must be readable inside.
    `agent` names who answers; `agent_config` is an agent that came with the session's creation.
    `limits` are sets of rules whose denials hold, from those who started this sub-agent.
    `bounds` are the limits of the container that it asked for, `allowance` all that hold.
    `network` are hosts that it may reach beyond those of the configuration; None: it has none.
    `container` is the id of the session whose container this one uses; None: its own.
    `error` is what the last turn failed with, until the next one begins.
    `started_by` is the prompt in whose turn a sub-agent was started; `hidden`: that is reverted.
    `gone` is what sub-agents used whose sessions were deleted.
    """

    id: str
    title: str
    created: int
    updated: int
    parent_id: str | None = None
    archived: int = 0
    titled: bool = False
    model: dict[str, str] | None = None
    chosen: dict[str, str] | None = None
    sandbox: str = "auto"
    provider: str = ""
    isolated: bool = True
    python: dict[str, Any] | None = None
    rules: list[dict[str, str]] = field(default_factory=list)
    standing: list[dict[str, str]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    agent: str = "build"
    agent_config: dict[str, Any] | None = None
    limits: list[list[dict[str, str]]] = field(default_factory=list)
    container: str | None = None
    bounds: dict[str, Any] = field(default_factory=dict)
    allowance: dict[str, Any] = field(default_factory=dict)
    network: list[str] | None = None
    todos: list[TodoJSON] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    revert: dict[str, Any] | None = None
    error: ErrorJSON | None = None
    started_by: str | None = None
    hidden: bool = False
    gone: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self.turn: RunningTurn | None = None
        """The running turn. Not stored; the store's `turn` table says what a crash cut."""
        self.held = ""
        """What keeps the session busy besides a turn; empty when nothing does."""
        self.listed = False
        """In the book: announced and not deleted."""
        self.ended = False
        """Deleted: nothing of it may be made again."""
        self.damage = ""
        """Why its record can't be read; it takes no prompts then and is not saved."""
        self.missing = ""
        """Says that its files are gone, when they were at the start of the engine."""

    @property
    def model_name(self) -> str | None:
        """`provider/model-id` as chosen for this session."""
        return f"{self.chosen['providerID']}/{self.chosen['id']}" if self.chosen else None

    def to_json(self) -> SessionJSON:
        time: dict[str, int] = {"created": self.created, "updated": self.updated}
        if self.archived:
            time["archived"] = self.archived
        data: dict[str, Any] = {
            "id": self.id,
            "slug": self.id.removeprefix("ses_"),
            "version": __version__,
            "projectID": "global",
            "directory": WORKSPACE,
            "path": "",
            "title": self.title,
            "agent": self.agent,
            "cost": self.usage.cost,
            "tokens": self.usage.tokens,
            "time": time,
            "sandbox": {
                "provider": self.provider or self.sandbox,
                "isolated": self.isolated,
                "limits": self.allowance,
            },
        }
        optional = {
            "parentID": self.parent_id,
            "model": self.model,
            "permission": self.rules or None,
            "metadata": self.metadata,
            "revert": self.revert,
            "error": self.error,
            "network": None if self.network is None else {"allow": self.network},
            "problem": self.damage or self.missing or None,
        }
        data.update({key: value for key, value in optional.items() if value is not None})
        return cast(SessionJSON, data)

    def metrics(self) -> MetricsJSON:
        return self._metrics(self.id, self.usage)

    def metrics_of_gone(self) -> MetricsJSON | None:
        """What deleted sub-agents used, all together; None when nothing."""
        return self._metrics("", self.gone) if self.gone != Usage() else None

    @staticmethod
    def _metrics(session_id: str, usage: Usage) -> MetricsJSON:
        return {
            "sessionID": session_id,
            "messages": usage.messages,
            "steps": usage.steps,
            "toolCalls": sum(usage.tools.values()),
            "toolUsage": dict(usage.tools),
            "tokens": usage.tokens,
            "cost": usage.cost,
            "children": [],
            "context": {"used": usage.context_used, "limit": usage.context_limit},
        }

    @classmethod
    def of_row(cls, session_id: str, data: Any) -> Session:
        """
        The session of a stored record; where that can't be read, one that stands in its place.

        What such a session may do is not known, so it takes no prompts until it is recovered.
        """
        try:
            record = decoded(data)
            check_session(session_id, record)
            return cls.from_record(record)
        except Unreadable as error:
            time = time_of_id(session_id)
            session = cls(session_id, title_in(data), time, time, titled=True)
            session.damage = (
                f"The record of this session can't be read ({error}). Its messages and files can; "
                f"to go on with it run: agent-magics sessions recover {session_id}"
            )
            return session

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Session:
        known = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        for name in known.keys() & {"usage", "gone"}:
            known[name] = Usage(**known[name])
        return cls(**known)


class SessionBook:
    """All sessions, in memory and in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, Session] = {}
        self.leaving: set[str] = set()
        """Ended by this engine, with files that may still be there."""
        self.on_turns: Callable[[int], None] | None = None
        """Called with the number of running turns, before a new one can be told of."""
        self.log: EventLog
        for session_id, data in store.query("SELECT id, data FROM session ORDER BY id"):
            if not is_session_id(session_id):
                log.warning("a session's record has no id and is left out")
                continue
            session = Session.of_row(session_id, data)
            session.listed = True
            self._sessions[session.id] = session
            if session.damage:
                log.warning("%s: %s", session_id, session.damage)
        for session in self:
            if session.id in self.line_of(session.parent_id or ""):  # it would never end
                log.warning("%s descends from itself; it has no parent any more", session.id)
                session.parent_id = None

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, session_id: str) -> Session:
        """Raises NotFound."""
        try:
            return self._sessions[session_id]
        except KeyError:
            raise NotFound(f"Session not found: {session_id}", sessionID=session_id) from None

    def root_of(self, session_id: str) -> str:
        """The id of the oldest ancestor; the id itself for an unknown session."""
        return self.line_of(session_id)[-1]

    def line_of(self, session_id: str) -> list[str]:
        """The id itself, its parent's, and so on up to the root."""
        line = [session_id]
        while (session := self._sessions.get(line[-1])) and session.parent_id:
            if session.parent_id in line:  # a damaged record
                break
            line.append(session.parent_id)
        return line

    def visible(self, session_id: str) -> Session:
        """As `get`, but a sub-agent of a turn that is reverted is not there. Raises NotFound."""
        session = self.get(session_id)
        if self.is_hidden(session):
            raise NotFound(f"Session not found: {session_id}", sessionID=session_id)
        return session

    def is_hidden(self, session: Session) -> bool:
        """Whether it, or one that it descends from, belongs to a turn that is reverted."""
        line = (self._sessions.get(above) for above in self.line_of(session.id))
        return any(above is not None and above.hidden for above in line)

    def children(self, session_id: str) -> list[Session]:
        """Hidden ones, too."""
        return [s for s in self if s.parent_id == session_id]

    def descendants(self, session_id: str) -> list[Session]:
        """Children, their children and so on, oldest first; hidden ones, too."""
        return [s for s in self if session_id in self.line_of(s.id)[1:]]

    def sharing(self, session: Session) -> list[Session]:
        """The sessions that use the same container, this one among them."""
        owner = session.container or session.id
        return [s for s in self if (s.container or s.id) == owner]

    def ids(self) -> Iterable[str]:
        return self._sessions.keys()

    def add(self, session: Session) -> None:
        """Store a new session and announce it."""
        self._sessions[session.id] = session
        session.listed = True
        self.save(session, "session.created")

    def set_turn(self, session: Session, turn: RunningTurn | None) -> None:
        """What keeps the session busy from now on; None: nothing does."""
        session.turn = turn
        if self.on_turns is not None:
            self.on_turns(sum(s.turn is not None for s in self))

    def save(self, session: Session, event: str = "session.updated") -> None:
        """Store a session's state and publish its public part; a damaged one's stays as it is."""
        if not session.listed or session.damage:
            return
        session.updated = now_ms()
        with self._store.group():
            self._put(session)
            self._publish(session, event)

    def keep(self, session: Session) -> None:
        """
        Store a session's state without publishing it, within the group of what changed it.

        Counters are stored together with what they count: a crash separates nothing.
        """
        if session.listed and not session.damage:
            self._put(session)

    def set_error(self, session: Session, error: ErrorJSON | None) -> None:
        """Keep what the last turn failed with; None when it did not fail, or another begins."""
        if session.error != error:
            session.error = error
            self.save(session)

    def remove(self, session: Session) -> None:
        """
        Forget a session and everything of it. Kept are the event that says so, and what it used,
        with its parent: money that was spent stays spent; and until `files_gone` that it was ended.
        """
        session.listed, session.ended = False, True
        with self._store.group():
            parent = self._sessions.get(session.parent_id or "")
            if parent is not None:
                add_usage(parent.gone, session.usage)
                add_usage(parent.gone, session.gone)
                self._put(parent)
            for table in _TABLES:
                self._store.put(
                    f"DELETE FROM {table} WHERE session_id IN (?, ?)", session.id, shelf(session.id)
                )
            self._store.put("DELETE FROM session WHERE id = ?", session.id)
            self._store.put(
                "INSERT OR REPLACE INTO ended_session(id, data) VALUES (?, ?)",
                session.id,
                dumps({"container": session.container, "sandbox": session.provider}),
            )
            self.log.forget(session.id)
            self._publish(session, "session.deleted")
        del self._sessions[session.id]
        self.leaving.add(session.id)

    def ended(self) -> dict[str, dict[str, Any]]:
        """Sessions that were ended and whose files may still be there, by id."""
        found = {}
        for session_id, data in self._store.query("SELECT id, data FROM ended_session"):
            if is_session_id(session_id) and session_id not in self._sessions:
                try:
                    found[session_id] = decoded(data)
                except Unreadable:
                    log.warning("the record of the end of %s can't be read", session_id)
        return found

    def files_gone(self, session_id: str) -> None:
        """Nothing is left of a session that was ended."""
        self.leaving.discard(session_id)
        self._store.put("DELETE FROM ended_session WHERE id = ?", session_id)

    def _put(self, session: Session) -> None:
        self._store.put(
            "INSERT INTO session(id, data) VALUES (?, ?) "
            "ON CONFLICT(id) DO UPDATE SET data = excluded.data",
            session.id,
            dumps(asdict(session)),
        )

    def _publish(self, session: Session, event: str) -> None:
        told = {"sessionID": session.id, "info": session.to_json()}
        if event != "session.updated":
            self.log.publish(session.id, event, told)
            return
        state = f"state of {session.id}"
        self.log.merge(state)
        self.log.publish(session.id, event, told, delta_of=state)


def new_session(title: str | None) -> Session:
    """A session that is not in the book yet."""
    now = now_ms()
    return Session(
        id=new_id("ses"),
        title=title or "New session",
        titled=title is not None,
        created=now,
        updated=now,
    )
