"""What the model remembers: one row of messages per turn, rewritten after every step."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, repair_messages
from pydantic_core import PydanticSerializationError

from ._context import since_summary, starts_with_summary
from ._store import Store

__all__ = ["History"]

log = logging.getLogger(__name__)


class History:
    """The `turn` table."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, session_id: str, message_id: str) -> None:
        """A turn starts; until `end` a crash is found at the next start."""
        self._store.put(
            "INSERT INTO turn(message_id, session_id, running, history) VALUES (?, ?, 1, '[]')",
            message_id,
            session_id,
        )

    def save(self, message_id: str, messages: Sequence[ModelMessage]) -> None:
        """Replace the turn's messages by a newer state of them."""
        try:
            data = ModelMessagesTypeAdapter.dump_json(list(messages))
        except (PydanticSerializationError, UnicodeError) as error:
            # The model's text was no text; the turn goes on, its last good state stays.
            log.warning("a turn's messages can't be stored: %s", type(error).__name__)
            return
        self._store.put("UPDATE turn SET history = ? WHERE message_id = ?", data, message_id)

    def end(self, message_id: str) -> None:
        self._store.put("UPDATE turn SET running = 0 WHERE message_id = ?", message_id)

    async def load(self, session_id: str) -> list[ModelMessage]:
        """
        The messages of the session's turns since the last summary, fit for a model.

        Calls that a crash or an abort left without a result get one that says so; without that
        the next run would be refused, or would execute them.
        """
        rows = await self._store.read(
            "SELECT history FROM turn WHERE session_id = ? ORDER BY rowid DESC", session_id
        )
        messages: list[ModelMessage] = []
        for (data,) in rows:
            turn = since_summary(ModelMessagesTypeAdapter.validate_json(data))
            messages = turn + messages
            if starts_with_summary(turn):
                break
        return repair_messages(messages)

    def unfinished(self) -> list[tuple[str, str, list[ModelMessage]]]:
        """`(session id, message id, messages)` of the turns that a crash cut."""
        rows = self._store.query(
            "SELECT session_id, message_id, history FROM turn WHERE running ORDER BY rowid"
        )
        return [
            (session, message, ModelMessagesTypeAdapter.validate_json(data))
            for session, message, data in rows
        ]
