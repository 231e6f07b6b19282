"""Server-sent events: how frames are made and streams end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from sse_starlette import EventSourceResponse, ServerSentEvent

from ._ids import new_id
from ._log import Event, Subscription
from ._text import dumps

__all__ = ["event_frames", "event_response", "frame", "stream_response"]

_PING_INTERVAL = 10


def frame(data: str, *, event: str = "message", number: int | None = None) -> str:
    """One frame. `data` must be JSON, so that it has no line breaks."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {event}\ndata: {data}\n\n"


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping")


async def _encoded(frames: AsyncGenerator[str, None]) -> AsyncIterator[bytes]:
    async with aclosing(frames):
        async for text in frames:
            yield text.encode()


def stream_response(frames: AsyncGenerator[str, None]) -> EventSourceResponse:
    """A stream of frames, several at a time if they come so."""
    return EventSourceResponse(
        _encoded(frames),
        ping=_PING_INTERVAL,
        ping_message_factory=_ping,
        sep="\n",
    )


async def event_frames(
    subscription: Subscription, *, wrapped: bool = False
) -> AsyncGenerator[str, None]:
    """The log as frames; `wrapped` in the way of opencode's /global/event."""
    try:
        yield _connected(subscription.start, wrapped)
        async for batch in subscription:
            yield "".join(
                _event_frame(event, subscription.number(event), wrapped) for event in batch
            )
    finally:
        subscription.close()


def _connected(start: int, wrapped: bool) -> str:
    """The first frame; it names the number to resume from if nothing else comes."""
    properties = {"seq": start}
    data = dumps({"id": new_id("evt"), "type": "server.connected", "properties": properties})
    return frame(f'{{"payload":{data}}}' if wrapped else data)


def _event_frame(event: Event, number: int, wrapped: bool) -> str:
    data = event.json(number)
    if wrapped:
        data = f'{{"directory":"/workspace","payload":{data}}}'
    return frame(data, number=number)


def event_response(subscription: Subscription, *, wrapped: bool = False) -> EventSourceResponse:
    """A reader of the log; it starts where the subscription does, with `server.connected`."""
    return stream_response(event_frames(subscription, wrapped=wrapped))
