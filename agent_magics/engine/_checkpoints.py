"""
What each turn found and left: todos, and snapshots of the files around what it did.

The first snapshot is taken before the first tool call that may change files, the second when the
turn is over. A turn that calls no such tool costs nothing. What the user's own commands change
while a turn runs counts as the turn's; files that are written through the API do not.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agent_magics.sandbox import Sandbox, SandboxError
from agent_magics.wire import TodoJSON

from ._paths import WORKSPACE, container_path, is_below
from ._plan import Change
from ._records import Unreadable, decoded
from ._sessions import Session, shelf
from ._snapshots import Snapshots, snapshot_problem
from ._store import Store

__all__ = ["Checkpoint", "Checkpoints"]

log = logging.getLogger(__name__)

_READ_ONLY = frozenset(
    {"glob", "grep", "read", "skill", "todoread", "todowrite", "webfetch", "websearch"}
)
"""Tools that change no file."""
_KINDS = {"before": str, "after": str, "problem": str, "todos": list, "foreign": list}
_NO_SNAPSHOT = "there is no snapshot of it"
_SHARED = "the files of a sub-agent come back with the turn that started it"
_UPSERT = """
INSERT INTO checkpoint(message_id, session_id, data) VALUES (?, ?, ?)
ON CONFLICT(message_id) DO UPDATE SET data = excluded.data
"""

Started = Callable[[], Awaitable[Sandbox]]
"""Gives the session's running container."""


@dataclass
class Checkpoint:
    """
    Of one turn. `before` and `after` are keys of trees; `problem` says why one is missing.

    `shared`: a sub-agent's; what it does belongs to the turn that waits for it.
    `todos` and `context_used` are what they were when the turn began.
    """

    session_id: str
    message_id: str
    todos: list[TodoJSON] = field(default_factory=list)
    context_used: int | None = None
    before: str = ""
    after: str = ""
    problem: str = ""
    foreign: list[str] = field(default_factory=list)
    shared: bool = False


class Checkpoints:
    """The `checkpoint` table, and the snapshots that its rows name."""

    def __init__(self, store: Store, snapshots: Snapshots) -> None:
        self._store = store
        self._snapshots = snapshots
        self._locks: dict[str, asyncio.Lock] = {}
        self.stale: set[str] = set()
        """Sessions that lost checkpoints; what these needed is forgotten with the next snapshot."""

    def begin(self, session: Session, message_id: str) -> Checkpoint:
        """A turn starts."""
        todos, used = list(session.todos), session.usage.context_used
        shared = session.container is not None
        checkpoint = Checkpoint(session.id, message_id, todos, used, shared=shared)
        self.save(checkpoint)
        return checkpoint

    def save(self, checkpoint: Checkpoint) -> None:
        ids = checkpoint.message_id, checkpoint.session_id
        # Names of files may be no text: nothing but ASCII can carry them.
        self._store.put(_UPSERT, *ids, json.dumps(vars(checkpoint)))

    async def before(self, checkpoint: Checkpoint, tool: str, sandbox: Sandbox) -> None:
        """A tool call is about to begin. Never fails: a turn without a snapshot can't be undone."""
        if tool in _READ_ONLY:
            return
        async with self._locks.setdefault(checkpoint.message_id, asyncio.Lock()):
            if checkpoint.shared and not checkpoint.problem:
                checkpoint.problem = _SHARED
                self.save(checkpoint)
            elif not checkpoint.before and not checkpoint.problem:
                checkpoint.before = await self._take(checkpoint, sandbox)
                self.save(checkpoint)
                await self._collect(checkpoint.session_id)

    async def after(self, checkpoint: Checkpoint, started: Started) -> None:
        """The turn's tools are through. Never fails."""
        self._locks.pop(checkpoint.message_id, None)
        if checkpoint.before and not checkpoint.after:
            try:
                checkpoint.after = await self._take(checkpoint, await started())
            except SandboxError as error:
                checkpoint.problem = snapshot_problem(error)
            except asyncio.CancelledError:
                # The turn is killed: what is there later is not its work.
                checkpoint.problem = _NO_SNAPSHOT
                raise
            finally:
                self.save(checkpoint)

    async def _take(self, checkpoint: Checkpoint, sandbox: Sandbox) -> str:
        try:
            return await self._snapshots.take(checkpoint.session_id, sandbox)
        except (SandboxError, OSError) as error:
            checkpoint.problem = snapshot_problem(error)
            log.warning("no snapshot of %s: %s", checkpoint.session_id, checkpoint.problem)
            return ""

    async def _collect(self, session_id: str) -> None:
        if session_id in self.stale:
            self.stale.discard(session_id)
            kept = await self.of_session(session_id)
            keys = {key for c in kept for key in (c.before, c.after) if key}
            await self._snapshots.collect(session_id, keys)

    @staticmethod
    def written(checkpoint: Checkpoint, path: str) -> None:
        """Somebody else writes this file of the container while the turn runs."""
        inside = container_path(path)
        if checkpoint.before and is_below(inside, WORKSPACE):
            checkpoint.foreign.append(inside.removeprefix(WORKSPACE + "/"))

    # -- reading

    async def of_session(self, session_id: str, *, shelved: bool = False) -> list[Checkpoint]:
        """All of a session, in the order of its turns; `shelved`: those that are reverted, too."""
        rows = await self._store.read(
            "SELECT message_id, data FROM checkpoint WHERE session_id IN (?, ?) ORDER BY rowid",
            session_id,
            shelf(session_id) if shelved else session_id,
        )
        return [_checkpoint(session_id, message_id, data) for message_id, data in rows]

    async def unfinished(self, session_ids: Iterable[str]) -> list[Checkpoint]:
        """Checkpoints of turns that a crash kept from taking their second snapshot."""
        known = set(session_ids)
        rows = await self._store.read(
            "SELECT session_id, message_id, data FROM checkpoint ORDER BY rowid"
        )
        found = [_checkpoint(*row) for row in rows if row[0] in known]
        return [c for c in found if c.before and not c.after and not c.problem]

    async def changes(self, checkpoints: Sequence[Checkpoint]) -> list[Change]:
        """What these turns did, turns that can't have changed a file left out."""
        return [await self._change(c) for c in checkpoints if c.before or c.problem]

    async def _change(self, checkpoint: Checkpoint) -> Change:
        if checkpoint.problem or not checkpoint.after:
            return Change(problem=checkpoint.problem or _NO_SNAPSHOT)
        before, after = checkpoint.before, checkpoint.after
        tree = await self._snapshots.tree(checkpoint.session_id, before)
        if after == before:
            return Change(tree, tree)
        changed = await self._snapshots.tree(checkpoint.session_id, after)
        return Change(tree, changed, frozenset(checkpoint.foreign))


def _checkpoint(session_id: str, message_id: str, data: str) -> Checkpoint:
    try:
        values = decoded(data)
        found = Checkpoint(**{**values, "session_id": session_id, "message_id": message_id})
        if all(isinstance(getattr(found, name), kind) for name, kind in _KINDS.items()):
            return found
    except (Unreadable, TypeError):
        pass
    return Checkpoint(session_id, message_id, problem="its record can't be read")
