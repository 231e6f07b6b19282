"""One model response as it streams in, turned into parts and deltas."""

from __future__ import annotations

from typing import Any

from pydantic_ai.messages import (
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from agent_magics.wire import PartJSON, TokensJSON

from ._calls import ToolCalls
from ._ids import new_id, now_ms
from ._messages import MessageBook
from ._text import well_formed

__all__ = ["ResponseParts", "new_part", "response_tokens"]


def new_part(session_id: str, message_id: str, type: str, **values: Any) -> PartJSON:
    part: dict[str, Any] = {
        "id": new_id("prt"),
        "sessionID": session_id,
        "messageID": message_id,
        "type": type,
        **values,
    }
    return part  # type: ignore[return-value]


class _OpenText:
    """A text or reasoning part that is still being written."""

    def __init__(self, part: PartJSON) -> None:
        self.part = part
        self.pieces: list[str] = []


class ResponseParts:
    """
    The parts of one response of the model.

    Text and reasoning parts appear with their first character, so that empty ones (a signature
    without text, say) never do.
    """

    def __init__(
        self, book: MessageBook, calls: ToolCalls, session_id: str, message_id: str
    ) -> None:
        self._book = book
        self._calls = calls
        self._ids = (session_id, message_id)
        self._kinds: dict[int, str] = {}
        self._texts: dict[int, _OpenText] = {}
        self._tools: dict[int, PartJSON] = {}

    @property
    def begun(self) -> bool:
        """Whether anything came that a reader may have seen."""
        return bool(self._kinds or self._tools)

    def handle(self, event: object) -> None:
        """One event of the stream; those that mean nothing to a reader are ignored."""
        if isinstance(event, PartDeltaEvent):
            self._delta(event)
        elif isinstance(event, PartStartEvent):
            self._start(event)
        elif isinstance(event, PartEndEvent):
            self._end(event)

    def close(self) -> None:
        """Close what a cut stream left open. Tool parts belong to `ToolCalls`."""
        for index in list(self._texts):
            self._close_text(index)

    def _start(self, event: PartStartEvent) -> None:
        part, index = event.part, event.index
        if isinstance(part, TextPart | ThinkingPart):
            self._kinds[index] = "text" if isinstance(part, TextPart) else "reasoning"
            self._add_text(index, part.content)
        elif isinstance(part, ToolCallPart):
            self._tools[index] = self._calls.open(part)
            if isinstance(part.args, str):
                self._add_raw(index, part.args)

    def _delta(self, event: PartDeltaEvent) -> None:
        delta = event.delta
        if isinstance(delta, TextPartDelta | ThinkingPartDelta):
            self._add_text(event.index, delta.content_delta)
        elif isinstance(delta, ToolCallPartDelta) and isinstance(delta.args_delta, str):
            self._add_raw(event.index, delta.args_delta)

    def _end(self, event: PartEndEvent) -> None:
        if isinstance(event.part, ToolCallPart):
            if isinstance(event.part.args, str):  # half a pair of surrogates is no JSON
                event.part.args = well_formed(event.part.args)
            if event.index in self._tools:
                self._calls.arguments_complete(self._tools[event.index], event.part)
        else:
            self._close_text(event.index)

    def _add_text(self, index: int, text: str | None) -> None:
        if not text or index not in self._kinds:
            return
        opened = self._texts.get(index)
        if opened is None:
            time = {"start": now_ms()}
            part = new_part(*self._ids, self._kinds[index], text="", time=time)
            self._book.save_part(part)
            opened = self._texts[index] = _OpenText(part)
        opened.pieces.append(text)
        self._book.add_delta(opened.part, "text", text)

    def _add_raw(self, index: int, text: str) -> None:
        if text and index in self._tools:
            self._book.add_delta(self._tools[index], "state.raw", text)

    def _close_text(self, index: int) -> None:
        opened = self._texts.pop(index, None)
        if opened is not None:
            opened.part["text"] = well_formed("".join(opened.pieces))
            opened.part["time"]["end"] = now_ms()
            self._book.save_part(opened.part)


def response_tokens(response: ModelResponse) -> TokensJSON:
    """Tokens of one response; `input` without what the provider's cache read or wrote."""
    usage = response.usage
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return {
        "input": max(0, usage.input_tokens - cached),
        "output": usage.output_tokens,
        "reasoning": (usage.details or {}).get("reasoning_tokens", 0),
        "cache": {"read": usage.cache_read_tokens, "write": usage.cache_write_tokens},
    }
