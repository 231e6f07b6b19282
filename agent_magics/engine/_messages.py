"""Messages and their parts: stored, published, listed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from agent_magics.wire import MessageInfoJSON, MessageJSON, PartJSON

from ._errors import NotFound
from ._ids import now_ms
from ._log import EventLog
from ._records import sound_message, sound_part
from ._sessions import Usage, add_tokens, shelf
from ._store import Store
from ._text import dumps

__all__ = ["MessageBook", "counted", "is_closed"]

_UPSERT_MESSAGE = """
INSERT INTO message(id, session_id, data) VALUES (?, ?, ?)
ON CONFLICT(id) DO UPDATE SET data = excluded.data
"""
_UPSERT_PART = """
INSERT INTO part(id, message_id, session_id, data) VALUES (?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE SET data = excluded.data
"""
_FIND = """
SELECT message.session_id, turn.message_id IS NOT NULL
FROM message LEFT JOIN turn ON turn.message_id = message.id WHERE message.id = ?
UNION ALL SELECT ? || session_id, 0 FROM removed_message WHERE id = ?
"""
_IS_PROMPT = "EXISTS (SELECT 1 FROM turn WHERE turn.message_id = message.id)"
_STREAMED = ("text", "reasoning")


def is_closed(part: PartJSON) -> bool:
    """Whether nothing is going to be added to the part."""
    if part["type"] == "tool":
        return part["state"]["status"] in ("completed", "error")
    if part["type"] in _STREAMED and "time" in part:
        return "end" in part["time"]
    return True


class FoundMessage(NamedTuple):
    """Whose a message is; the shelf's of a session, for one that was reverted."""

    session_id: str
    is_prompt: bool


class MessageBook:
    """Rows keep the order of their first insertion, which is the order of the conversation."""

    def __init__(self, store: Store, log: EventLog) -> None:
        self._store = store
        self._log = log

    def save_info(self, info: MessageInfoJSON) -> None:
        with self._store.group():
            self._store.put(_UPSERT_MESSAGE, info["id"], info["sessionID"], dumps(info))
            self._log.publish(
                info["sessionID"],
                "message.updated",
                {"sessionID": info["sessionID"], "info": info},
            )

    def save_part(self, part: PartJSON) -> None:
        """Store and publish a part; its deltas go when it is closed."""
        session_id = part["sessionID"]
        with self._store.group():
            self._store.put(_UPSERT_PART, part["id"], part["messageID"], session_id, dumps(part))
            if part["type"] in (*_STREAMED, "tool") and is_closed(part):
                self._log.merge(part["id"])
            self._log.publish(
                session_id,
                "message.part.updated",
                {"sessionID": session_id, "part": part, "time": now_ms()},
            )

    def add_delta(self, part: PartJSON, field: str, delta: str) -> None:
        """Publish text that was added to `field` ("text" or "state.raw") of an open part."""
        self._log.publish(
            part["sessionID"],
            "message.part.delta",
            {
                "sessionID": part["sessionID"],
                "messageID": part["messageID"],
                "partID": part["id"],
                "field": field,
                "delta": delta,
            },
            delta_of=part["id"],
        )

    def add_output(self, part: PartJSON, stream: str, delta: str) -> None:
        """Publish live output ("stdout" or "stderr") of a running tool."""
        self._log.publish(
            part["sessionID"],
            "tool.output",
            {
                "sessionID": part["sessionID"],
                "messageID": part["messageID"],
                "partID": part["id"],
                "callID": part["callID"],
                "stream": stream,
                "delta": delta,
            },
            delta_of=part["id"],
        )

    async def history(self, session_id: str, limit: int | None = None) -> list[MessageJSON]:
        """The conversation, oldest first; with `limit` only its last messages."""
        chosen = "message WHERE session_id = ? ORDER BY rowid DESC LIMIT ?"
        within = (session_id, -1 if limit is None else limit)
        infos = await self._store.read(f"SELECT id, data, {_IS_PROMPT} FROM {chosen}", *within)
        rows = await self._parts(f"message_id IN (SELECT id FROM {chosen})", *within)
        parts: dict[str, list[PartJSON]] = {}
        for message_id, part_id, data in rows:
            part = sound_part(part_id, message_id, session_id, data)
            parts.setdefault(message_id, []).append(part)
        return [
            {
                "info": sound_message(message_id, session_id, data, is_prompt=bool(is_prompt)),
                "parts": parts.get(message_id, []),
            }
            for message_id, data, is_prompt in reversed(infos)
            if isinstance(message_id, str)
        ]

    async def get(self, session_id: str, message_id: str) -> MessageJSON:
        """Raises NotFound."""
        rows = await self._store.read(
            f"SELECT data, {_IS_PROMPT} FROM message WHERE id = ? AND session_id = ?",
            message_id,
            session_id,
        )
        if not rows:
            raise NotFound(f"Message not found: {message_id}", messageID=message_id)
        parts = await self._parts("message_id = ?", message_id)
        data, is_prompt = rows[0]
        return {
            "info": sound_message(message_id, session_id, data, is_prompt=bool(is_prompt)),
            "parts": [sound_part(row[1], message_id, session_id, row[2]) for row in parts],
        }

    async def find(self, message_id: str) -> FoundMessage | None:
        """Who has this id; also the id of a message that was reverted, for good or not."""
        rows = await self._store.read(_FIND, message_id, shelf(""), message_id)
        return FoundMessage(str(rows[0][0]), bool(rows[0][1])) if rows else None

    async def answer_to(self, session_id: str, message_id: str) -> MessageJSON | None:
        """The assistant's message that answers a prompt."""
        found: MessageJSON | None = None
        for message in await self.history(session_id):
            if message["info"].get("parentID") == message_id:
                found = message
        return found

    async def _parts(self, where: str, *arguments: Any) -> list[tuple[Any, ...]]:
        rows = await self._store.read(
            f"SELECT message_id, id, data FROM part WHERE {where} ORDER BY rowid", *arguments
        )
        return [row for row in rows if isinstance(row[1], str)]


def counted(messages: Iterable[MessageJSON]) -> Usage:
    """The counters of these messages, without the context."""
    usage = Usage()
    for message in messages:
        info = message["info"]
        usage.messages += 1
        if info["role"] == "assistant":
            add_tokens(usage.tokens, info["tokens"])
            cost = info.get("cost")
            usage.cost = None if usage.cost is None or cost is None else usage.cost + cost
        for part in message["parts"]:
            usage.steps += part["type"] == "step-finish"
            if part["type"] == "tool" and _was_run(part):
                usage.tools[part["tool"]] = usage.tools.get(part["tool"], 0) + 1
    return usage


def _was_run(part: PartJSON) -> bool:
    """Whether the call of a tool part was executed; rejected and unknown ones never were."""
    return "title" in part["state"]
