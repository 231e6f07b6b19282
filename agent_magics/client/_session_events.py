"""The two ways to read a session's event stream: its bytes, and its events."""

from __future__ import annotations

import functools
from contextlib import aclosing
from typing import TYPE_CHECKING

from agent_magics.wire import WireEvent

from ._errors import ConnectionFailed
from ._protocol import why_lost
from ._stream import EventStream
from ._task_stream import Put

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["read_bytes", "read_events"]


async def read_events(api: Api, session_id: str, position: str | None, put: Put[WireEvent]) -> None:
    opener = functools.partial(api.open_events, session_id)
    stream = EventStream(opener, api.policy, position)
    try:
        await stream.open()
        while True:
            for item in await stream.take():
                if isinstance(item, WireEvent):
                    await put(item)
    finally:
        await stream.aclose()


async def read_bytes(api: Api, session_id: str, position: str | None, put: Put[bytes]) -> None:
    import httpx

    response = await api.open_events(session_id, position)
    try:
        async with aclosing(response):
            async for chunk in response.aiter_bytes():
                await put(chunk)
    except (httpx.TransportError, httpx.StreamError) as error:
        raise ConnectionFailed(f"The event stream ended: {why_lost(error)}.") from error
