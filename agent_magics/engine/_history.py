"""What the model remembers: one row of messages per turn, rewritten after every step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    repair_messages,
)
from pydantic_core import PydanticSerializationError

from agent_magics.wire import ErrorJSON

from ._context import since_summary, starts_with_summary
from ._records import sound_part
from ._store import Store
from ._text import well_formed

__all__ = ["ABORTED", "History", "concluded", "failed_result", "prompt_text", "unanswered"]

log = logging.getLogger(__name__)

_REBUILT = (
    "[What was said in this turn was damaged on the disk. These are its texts; which tools were "
    "called is not known any more.]"
)
_LOST = "[The answer is lost.]"
_ANSWERS = """
CASE WHEN json_valid(message.data) THEN json_extract(message.data, '$.parentID') = ? ELSE 0 END
"""
ABORTED = "MessageAbortedError"
_NOT_RUN = "The turn ended before this call had a result."
_EMPTY = "[I replied with nothing.]"
_NOTES = {
    ABORTED: "[The user aborted this turn here, before it was finished.]",
    "ContentFilterError": "[This reply was refused or cut off by the provider's content rules.]",
    "ContextOverflowError": "[This turn ended here: the context window was full.]",
    "EngineStoppedError": "[The engine stopped here, in the middle of this turn.]",
    "MessageOutputLengthError": "[This reply was cut off here by the token limit of one reply.]",
    "TurnLimitError": "[This turn was ended here by its limit, before it was finished.]",
}
_FAILED = "[This reply was cut off or failed here, before the turn was finished.]"


def prompt_text(parts: Sequence[Mapping[str, Any]]) -> str:
    """A prompt as text, for a turn that ended before the model was asked."""
    return "\n\n".join(
        part["text"]
        if part["type"] == "text"
        else f"[file: {part.get('filename') or part['mime']}]"
        for part in parts
        if part["type"] in ("text", "file")
    )


def concluded(
    messages: Sequence[ModelMessage], prompt: str, error: ErrorJSON | None
) -> list[ModelMessage]:
    """
    The messages of a turn that is over: they end with what the agent said last.

    A turn that was aborted, failed or was cut off says so there, so that the model knows of it in
    the next one. As a note of the agent's, because many servers want the roles to alternate.
    `prompt` stands in when nothing was said. Calls without a result get one that is an error.
    """
    if not messages and error is not None and error["name"] == "ContextOverflowError":
        return []  # a prompt that is too large would make every later turn fail, too
    said = _with_errors(messages) or [ModelRequest(parts=[UserPromptPart(prompt)])]
    if isinstance(last := said[-1], ModelResponse) and (calls := unanswered(last)):
        said.append(ModelRequest(parts=[failed_result(call, _NOT_RUN) for call in calls]))
    note = "" if error is None else _NOTES.get(error["name"], _FAILED)
    if not isinstance(last := said[-1], ModelResponse):
        said.append(ModelResponse(parts=[TextPart(note or _EMPTY)]))
    elif note or not any(isinstance(part, TextPart) and part.content for part in last.parts):
        said[-1] = replace(last, parts=[*last.parts, TextPart(note or _EMPTY)])
    return said


def _with_errors(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """With calls that were interrupted as errors, which a model can't take for results."""

    def part_of(part: Any) -> Any:
        is_cut = isinstance(part, ToolReturnPart) and part.outcome == "interrupted"
        return replace(part, outcome="failed") if is_cut else part

    return [
        replace(message, parts=[part_of(part) for part in message.parts])
        if isinstance(message, ModelRequest)
        else message
        for message in messages
    ]


def unanswered(response: ModelResponse) -> list[ToolCallPart]:
    """The calls of a reply that is the last message."""
    return [part for part in response.parts if isinstance(part, ToolCallPart)]


def failed_result(call: ToolCallPart, message: str) -> ToolReturnPart:
    """What the model gets of a call that has no result."""
    return ToolReturnPart(call.tool_name, message, call.tool_call_id, outcome="failed")


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
        except (PydanticSerializationError, UnicodeError):
            try:  # the model's text was no text
                data = ModelMessagesTypeAdapter.dump_json(_as_text(list(messages)))
            except (PydanticSerializationError, UnicodeError) as error:
                # The turn goes on, its last good state stays.
                log.warning("a turn's messages can't be stored: %s", type(error).__name__)
                return
        self._store.put("UPDATE turn SET history = ? WHERE message_id = ?", data, message_id)

    def end(self, message_id: str) -> None:
        self._store.put("UPDATE turn SET running = 0 WHERE message_id = ?", message_id)

    async def load(self, session_id: str) -> list[ModelMessage]:
        """
        The messages of the session's turns since the last summary, fit for a model.

        Calls that a crash or an abort left without a result get one that says so; without that
        the next run would be refused, or would execute them. A turn that can't be read any more is
        replaced by the texts of its messages.
        """
        rows = await self._store.read(
            "SELECT message_id, history FROM turn WHERE session_id = ? ORDER BY rowid DESC",
            session_id,
        )
        messages: list[ModelMessage] = []
        for message_id, data in rows:
            said = _decoded(data)
            if said is None:
                said = await self._rebuilt(session_id, message_id)
            turn = since_summary(said)
            messages = turn + messages
            if starts_with_summary(turn):
                break
        return _with_errors(repair_messages(messages))

    def unfinished(self) -> list[tuple[str, str, list[ModelMessage]]]:
        """`(session id, message id, messages)` of the turns that a crash cut."""
        rows = self._store.query(
            "SELECT session_id, message_id, history FROM turn WHERE running ORDER BY rowid"
        )
        return [(session, message, _decoded(data) or []) for session, message, data in rows]

    async def _rebuilt(self, session_id: str, message_id: Any) -> list[ModelMessage]:
        """A turn as far as its messages tell it."""
        log.warning("what the model was told in the turn %s can't be read", message_id)
        rows = await self._store.read(
            "SELECT message.id, part.id, part.data FROM message "
            "JOIN part ON part.message_id = message.id WHERE message.session_id = ? "
            f"AND (message.id = ? OR {_ANSWERS}) ORDER BY message.rowid, part.rowid",
            session_id,
            message_id,
            message_id,
        )
        asked, answered = [_REBUILT], list[str]()
        for owner, part_id, data in rows:
            part = sound_part(part_id, owner, session_id, data)
            if part["type"] == "text":
                (asked if owner == message_id else answered).append(part.get("text", ""))
        request = ModelRequest(parts=[UserPromptPart("\n".join(asked))])
        return [request, ModelResponse(parts=[TextPart("\n".join(answered) or _LOST)])]


def _as_text(value: Any) -> Any:
    """The same with every text one that can be encoded."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        sound = copy(value)  # the library's own `__init__` takes other arguments
        for field in fields(value):
            object.__setattr__(sound, field.name, _as_text(getattr(value, field.name)))
        return sound
    return value


def _decoded(data: Any) -> list[ModelMessage] | None:
    """The messages of a row; None where they can't be read."""
    try:
        return ModelMessagesTypeAdapter.validate_json(data)
    except (ValueError, TypeError, RecursionError):
        return None
