"""
The bytes of a reply on their way from the model server to its SDK.

Here it is seen whether a reply is a stream at all, whether it came to its end, and how long its
server was silent; the SDKs tell none of this. What is wrong is raised as a `ReplyError`, in the
middle of what the SDK reads.
"""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2

from .._config import ProviderKind, TimeoutsConfig
from ._joining import JoinedStream, ReadAhead

__all__ = [
    "ASKED",
    "BadEncoding",
    "NotAStream",
    "ReplyCut",
    "ReplyError",
    "Silence",
    "StreamFailed",
    "watch_replies",
]

_STREAM = "text/event-stream"
_WANTED = re.compile(rb'"stream"\s*:\s*true')
_ERROR_PATIENCE = 30.0
"""Seconds for the body of an error or a redirect: its status tells the most."""
_MOST_OF_AN_ERROR = 1 << 20
_MOST_OF_A_PAGE = 1 << 16
_LAST_WORDS = 10.0
"""Seconds for what follows the end of a reply, such as the count of its tokens."""
_TAIL = 80
"""Bytes kept of what was read: what is looked for may be cut by the network."""

# In JSON the quotes within a text are escaped, so that no text can look like these.
_BEGINS = {"openai": b'"choices"', "anthropic": b'"message_start"'}
_ENDS = {
    "openai": (
        (b'"finish_reason"', re.compile(rb'"finish_reason"\s*:\s*"[^"]')),
        (b"[DONE]", re.compile(rb"[\r\n]data: ?\[DONE\]")),
    ),
    "anthropic": (
        (b'"stop_reason"', re.compile(rb'"stop_reason"\s*:\s*"[^"]')),
        (b"message_stop", re.compile(rb'"message_stop"|[\r\n]event: ?message_stop')),
    ),
}
"""
Each with what must be in it: a search that begins with a class of characters is slow.

Some servers send an empty reason with each delta: that ends nothing.
"""
_FAILED = re.compile(rb'[\r\n]data: ?(\{[^\r\n]*"object"\s*:\s*"error"[^\r\n]*)[\r\n]')
_NO_OBJECT = re.compile(rb'[\r\n]data: ?([\["\dtfn-](?!DONE\])[^\r\n]*)[\r\n]')
"""Frames of JSON that are no objects: the SDKs fall over them."""
_CONTENT = re.compile(
    rb'"(?:content|text|thinking|reasoning|reasoning_content|reasoning_text|thought|partial_json|'
    rb'arguments|name|refusal|data|signature|finish_reason|stop_reason)"\s*:\s*"[^"]'
)
_BEGUN = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:[^\s\w]|\w+[^\w]|\w{8})")
"""Enough of a reply to see what it is."""
_FRAME = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*[<{\[]")


class ReplyError(httpx2.TransportError):
    """Root of what can be wrong with the bytes of a reply."""


class ReplyCut(ReplyError):
    """The connection was closed in order, but the reply had not come to its end."""


class BadEncoding(ReplyError):
    """The bytes are not compressed as their head says."""


class NotAStream(ReplyError):
    """Something else than an event stream came: the beginning of it is `body`."""

    def __init__(self, status: int, kind: str, body: bytes) -> None:
        super().__init__(f"not an event stream: {kind or 'no content type'}")
        self.status = status
        self.kind = kind
        self.body = body


class StreamFailed(NotAStream):
    """The stream holds an error, in `body`, or nothing that the protocol knows."""


class Silence(ReplyError):
    """The server was silent for longer than `seconds`; `limit` and `key` name the setting."""

    def __init__(self, limit: str, seconds: float, key: str) -> None:
        super().__init__(f"nothing for {seconds:g} s")
        self.limit = limit
        self.seconds = seconds
        self.key = key


ASKED = "agent_magics.asked"
"""The extension of a request that tells when its last byte was sent, as `time.monotonic`."""
_GZIP = b"\x1f"
_ENCODINGS = ("gzip", "x-gzip", "deflate")

Hook = Callable[[httpx2.Response], Awaitable[None]]


def watch_replies(timeouts: TimeoutsConfig, protocol: ProviderKind) -> Hook:
    """A response hook for the HTTP client of the SDK that speaks this protocol."""

    async def hook(response: httpx2.Response) -> None:
        request = response.request
        kind = response.headers.get("content-type", "")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        patience: dict[str, float | None] = request.extensions.get("timeout", {})
        if response.has_redirect_location:
            response.stream = _Brief(response.stream)
            return
        # A redirect makes a GET of the request, for instance of a login page.
        if request.method != "POST" and not kind.startswith("text/html"):
            return
        unknown = _decode(response)
        if response.status_code >= 400:
            patience["read"] = None
            response.stream = _Brief(response.stream)
            return
        if not _is_stream_wanted(request):
            return
        patience["read"] = None
        if response.status_code >= 300:
            raise NotAStream(response.status_code, kind, b"")
        asked: float | None = request.extensions.get(ASKED)
        watched = _Watched(ReadAhead(response.stream), timeouts, protocol, asked, unknown)
        response.stream = JoinedStream(watched)
        await watched.look(response.status_code, kind)

    return hook


def _decode(response: httpx2.Response) -> str:
    """
    Decompress what comes, whatever the library would make of it; an encoding not known here.

    Servers and proxies name what is none (`none`, `identity`, `utf-8`), so that the bytes decide.
    """
    named = response.headers.get("content-encoding", "").lower().split(",")
    encodings = [name for part in named if (name := part.strip())]
    if not all(name in _ENCODINGS for name in encodings):
        if response.status_code < 300:
            response.headers.pop("content-encoding")
        return ", ".join(encodings)
    for encoding in reversed(encodings):
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Decoded(response.stream, encoding)
    response.headers.pop("content-encoding", None)
    return ""


def _is_stream_wanted(request: httpx2.Request) -> bool:
    try:
        return request.method != "POST" or _WANTED.search(request.content) is not None
    except httpx2.RequestNotRead:  # sent again to where it was redirected
        return True


class _Brief(httpx2.AsyncByteStream):
    """The body of an error: neither its length nor its time is up to the server."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._bytes = stream.__aiter__()
        self._left = _MOST_OF_AN_ERROR
        self._end = time.monotonic() + _ERROR_PATIENCE

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        seconds = self._end - time.monotonic()
        if self._left <= 0 or seconds <= 0:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(seconds) as patience:
                data = await anext(self._bytes)
        except TimeoutError:
            if not patience.expired():
                raise
            raise StopAsyncIteration from None
        except BadEncoding:
            raise
        except httpx2.TransportError:  # the status has been told
            raise StopAsyncIteration from None
        self._left -= len(data)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Decoded(httpx2.AsyncByteStream):
    """Decompressed here: a damaged stream is an error of the reply, not one of the library."""

    def __init__(self, stream: httpx2.AsyncByteStream, encoding: str) -> None:
        self._stream = stream
        self._bytes = stream.__aiter__()
        self._encoding = encoding
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._begun = False
        self._held = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = self._held + await anext(self._bytes)
        self._held = b""
        if not self._begun and len(data) < 2:  # too little to tell one kind from the other
            self._held = data
            return b""
        try:
            text = self._decoded(data)
        except zlib.error as error:
            raise BadEncoding(f"not {self._encoding}") from error
        self._begun = True
        return text

    def _decoded(self, data: bytes) -> bytes:
        try:
            text = self._decoder.decompress(data)
        except zlib.error:
            if self._begun or self._encoding != "deflate":
                raise
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)  # without zlib's own head
            text = self._decoder.decompress(data)
        # A file of gzip may be followed by another one; some servers make one of each delta.
        while self._decoder.eof and (rest := self._decoder.unused_data)[:1] == _GZIP:
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
            text += self._decoder.decompress(rest)
        return text

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Watched(httpx2.AsyncByteStream):
    def __init__(
        self,
        stream: httpx2.AsyncByteStream,
        timeouts: TimeoutsConfig,
        protocol: ProviderKind,
        asked: float | None,
        unknown: str,
    ) -> None:
        self._stream = stream
        self._bytes = stream.__aiter__()
        self._timeouts = timeouts
        self._unknown = unknown
        """An encoding that is not undone."""
        self._begins, self._ends = _BEGINS[protocol], _ENDS[protocol]
        self._held: list[bytes] = []
        self._head = b""
        self._spoken = False
        """Whether anything came that the protocol knows."""
        self._tail = b"\n"
        self._line = bytearray(b"\n")
        """The beginning of a line whose end has not come."""
        self._failure: StreamFailed | None = None
        self._begun = False
        self._ended = False
        self._asked = time.monotonic() if asked is None else asked
        self._end = 0.0
        """When the end of the reply was seen."""
        self._without_content = 0.0
        """Seconds waited since the last content."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return self._held.pop(0) if self._held else await self._next()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def look(self, status: int, kind: str) -> None:
        """Read the beginning. Raises NotAStream, and what reading raises."""
        head = b""
        while not _BEGUN.match(head):
            try:
                data = await self._next()
            except StopAsyncIteration:
                raise NotAStream(status, kind, head) from None
            self._held.append(data)
            head += data
        if self._unknown and not head.isascii():
            raise BadEncoding(self._unknown)
        if _FRAME.match(head) or (kind.startswith(_STREAM) and not _PAGE.match(head)):
            return
        while len(head) < _MOST_OF_A_PAGE:
            try:
                head += await self._next()
            except (StopAsyncIteration, httpx2.TransportError):
                break
        raise NotAStream(status, kind, head)

    async def _next(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        began = time.monotonic()
        limit, seconds = self._limit()
        try:
            async with asyncio.timeout(seconds) as patience:
                data = await anext(self._bytes)
        except TimeoutError:
            if not patience.expired():
                raise
            if self._ended:
                raise StopAsyncIteration from None
            longest: float = getattr(self._timeouts, limit)
            raise Silence(limit, longest, self._timeouts.key) from None
        except StopAsyncIteration:
            if self._begun and not self._spoken:
                raise StreamFailed(200, _STREAM, _data(self._head)) from None
            if self._ended or not self._begun:
                raise
            raise ReplyCut("the reply has no end") from None
        except httpx2.TransportError:
            if self._ended:  # all has been said; how the connection ends does not matter
                raise StopAsyncIteration from None
            raise
        return self._take(data, time.monotonic() - began)

    def _limit(self) -> tuple[str, float]:
        """Which setting holds now, and for how many seconds."""
        timeouts = self._timeouts
        if not self._begun:
            return "first_byte", max(0.0, self._asked + timeouts.first_byte - time.monotonic())
        if self._ended:
            left = max(0.0, self._end + _LAST_WORDS - time.monotonic())
            return "between_bytes", min(timeouts.between_bytes, left)
        left = max(0.0, timeouts.content - self._without_content)
        if left < timeouts.between_bytes:
            return "content", left
        return "between_bytes", timeouts.between_bytes

    def _take(self, data: bytes, waited: float) -> bytes:
        """Look at what came; as much of it as is good."""
        self._begun = self._begun or bool(data)
        seen = self._tail + data
        if not self._ended and any(
            literal in seen and end.search(seen) for literal, end in self._ends
        ):
            self._ended, self._end = True, time.monotonic()
        if not self._spoken:
            self._spoken = self._begins in seen
            self._head = (self._head + data)[:_MOST_OF_A_PAGE]
        self._without_content += waited
        if any(found.end() > len(self._tail) for found in _CONTENT.finditer(seen)):
            self._without_content = 0.0
        self._tail = seen[-_TAIL:]
        return self._up_to_failure(data)

    def _up_to_failure(self, data: bytes) -> bytes:
        if b"\n" not in data and b"\r" not in data:
            if len(self._line) < _MOST_OF_A_PAGE:  # else no error: what follows does not matter
                self._line += data
            return data
        seen = bytes(self._line) + data
        failed = _FAILED.search(seen) if b'"error"' in seen else None
        if failed is None and seen.count(b"data:") != seen.count(b"data: {"):
            failed = _NO_OBJECT.search(seen)
        if failed is None:
            self._line = bytearray(seen[max(seen.rfind(b"\n"), seen.rfind(b"\r")) :])
            return data
        self._failure = StreamFailed(200, _STREAM, failed[1])
        good = failed.start() + 1 - len(self._line)
        if good <= 0:
            raise self._failure
        return data[:good]


def _data(frames: bytes) -> bytes:
    """The first of the frames that holds anything; what came, where it was none."""
    found = (
        line.removeprefix(b"data:").strip() for line in frames.splitlines() if line[:5] == b"data:"
    )
    head = b"" if _FRAME.match(frames) else frames
    return next((data for data in found if data not in (b"", b"[DONE]")), head)
