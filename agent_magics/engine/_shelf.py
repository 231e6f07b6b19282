"""
What is taken back, until the next prompt makes that final.

Rows of messages that are reverted belong to another session id meanwhile, so that nobody sees them,
least of all the model; artifacts that they published go with them, and sub-agents that they started
are hidden. `unrevert` brings all of it back, the next prompt deletes it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_magics.wire import ErrorJSON, TodoJSON

from ._checkpoints import Checkpoints
from ._records import Unreadable, decoded
from ._sessions import Session, SessionBook, shelf
from ._store import Store

if TYPE_CHECKING:
    from ._log import EventLog

__all__ = ["RevertState", "Shelf"]

log = logging.getLogger(__name__)

_SHELVED = ("part", "turn", "checkpoint", "artifact_version")
"""Tables whose rows go where their message goes."""


@dataclass(frozen=True)
class RevertState:
    """
    A revert that can be undone. The trees `before` and `after` it, "" where no file mattered.

    `todos`, `context_used`, `error`: as they were; `removed`: ids of the messages on the shelf;
    `kept`: how many come before them. While `doing` is "revert" or "unrevert", files are on their
    way from the tree `start` to `goal`.
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
    error: ErrorJSON | None = None


class Shelf:
    """The `revert` table, and the rows that are out of sight."""

    def __init__(
        self, store: Store, event_log: EventLog, sessions: SessionBook, checkpoints: Checkpoints
    ) -> None:
        self._store = store
        self._log = event_log
        self._sessions = sessions
        self._checkpoints = checkpoints
        self._states: dict[str, RevertState] = {}
        unreadable = []
        for session_id, data in store.query("SELECT session_id, data FROM revert"):
            try:
                self._states[session_id] = _state(data)
            except (Unreadable, TypeError):
                unreadable.append(session_id)
        for session_id in unreadable:
            self._show_again(session_id)

    def _show_again(self, session_id: str) -> None:
        """What was taken back can't be told any more: nothing of it may stay out of sight."""
        log.warning("the record of a revert of %s can't be read; its turns are back", session_id)
        session = next((s for s in self._sessions if s.id == session_id), None)
        with self._store.group():
            if isinstance(session_id, str):
                self._unshelve(session_id)
            self._store.put("DELETE FROM revert WHERE session_id IS ?", session_id)
            if session is not None:
                session.revert = None
                self._hide_children(session, ())
                self._sessions.save(session)

    def state(self, session: Session) -> RevertState | None:
        return self._states.get(session.id)

    def put(self, session: Session, state: RevertState) -> None:
        """What is done, or about to be done."""
        self._states[session.id] = state
        self._store.put(
            "INSERT INTO revert(session_id, data) VALUES (?, ?) "
            "ON CONFLICT(session_id) DO UPDATE SET data = excluded.data",
            session.id,
            json.dumps(vars(state)),
        )

    def drop(self, session: Session) -> None:
        """Nothing is taken back any more."""
        del self._states[session.id]
        self._store.put("DELETE FROM revert WHERE session_id = ?", session.id)

    def forget(self, session: Session) -> None:
        """The session is being deleted."""
        self._states.pop(session.id, None)
        self._checkpoints.stale.discard(session.id)

    def commit(self, session: Session, state: RevertState) -> None:
        """The files are where they shall be: everything else in one go."""
        reverting, before = state.doing == "revert", session.todos
        with self._store.group():
            self._unshelve(session.id)
            if reverting:
                self._shelve(session.id, state.message_id)
                self.put(session, replace(state, doing="", start="", goal=""))
                session.todos = state.reverted_todos
                session.usage.context_used = state.reverted_context
                session.usage.messages = state.kept
                session.revert, session.error = _public(state), None
            else:
                self.drop(session)
                session.todos = state.todos
                session.usage.context_used = state.context_used
                session.usage.messages = state.kept + len(state.removed)
                session.revert, session.error = None, state.error
            self._hide_children(session, state.removed if reverting else ())
            self._sessions.save(session)
            if session.todos != before:
                todos: dict[str, Any] = {"sessionID": session.id, "todos": session.todos}
                self._log.publish(session.id, "todo.updated", todos)

    def seal(self, session: Session) -> None:
        """
        A new prompt: what was taken back is gone for good. Within the prompt's group.

        The ids of the messages stay taken. Sub-agents stay hidden; whoever calls deletes them.
        """
        state = self._states.pop(session.id, None)
        if state is None:
            return
        for message_id in state.removed:
            ids = {"sessionID": session.id, "messageID": message_id}
            self._log.publish(session.id, "message.removed", ids)
        self._store.put(
            "INSERT OR IGNORE INTO removed_message(id, session_id) "
            "SELECT id, ? FROM message WHERE session_id = ?",
            session.id,
            shelf(session.id),
        )
        for table in (*_SHELVED, "message"):
            self._store.put(f"DELETE FROM {table} WHERE session_id = ?", shelf(session.id))
        self._store.put("DELETE FROM revert WHERE session_id = ?", session.id)
        self._checkpoints.stale.add(session.id)
        session.revert = None
        self._sessions.save(session)

    def leftovers(self) -> list[Session]:
        """Sub-agents of turns that are gone for good."""
        return [s for s in self._sessions if s.hidden and s.parent_id not in self._states]

    def _hide_children(self, session: Session, removed: Collection[str]) -> None:
        gone = set(removed)
        for child in self._sessions.children(session.id):
            if child.hidden != (child.started_by in gone):
                child.hidden = not child.hidden
                self._sessions.save(child)

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


def _state(data: Any) -> RevertState:
    """Raises Unreadable or TypeError."""
    state = RevertState(**decoded(data))
    texts = (state.message_id, state.before, state.after, state.doing, state.start, state.goal)
    lists = (state.removed, state.todos, state.reverted_todos)
    if not all(isinstance(text, str) for text in texts):
        raise Unreadable("it has what is no text")
    if not all(isinstance(values, list) for values in lists) or not isinstance(state.kept, int):
        raise Unreadable("it has what is no list")
    if state.doing not in ("", "revert", "unrevert"):
        raise Unreadable("it does what is unknown")
    return state


def _public(state: RevertState) -> dict[str, Any]:
    """What clients see in the session."""
    shown = {"messageID": state.message_id}
    return {**shown, "snapshot": state.before} if state.before else shown
