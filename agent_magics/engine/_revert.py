"""
Taking turns back: their messages, their todos, their files, until the next prompt for good.

What is taken back is put on a shelf, out of sight: `unrevert` brings it back, the next prompt
deletes it.

What is to be done to files is written down first: after a crash it is carried out to its end.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent_magics.sandbox import SandboxError
from agent_magics.wire import FileDiffJSON, RevertJSON, TodoJSON

from ._artifacts import artifact_changes
from ._checkpoints import Checkpoints
from ._diffs import file_diffs
from ._errors import (
    ApiError,
    MessageNotFound,
    RevertConflict,
    SessionBusy,
    file_errors,
    refuse_damaged,
)
from ._links import joined
from ._plan import Change, Entry, Plan, Tree, changes, net_changes, overlay, plan, same
from ._sessions import Session, SessionBook, shelf
from ._shelf import RevertState, Shelf
from ._snapshots import Snapshots
from ._store import Store

if TYPE_CHECKING:
    from ._containers import Containers
    from ._log import EventLog

__all__ = ["Reverts", "turn_start"]

log = logging.getLogger(__name__)

_TEMPORARY = re.compile(r"\.[0-9a-f]{18}\.tmp")
"""As the container's program calls files on their way."""


@dataclass
class _Draft:
    """A revert as it would be: what it takes, and the trees it is based on."""

    message_id: str
    removed: list[str]
    kept: int
    todos: list[TodoJSON]
    context_used: int | None
    done: list[Change] = field(default_factory=list)
    now_key: str = ""
    now: Tree = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)


