"""
Taking turns back: their messages, their todos, their files, until the next prompt for good.

What is taken back is put on a shelf: its rows belong to another session id, so that nobody sees
them, least of all the model. `unrevert` brings them back, the next prompt deletes them.

What is to be done to files is written down first: after a crash it is carried out to its end.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_magics.sandbox import SandboxError
from agent_magics.wire import FileDiffJSON, RevertJSON, TodoJSON

from ._checkpoints import Checkpoints
from ._diffs import file_diffs
from ._errors import ApiError, MessageNotFound, RevertConflict, SessionBusy, file_errors
from ._links import joined
from ._plan import Change, Plan, Tree, changes, net_changes, overlay, plan, same
from ._sessions import Session, SessionBook, shelf
from ._snapshots import Snapshots
from ._store import Store

if TYPE_CHECKING:
    from ._containers import Containers
    from ._log import EventLog

__all__ = ["Reverts", "turn_start"]

log = logging.getLogger(__name__)

_SHELVED = ("part", "turn", "checkpoint")
"""Tables whose rows go where their message goes."""


@dataclass(frozen=True)
class _State:
    """
    A revert that can be undone. The trees `before` and `after` it, "" where no file mattered.

    `todos`, `context_used`: as they were; `removed`: ids of the messages on the shelf; `kept`: how
    many come before them. While `doing` is "revert" or "unrevert", files are on their way from the
    tree `start` to `goal`.
    """

    message_id: str
    removed: list[str]
    kept: int
    todos: list[TodoJSON]
    context_used: int | None
    reverted_todos: list[TodoJSON]
    reverted_context: int | None
    before: str = ""
    after: str = ""
    doing: str = ""
    start: str = ""
    goal: str = ""


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
        self._log = event_log
        self._sessions = sessions
        self._containers = containers
        self._checkpoints = checkpoints
        self._snapshots = snapshots
        rows = store.query("SELECT session_id, data FROM revert")
        self._states = {session_id: _State(**json.loads(data)) for session_id, data in rows}

    # -- what can be asked for

    async def preview(self, session: Session, message_id: str) -> RevertJSON:
        """What `revert` would do, conflicts included. Raises as it does, but no RevertConflict."""
        with self.alone(session):
            await self.settle(session)
            draft = await self._draft(session, message_id)
            return await self._result(session, draft)

    async def revert(self, session: Session, message_id: str) -> RevertJSON:
        """
        Take back the turn of this message and all after it; an answer means its prompt's turn.

        Raises MessageNotFound, SessionBusy, RevertConflict, and what files and containers raise;
        then nothing has changed.
        """
        with self.alone(session):
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
        with self.alone(session):
            await self.settle(session)
            state = self._states.get(session.id)
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

    def seal(self, session: Session) -> None:
        """A new prompt: what was taken back is gone for good. Within the prompt's group."""
        state = self._states.pop(session.id, None)
        if state is None:
            return
        for message_id in state.removed:
            ids = {"sessionID": session.id, "messageID": message_id}
            self._log.publish(session.id, "message.removed", ids)
        for table in (*_SHELVED, "message"):
            self._store.put(f"DELETE FROM {table} WHERE session_id = ?", shelf(session.id))
        self._store.put("DELETE FROM revert WHERE session_id = ?", session.id)
        self._checkpoints.stale.add(session.id)
        session.revert = None
        self._sessions.save(session)

    def forget(self, session: Session) -> None:
        """The session is being deleted."""
        self._states.pop(session.id, None)

    @contextmanager
    def alone(self, session: Session) -> Iterator[None]:
        """
        Neither a turn nor another of these runs meanwhile, in any session with these files.

        Raises SessionBusy.
        """
        sharing = self._sessions.sharing(session)
        for other in sharing:
            if other.turn is not None or other.held:
                what = other.held or "another turn"
                raise SessionBusy(f"The session is busy with {what}.", sessionID=session.id)
        for other in sharing:
            other.held = "a revert"
        try:
            yield
        finally:
            for other in sharing:
                other.held = ""

    def is_unfinished(self, session: Session) -> bool:
        """Whether a crash or a failure left files on their way."""
        state = self._states.get(session.id)
        return state is not None and state.doing != ""

    async def settle(self, session: Session) -> None:
        """Finish what a crash or a failure left half done. To be called `alone`."""
        if self.is_unfinished(session):
            await self._carry_out(session, self._states[session.id], None)

    async def recover(self) -> None:
        """Finish it for all sessions; what fails is tried again when the session is used."""
        for session in self._sessions:
            try:
                with self.alone(session):
                    await self.settle(session)
            except (ApiError, SandboxError) as error:
                log.warning("a revert of %s is unfinished: %s", session.id, type(error).__name__)

    async def diff(self, session: Session, message_id: str | None) -> list[FileDiffJSON]:
        """What the turn of this message, or all turns together, changed. Raises MessageNotFound."""
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
        previous = self._states.get(session.id)
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
        with file_errors():
            key = await self._snapshots.take(session.id, sandbox)
        return key, await self._snapshots.tree(session.id, key)

    async def _files(self, session: Session, state: _State) -> Change:
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
        }

    async def _state(self, session: Session, draft: _Draft) -> _State:
        previous = self._states.get(session.id)
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
        return _State(
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
        )

    # -- doing it

    async def _carry_out(self, session: Session, state: _State, now: Tree | None) -> None:
        """
        Bring the files to where they shall be, then everything else in one go.

        `now` is what is there; None after a crash, when some of it may have been done.
        """
        if not session.listed:
            raise SessionBusy("The session was deleted.", sessionID=session.id)
        previous = self._states.get(session.id)
        self._put(session, state)
        await self._store.flushed()
        if state.start != state.goal:
            try:
                await self._move(session, state, now, forward=True)
            except (SandboxError, OSError):
                if now is not None:
                    await self._take_back(session, state, previous)
                with file_errors():
                    raise
        if session.listed:
            self._commit(session, state)
        await self._store.flushed()

    async def _move(
        self, session: Session, state: _State, now: Tree | None, *, forward: bool
    ) -> None:
        start = await self._snapshots.tree(session.id, state.start)
        goal = await self._snapshots.tree(session.id, state.goal)
        if now is None:
            now = (await self._look(session))[1]
        target = goal if forward else start
        paths = changes(start, goal).keys() & changes(now, target).keys()
        sandbox = await self._containers.started(session)
        await self._snapshots.restore(session.id, sandbox, now, target, paths)

    async def _take_back(self, session: Session, state: _State, previous: _State | None) -> None:
        """It failed half-way; if this fails as well, it is finished with the next use."""
        await self._move(session, state, None, forward=False)
        if not session.listed:
            return
        if previous is not None:
            self._put(session, previous)
        else:
            self._drop(session)

    def _put(self, session: Session, state: _State) -> None:
        self._states[session.id] = state
        self._store.put(
            "INSERT INTO revert(session_id, data) VALUES (?, ?) "
            "ON CONFLICT(session_id) DO UPDATE SET data = excluded.data",
            session.id,
            json.dumps(vars(state)),
        )

    def _drop(self, session: Session) -> None:
        del self._states[session.id]
        self._store.put("DELETE FROM revert WHERE session_id = ?", session.id)

    def _commit(self, session: Session, state: _State) -> None:
        reverting, before = state.doing == "revert", session.todos
        with self._store.group():
            self._unshelve(session.id)
            if reverting:
                self._shelve(session.id, state.message_id)
                self._put(session, replace(state, doing="", start="", goal=""))
                session.todos = state.reverted_todos
                session.usage.context_used = state.reverted_context
                session.usage.messages = state.kept
                session.revert = _public(state)
            else:
                self._drop(session)
                session.todos = state.todos
                session.usage.context_used = state.context_used
                session.usage.messages = state.kept + len(state.removed)
                session.revert = None
            self._sessions.save(session)
            if session.todos != before:
                todos: dict[str, Any] = {"sessionID": session.id, "todos": session.todos}
                self._log.publish(session.id, "todo.updated", todos)

    def _shelve(self, session_id: str, first: str) -> None:
        """Move a message and all after it to the shelf."""
        self._store.put(
            "UPDATE message SET session_id = ? WHERE session_id = ? "
            "AND rowid >= (SELECT rowid FROM message WHERE id = ?)",
            shelf(session_id),
            session_id,
            first,
        )
        for table in _SHELVED:
            self._store.put(
                f"UPDATE {table} SET session_id = ? WHERE session_id = ? "
                "AND message_id IN (SELECT id FROM message WHERE session_id = ?)",
                shelf(session_id),
                session_id,
                shelf(session_id),
            )

    def _unshelve(self, session_id: str) -> None:
        for table in (*_SHELVED, "message"):
            self._store.put(
                f"UPDATE {table} SET session_id = ? WHERE session_id = ?",
                session_id,
                shelf(session_id),
            )


def turn_start(ids: Sequence[str], turns: Collection[str], message_id: str) -> int:
    """
    Where the turn of a message begins, among a session's messages; `turns` are those that do.

    A summary in the middle of a turn belongs to it. Raises MessageNotFound.
    """
    if message_id not in ids:
        raise MessageNotFound(f"Message not found: {message_id}", messageID=message_id)
    index = ids.index(message_id)
    return next((i for i in range(index, -1, -1) if ids[i] in turns), index)


def _public(state: _State) -> dict[str, Any]:
    """What clients see in the session."""
    shown = {"messageID": state.message_id}
    return {**shown, "snapshot": state.before} if state.before else shown


def _refuse_conflicts(undo: Plan, session: Session) -> None:
    if undo.conflicts:
        names = ", ".join(undo.conflicts[:5]) + (", …" if len(undo.conflicts) > 5 else "")
        raise RevertConflict(
            f"Somebody else changed these files since: {names}. Nothing was changed.",
            sessionID=session.id,
            paths=undo.conflicts,
        )
