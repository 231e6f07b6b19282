"""
Reading Server-Sent Events: `httpx_sse.EventSource` behind four guards.

`EventSource` alone yields an empty event for each comment after the first `id:`, loses the first
event after a byte order mark, reports an error status as a wrong content type, and believes the
charset that the response claims. Here the status and the content type are checked first, the text
is always UTF-8 without its mark, and only events with data come out.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar, cast

from ._errors import ProtocolError

if TYPE_CHECKING:
    import httpx
    from httpx_sse import ServerSentEvent

__all__ = ["MAX_FRAME", "SSE_HEADERS", "iter_events"]

SSE_HEADERS = {"Accept": "text/event-stream", "Cache-Control": "no-store"}

MAX_FRAME = 256 * 1024 * 1024
"""Bytes after which a frame that never ends is taken for an attack or a fault."""


class _Body:
    """The part of a response that `EventSource` uses: its type, and its text as UTF-8."""

    headers: ClassVar[Mapping[str, str]] = {"content-type": "text/event-stream"}

    def __init__(self, response: httpx.Response) -> None:
        self.since_event = 0
        self._response = response

    async def aiter_text(self) -> AsyncIterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        async for chunk in self._response.aiter_bytes():
            self.since_event += len(chunk)
            if self.since_event > MAX_FRAME:
                raise ProtocolError(f"an event of more than {MAX_FRAME} bytes")
            if text := decoder.decode(chunk):
                yield text


async def iter_events(
    response: httpx.Response, on_retry: Callable[[float], None] | None = None
) -> AsyncGenerator[ServerSentEvent, None]:
    """
    The events with data of an open response with a good status.

    `on_retry` gets the server's wish for the delay before a reconnect, in seconds. Raises
    `ProtocolError` when the response is no event stream. An unfinished last frame is dropped, as
    the standard says.
    """
    from httpx_sse import EventSource

    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "text/event-stream":
        raise ProtocolError(
            f"{response.request.url.path} answered {media_type or 'nothing'}, not an event stream"
        )
    body = _Body(response)
    async with aclosing(EventSource(cast("httpx.Response", body)).aiter_sse()) as events:
        async for event in events:
            body.since_event = 0
            if on_retry is not None and event.retry is not None and event.retry >= 0:
                on_retry(event.retry / 1000)
            if event.data:
                yield event