class Reverts:
    """`revert`, `unrevert`, and what the next prompt makes of it."""

    def __init__(
        self,
        store: Store,
        event_log: EventLog,
        sessions: SessionBook,
        containers: Containers,
        checkpoints: Checkpoints,
        snapshots: Snapshots,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._containers = containers
        self._checkpoints = checkpoints
        self._snapshots = snapshots
        self.shelf = Shelf(store, event_log, sessions, checkpoints)

    # -- what can be asked for

    async def preview(self, session: Session, message_id: str) -> RevertJSON:
        """What `revert` would do, conflicts included. Raises as it does, but no RevertConflict."""
        with self.alone(session), file_errors():
            await self._store.require_room()
            await self.settle(session)
            draft = await self._draft(session, message_id)
            return await self._result(session, draft)

    async def revert(self, session: Session, message_id: str) -> RevertJSON:
        """
        Take back the turn of this message and all after it; an answer means its prompt's turn.

        Raises MessageNotFound, SessionBusy, RevertConflict, and what files and containers raise;
        then nothing has changed.
        """
        with self.alone(session), file_errors():
            await self._store.require_room()
            await self.settle(session)
            draft = await self._draft(session, message_id)
            _refuse_conflicts(draft.plan, session)
            result = await self._result(session, draft)
            state = await self._state(session, draft)
            await self._carry_out(session, state, draft.now)
        return result

    async def unrevert(self, session: Session) -> bool:
        """
        Bring back what the last revert took; False when nothing is there.

        Raises SessionBusy, RevertConflict, and what files and containers raise.
        """
        with self.alone(session), file_errors():
            await self._store.require_room()
            await self.settle(session)
            state = self.shelf.state(session)
            if state is None:
                return False
            now: Tree = {}
            key = goal = ""
            if state.before != state.after:
                key, now = await self._look(session)
                undo = plan([await self._files(session, state)], now)
                _refuse_conflicts(undo, session)
                goal = await self._snapshots.keep(session.id, overlay(now, undo.wanted))
            state = replace(state, doing="unrevert", start=key, goal=goal)
            await self._carry_out(session, state, now)
        return True

    @contextmanager
    def alone(self, session: Session, what: str = "a revert") -> Iterator[None]:
        """
        Neither a turn nor another of these runs meanwhile, in any session with these files.

        Raises SessionBusy, and StoreDamagedError for a session whose record can't be read.
        """
        refuse_damaged(session)
        sharing = self._sessions.sharing(session)
        for other in sharing:
            if other.turn is not None or other.held:
                doing = other.held or "another turn"
                raise SessionBusy(f"The session is busy with {doing}.", sessionID=session.id)
        for other in sharing:
            other.held = what
        try:
            yield
        finally:
            for other in sharing:
                other.held = ""

    def is_unfinished(self, session: Session) -> bool:
        """Whether a crash or a failure left files on their way."""
        state = self.shelf.state(session)
        return state is not None and state.doing != ""

    async def settle(self, session: Session) -> None:
        """Finish what a crash or a failure left half done. To be called `alone`."""
        state = self.shelf.state(session)
        if state is not None and state.doing:
            with file_errors():
                await self._carry_out(session, state, None)

    async def recover(self) -> None:
        """Finish it for all sessions; what fails is tried again when the session is used."""
        for session in self._sessions:
            if not self.is_unfinished(session):
                continue
            try:
                with self.alone(session):
                    await self.settle(session)
            except (ApiError, SandboxError) as error:
                log.warning("a revert of %s is unfinished: %s", session.id, type(error).__name__)

    async def diff(self, session: Session, message_id: str | None) -> list[FileDiffJSON]:
        """What the turn of this message, or all turns together, changed. Raises MessageNotFound."""
        with file_errors():
            return await self._diff(session, message_id)

    async def _diff(self, session: Session, message_id: str | None) -> list[FileDiffJSON]:
        one = message_id is not None
        checkpoints = await self._checkpoints.of_session(session.id, shelved=one)
        if message_id is not None:
            (turn, *_), _ = await self._messages_from(session, message_id)
            checkpoints = [c for c in checkpoints if c.message_id == turn]
        pairs = net_changes(await self._checkpoints.changes(checkpoints))
        return await file_diffs(self._snapshots, session.id, pairs)

    # -- making up what to do

    async def _draft(self, session: Session, message_id: str) -> _Draft:
        removed, kept = await self._messages_from(session, message_id)
        previous = self.shelf.state(session)
        checkpoints = [
            c
            for c in await self._checkpoints.of_session(session.id, shelved=True)
            if c.message_id in set(removed)
        ]
        draft = _Draft(removed[0], removed, kept, session.todos, session.usage.context_used)
        if checkpoints and checkpoints[0].message_id == removed[0]:
            draft.todos = checkpoints[0].todos
            draft.context_used = checkpoints[0].context_used
        draft.done = await self._checkpoints.changes(checkpoints)
        if previous is not None and previous.before != previous.after:
            draft.done.append(await self._files(session, previous))
        if any(changes(c.before, c.after) for c in draft.done):
            draft.now_key, draft.now = await self._look(session)
        draft.plan = plan(draft.done, draft.now)
        return draft

    async def _messages_from(self, session: Session, message_id: str) -> tuple[list[str], int]:
        """The message's turn and all after it, reverted ones included, and how many come before."""
        ids = await self._ids("SELECT id FROM message", session)
        turns = set(await self._ids("SELECT message_id FROM turn", session))
        first = turn_start(ids, turns, message_id)
        return ids[first:], first

    async def _ids(self, select: str, session: Session) -> list[str]:
        where = "WHERE session_id IN (?, ?) ORDER BY rowid"
        rows = await self._store.read(f"{select} {where}", session.id, shelf(session.id))
        return [row[0] for row in rows]

    async def _look(self, session: Session) -> tuple[str, Tree]:
        """What the workspace has now; its contents are kept."""
        sandbox = await self._containers.started(session)
        key = await self._snapshots.take(session.id, sandbox)
        return key, await self._snapshots.tree(session.id, key)

    async def _files(self, session: Session, state: RevertState) -> Change:
        """What a revert did to the files."""
        before = await self._snapshots.tree(session.id, state.before)
        return Change(before, await self._snapshots.tree(session.id, state.after))

    async def _result(self, session: Session, draft: _Draft) -> RevertJSON:
        wanted = draft.plan.wanted
        pairs = {path: (draft.now.get(path), entry) for path, entry in wanted.items()}
        pairs = {path: pair for path, pair in pairs.items() if not same(*pair)}
        return {
            "messageID": draft.message_id,
            "messages": len(draft.removed),
            "files": await file_diffs(self._snapshots, session.id, pairs),
            "conflicts": draft.plan.conflicts,
            "skipped": [{"path": p, "reason": r} for p, r in sorted(draft.plan.skipped.items())],
            "artifacts": await artifact_changes(self._store, session.id, draft.removed),
        }

    async def _state(self, session: Session, draft: _Draft) -> RevertState:
        previous = self.shelf.state(session)
        before = after = draft.now_key
        if draft.plan.wanted:
            goal = overlay(draft.now, draft.plan.wanted)
            after = await self._snapshots.keep(session.id, goal)
        if previous is not None and previous.before != previous.after:
            # Undoing this must lead to what was there before the first of them.
            first = await self._files(session, previous)
            undone = {p: pair[0] for p, pair in changes(first.before, first.after).items()}
            undone = joined(undone, dict.fromkeys(undone, first.before), draft.now)
            before = await self._snapshots.keep(session.id, overlay(draft.now, undone))
        return RevertState(
            draft.message_id,
            draft.removed,
            draft.kept,
            previous.todos if previous else session.todos,
            previous.context_used if previous else session.usage.context_used,
            draft.todos,
            draft.context_used,
            before,
            after,
            doing="revert",
            start=draft.now_key,
            goal=after,
            error=previous.error if previous else session.error,
        )

    # -- doing it

    async def _carry_out(self, session: Session, state: RevertState, now: Tree | None) -> None:
        """
        Bring the files to where they shall be, then everything else in one go.

        `now` is what is there; None after a crash, when some of it may have been done.
        """
        if not session.listed:
            raise SessionBusy("The session was deleted.", sessionID=session.id)
        previous = self.shelf.state(session)
        self.shelf.put(session, state)
        await self._store.flushed()
        if state.start != state.goal:
            try:
                await self._move(session, state, now, forward=True)
            except (SandboxError, OSError) as error:
                if now is not None and session.listed:
                    await self._take_back(session, state, previous)
                if isinstance(error, OSError) and error.errno == errno.ESTALE:
                    raise _changed_meanwhile(session, error) from error
                raise
        if session.listed:
            self.shelf.commit(session, state)
        await self._store.flushed()

    async def _move(
        self, session: Session, state: RevertState, now: Tree | None, *, forward: bool
    ) -> None:
        start = await self._snapshots.tree(session.id, state.start)
        goal = await self._snapshots.tree(session.id, state.goal)
        target, origin = (goal, start) if forward else (start, goal)
        paths = set(changes(start, goal))
        if now is None:  # some of it is done, and somebody may have changed something since
            now = (await self._look(session))[1]
            paths = {p for p in paths if _is_ours(now.get(p), origin.get(p), target.get(p))}
            paths |= {path for path in now.keys() - origin.keys() - target.keys() if _is_rest(path)}
        paths &= changes(now, target).keys()
        sandbox = await self._containers.started(session)
        await self._snapshots.restore(session.id, sandbox, now, target, paths)

    async def _take_back(
        self, session: Session, state: RevertState, previous: RevertState | None
    ) -> None:
        """It failed half-way; if this fails as well, it is finished with the next use."""
        await self._move(session, state, None, forward=False)
        if not session.listed:
            return
        if previous is not None:
            self.shelf.put(session, previous)
        else:
            self.shelf.drop(session)


def _is_ours(have: Entry | None, origin: Entry | None, target: Entry | None) -> bool:
    """Whether nobody else put there what it has now, on the way from `origin` to `target`."""
    return have is None or have.kind == "directory" or same(have, origin) or same(have, target)


def _is_rest(path: str) -> bool:
    """Whether it is a file that was being written when the container's program was killed."""
    return _TEMPORARY.fullmatch(path.rpartition("/")[2]) is not None


def turn_start(ids: Sequence[str], turns: Collection[str], message_id: str) -> int:
    """
    Where the turn of a message begins, among a session's messages; `turns` are those that do.

    A summary in the middle of a turn belongs to it. Raises MessageNotFound.
    """
    if message_id not in ids:
        raise MessageNotFound(f"Message not found: {message_id}", messageID=message_id)
    index = ids.index(message_id)
    return next((i for i in range(index, -1, -1) if ids[i] in turns), index)


def _changed_meanwhile(session: Session, error: OSError) -> RevertConflict:
    path = (error.strerror or "").partition(": ")[2] or str(error.filename)
    return RevertConflict(
        f"Somebody else changed {path} in this moment. Nothing was changed.",
        sessionID=session.id,
        paths=[path],
    )


def _refuse_conflicts(undo: Plan, session: Session) -> None:
    if undo.conflicts:
        names = ", ".join(undo.conflicts[:5]) + (", …" if len(undo.conflicts) > 5 else "")
        raise RevertConflict(
            f"Somebody else changed these files since: {names}. Nothing was changed.",
            sessionID=session.id,
            paths=undo.conflicts,
        )
