"""The events of one session, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_magics.wire import StatusChanged, WireEvent

from ._channel import Channel
from ._errors import (
    AgentError,
    ConnectionFailed,
    EngineNotResponding,
    EngineStartError,
    ProtocolError,
    RateLimited,
    ServerError,
)
from ._protocol import why_lost
from ._sse import iter_events

if TYPE_CHECKING:
    import httpx

__all__ = ["EventStream", "OpenEvents", "StreamPolicy"]

OpenEvents = Callable[[str | None, bool], Awaitable["httpx.Response"]]
"""
`open_events(last_event_id, again)`: an open event stream, with a good status.

`again` is true after a broken connection, when an embedded engine may have to be started anew.
"""


_FIRST_TRIES = 3
"""Tries for a stream that never opened; whoever waits for it would rather know."""


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """
    How hard to try, in seconds.

    `heartbeat`: silence after which a connection is taken for dead (servers send something every
    10 s). `give_up`: how long reconnecting may fail before the stream ends with an error.
    `first_delay` and `longest_delay` bound the pause between two tries. `quiet`: how long a turn
    may bring no event before the server is asked whether it still runs.
    """

    heartbeat: float = 30.0
    give_up: float = 60.0
    first_delay: float = 0.05
    longest_delay: float = 2.0
    quiet: float = 20.0

    def delay(self, attempt: int) -> float:
        """The pause before try `attempt` (0, 1, ...), spread so that many clients do not march."""
        longest = min(self.longest_delay, self.first_delay * 2.0 ** min(attempt, 16))
        return longest * (0.5 + random.random() / 2)


class EventStream:
    """
    Numbered events of a session without gap and without duplicate, from the moment of `open()` or
    from the one after `last_event_id`.

    A task of its own reads and reconnects; `take()` hands out what came. Between the events stand
    `StatusChanged` items, "reconnecting" and "connected", which tell about the connection itself.
    """

    def __init__(
        self, open_events: OpenEvents, policy: StreamPolicy, last_event_id: str | None = None
    ) -> None:
        self._open_events = open_events
        self._policy = policy
        self._channel: Channel[WireEvent | StatusChanged] = Channel()
        self._connected: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_event_id = last_event_id
        self._last_seq = -1
        self._least_delay = 0.0
        self._progress = False

    async def open(self) -> None:
        """
        Connect; returns when the server has said that it is listening for us.

        Raises the typed error when that fails.
        """
        self._connected = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="agent-magics-events")
        await self._connected

    async def take(self, timeout: float | None = None) -> list[WireEvent | StatusChanged]:
        """
        The events that came, in order; empty after `timeout` seconds of none.

        Raises the error that ended the stream: it has no other end.
        """
        return await self._channel.take(timeout)

    async def aclose(self) -> None:
        """Close the connection. Harmless when repeated."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._channel.finish()

    async def _run(self) -> None:
        try:
            await self._read_on()
        except AgentError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(ConnectionFailed("The event stream was closed."))
            raise
        except Exception as error:
            failure = ProtocolError(f"The event stream could not be read: {error!r}")
            failure.__cause__ = error
            self._fail(failure)

    def _fail(self, error: AgentError) -> None:
        connected = self._connected
        if connected is not None and not connected.done():
            connected.set_exception(error)
            # Marked as seen: whoever waited in open() may be gone.
            connected.exception()
        self._channel.finish(error)

    async def _read_on(self) -> None:
        loop = asyncio.get_running_loop()
        failing_since: float | None = None
        attempt = 0
        again = False
        while True:
            self._progress = False
            started = loop.time()
            cause = await self._read_once(again)
            now = loop.time()
            stable = now - started > 2 * self._policy.longest_delay
            if failing_since is None or self._progress or stable:
                failing_since, attempt = now, 0
            hopeless = not self._is_open and attempt >= _FIRST_TRIES
            if hopeless or now - failing_since > self._policy.give_up:
                if isinstance(cause, EngineNotResponding):
                    raise cause
                raise ConnectionFailed(
                    f"The connection broke and could not be restored: {cause}"
                ) from cause
            again = True
            if self._is_open:
                await self._channel.put(StatusChanged("reconnecting", str(cause)))
            await asyncio.sleep(max(self._least_delay, self._policy.delay(attempt)))
            attempt += 1

    @property
    def _is_open(self) -> bool:
        return self._connected is not None and self._connected.done()

    async def _read_once(self, again: bool) -> Exception:
        """One connection, until it breaks: the reason. Raises when another try is pointless."""
        import httpx

        last_event_id = self._last_event_id
        if last_event_id is None and self._is_open:
            # Nothing numbered came yet, so nothing says where to go on: from the beginning.
            last_event_id = "0"
        try:
            response = await self._open_events(last_event_id, again)
        except EngineStartError:
            raise
        except (ConnectionFailed, ServerError, RateLimited) as error:
            if not self._is_open:
                raise
            return error
        try:
            async with (
                aclosing(response),
                aclosing(iter_events(response, self._set_least_delay)) as frames,
            ):
                async for frame in frames:
                    await self._handle(json.loads(frame.data), frame.id)
        except httpx.ReadTimeout:
            return ConnectionFailed(f"nothing came for {self._policy.heartbeat:g} s")
        except (httpx.TransportError, httpx.StreamError) as error:
            return ConnectionFailed(why_lost(error))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return ProtocolError(f"an event that cannot be read: {error!r}")
        return ConnectionFailed("the server closed the stream")

    def _set_least_delay(self, seconds: float) -> None:
        self._least_delay = min(seconds, self._policy.longest_delay)

    async def _handle(self, data: dict[str, Any], frame_id: str) -> None:
        event = WireEvent.from_json(data)
        if event.type == "server.connected":
            await self._greet(event)
            return
        if event.type == "server.heartbeat":
            return
        if frame_id:
            self._last_event_id = frame_id
        if event.seq is not None:
            if event.seq <= self._last_seq:
                return
            self._last_seq = event.seq
        self._progress = True
        await self._channel.put(event)

    async def _greet(self, event: WireEvent) -> None:
        position = event.properties.get("seq")
        if self._last_event_id is None and isinstance(position, int):
            self._last_event_id = str(position)
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)
        await self._channel.put(StatusChanged("connected"))
