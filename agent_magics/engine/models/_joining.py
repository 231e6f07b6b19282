"""
Deltas that lie ready together become one.

A fast provider sends a thousand deltas a second and more. The SDK and the agent library need half
a millisecond for each of them, so a reply would lag behind its model. Here, before they are
decoded, neighbours that arrived in one go and differ in nothing but their text are joined into
one. A slow stream passes as it is, and at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx2

__all__ = ["JoinedStream", "ReadAhead", "join_frames"]

_LINGER = 0.004
"""Seconds between two reads of a stream: what comes within is read together."""

_MOST_UNREAD = 1 << 20
_BREAK = b"\n\n"
_OPENAI_TEXTS = ("content", "reasoning_content", "reasoning")
_ANTHROPIC_TEXTS = ("text", "thinking", "partial_json")
_VOLATILE = "obfuscation"
"""OpenAI's random padding of a delta."""


class ReadAhead(httpx2.AsyncByteStream):
    """
    Reads ahead while the reader is busy: what arrived meanwhile comes as one piece.

    No async generator: whoever stops in the middle does not close those, and several of them in
    one another can't be closed by the garbage collector.
    """

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._unread = bytearray()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        loop = asyncio.get_running_loop()
        last = loop.time()
        if self._reading is None:
            last = 0.0
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(lambda _: self._changed.set())
        while self._unread or not self._reading.done():
            await self._changed.wait()
            if not self._reading.done() and loop.time() - last < _LINGER:
                await asyncio.sleep(_LINGER)
            block = bytes(self._unread)
            self._unread.clear()
            if not self._reading.done():
                self._changed.clear()
            self._taken.set()
            if block:
                return block
        self._reading.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        try:
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait([self._reading])
                if not self._reading.cancelled():
                    self._reading.exception()  # whoever leaves early does not want to know
        finally:
            await self._stream.aclose()

    async def _read(self) -> None:
        async for data in self._stream:
            self._unread += data
            self._changed.set()
            if len(self._unread) > _MOST_UNREAD:
                self._taken.clear()
                await self._taken.wait()


class JoinedStream(httpx2.AsyncByteStream):
    """Whole frames at a time, with the deltas of each piece of `stream` joined."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._bytes = stream.__aiter__()
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        async for block in self._bytes:
            whole, found, self._rest = (self._rest + block).rpartition(_BREAK)
            if found:
                return join_frames(whole + found)
        if not self._rest:
            raise StopAsyncIteration
        rest, self._rest = self._rest, b""
        return rest

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Delta(NamedTuple):
    """A frame whose only text is `holder[key]`."""

    head: bytes
    data: dict[str, Any]
    holder: dict[str, Any]
    key: str


def join_frames(block: bytes) -> bytes:
    """Whole frames of an event stream, neighbouring deltas of the same text joined."""
    if b"\r" in block or block.count(_BREAK) < 2:
        return block
    return b"".join(_joined(block.removesuffix(_BREAK).split(_BREAK)))


def _joined(frames: list[bytes]) -> Iterator[bytes]:
    run: list[str] = []
    first: _Delta | None = None
    kept = b""
    for frame in frames:
        delta = _delta(frame)
        text = "" if delta is None else delta.holder.pop(delta.key)
        if delta is not None and first is not None and _same(first, delta):
            run.append(text)
            continue
        yield from _frame(first, run, kept)
        first, run, kept = delta, [text], frame
    yield from _frame(first, run, kept)


def _same(first: _Delta, other: _Delta) -> bool:
    """Whether two deltas, their texts taken out, say the same."""
    return (first.head, first.key, first.data) == (other.head, other.key, other.data)


def _frame(first: _Delta | None, run: list[str], kept: bytes) -> Iterator[bytes]:
    if first is None or len(run) == 1:
        if kept:
            yield kept + _BREAK
        return
    first.holder[first.key] = "".join(run)
    data = json.dumps(first.data, separators=(",", ":"))
    yield first.head + b"data: " + data.encode() + _BREAK


def _delta(frame: bytes) -> _Delta | None:
    head, line_break, line = frame.rpartition(b"\n")
    head += line_break
    if not line.startswith(b"data:") or b"data:" in head:
        return None
    try:
        value = json.loads(line.removeprefix(b"data:"))
    except ValueError:
        return None
    slot = _text_of(value)
    if slot is None:
        return None
    value.pop(_VOLATILE, None)
    return _Delta(head, value, *slot)


def _text_of(value: Any) -> tuple[dict[str, Any], str] | None:
    """Where the text of a delta stands, when it has just one."""
    match value:
        case {"type": "content_block_delta", "delta": dict() as delta}:
            return _only(delta, _ANTHROPIC_TEXTS)
        case {"choices": [{"delta": {"tool_calls": [{"function": dict() as call}]} as delta}]}:
            return None if _only(delta, _OPENAI_TEXTS) else _only(call, ("arguments",))
        case {"choices": [{"delta": dict() as delta}]}:
            return _only(delta, _OPENAI_TEXTS)
    return None


def _only(holder: dict[str, Any], keys: tuple[str, ...]) -> tuple[dict[str, Any], str] | None:
    found = [key for key in keys if isinstance(text := holder.get(key), str) and text]
    return (holder, found[0]) if len(found) == 1 else None
