"""Ids of prompts: a prompt that is sent again under its id begins no second turn."""

from __future__ import annotations

from ._errors import Conflict, MessageRemoved
from ._messages import MessageBook
from ._sessions import Session, shelf

__all__ = ["PromptIds"]

_REMEMBERED = 1000


class PromptIds:
    """
    Which ids are taken: those in the store, of messages that a revert took back as well, and those
    of the latest prompts, which may not have been there when a request looked.
    """

    def __init__(self, messages: MessageBook) -> None:
        self._messages = messages
        self._latest: dict[str, str] = {}

    async def is_known(self, session: Session, message_id: str) -> bool:
        """
        Whether it is the prompt of one of the session's turns, which so was accepted before.

        Raises MessageRemoved when that was reverted, and Conflict for another message's id.
        """
        found = await self._messages.find(message_id)
        if found is None:
            return False
        if found.session_id == shelf(session.id):
            raise MessageRemoved(
                f"The message {message_id} was taken back by a revert. Send it under a new id.",
                messageID=message_id,
            )
        if found.session_id != session.id or not found.is_prompt:
            raise _taken(message_id)
        return True

    def was_accepted(self, session: Session, message_id: str) -> bool:
        """Whether it is one of the latest prompts. Raises Conflict for another session's."""
        owner = self._latest.get(message_id)
        if owner not in (None, session.id):
            raise _taken(message_id)
        return owner is not None

    def accept(self, session: Session, message_id: str) -> None:
        """Its turn begins."""
        self._latest[message_id] = session.id
        if len(self._latest) > _REMEMBERED:
            del self._latest[next(iter(self._latest))]


def _taken(message_id: str) -> Conflict:
    return Conflict(f"Another message has the id {message_id}.", messageID=message_id)
