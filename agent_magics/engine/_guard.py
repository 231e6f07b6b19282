"""
Connections that do not get on: half a request, a body or an answer that stands still, idle ones.

Whoever has shown no token is a stranger. Of strangers there are few at a time, each for seconds,
so they can't take the places of those who may come in, and `/global/health` always answers.
"""

from __future__ import annotations

import asyncio
import functools
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ._access import KNOWN

__all__ = ["ConnectionLimits", "Guard", "GuardedProtocol"]

_CHUNK = 16 << 10
"""Bytes that a reader takes at least within the time of `answer`."""
_ANSWERS = 2
"""That a stranger gets on one connection."""
_HEAD = 64 << 10
"""Bytes of a request's head."""


def _descriptors(share: int) -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(8, soft // share)


@dataclass(frozen=True)
class ConnectionLimits:
    """
    Times in seconds.

    `head`: from a connection or the first byte of a request until its head is complete; also how
    long a stranger may be idle. `body`: between two pieces of a body. `answer`: in which a reader
    takes a piece of its answer. Streams in which nothing happens may last as long as they like.
    `strangers` and `connections` are numbers of connections at a time.
    """

    head: float = 10.0
    body: float = 60.0
    answer: float = 300.0
    strangers: int = 256
    connections: int = 2048

    @classmethod
    def of_process(cls) -> ConnectionLimits:
        """No more than the open files of this process allow."""
        return cls(
            strangers=min(cls.strangers, _descriptors(4)),
            connections=min(cls.connections, _descriptors(2)),
        )


class Guard:
    """All connections of a server, and the task that ends those which do not get on."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits.of_process()
        self._connections: dict[GuardedProtocol, None] = {}  # oldest first
        self._strangers: dict[GuardedProtocol, None] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: GuardedProtocol) -> None:
        """One more; another has to go when there are too many."""
        self._connections[connection] = None
        self._strangers[connection] = None
        if len(self._strangers) > self.limits.strangers:
            for one in [one for one in self._strangers if one.is_known]:
                del self._strangers[one]
        if len(self._strangers) > self.limits.strangers:
            self._oldest_of_the_most().abort()
        elif len(self._connections) > self.limits.connections:
            idle = (one for one in self._connections if not one.is_busy)
            next(idle, connection).abort()

    def remove(self, connection: GuardedProtocol) -> None:
        """It has ended."""
        self._connections.pop(connection, None)
        self._strangers.pop(connection, None)

    def _oldest_of_the_most(self) -> GuardedProtocol:
        """Of the address with most strangers, so that others' stay."""
        peers = Counter(one.peer for one in self._strangers)
        most = max(peers, key=peers.__getitem__)
        return next(one for one in self._strangers if one.peer == most)

    @property
    def accepted_at_once(self) -> int:
        """Fewer than may be there: what strangers have sent is read before they are sent away."""
        return max(1, min(64, self.limits.strangers // 4))

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn's `http` takes."""
        return functools.partial(GuardedProtocol, guard=self)  # type: ignore[return-value]

    async def run(self) -> None:
        """Look at all of them, several times in the shortest of the times, until cancelled."""
        limits = self.limits
        pause = min(1.0, limits.head / 4, limits.body / 4, limits.answer / 4)
        while True:
            await asyncio.sleep(pause)
            self.look()

    def look(self) -> None:
        """End those that do not get on."""
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.is_late(now, self.limits):
                connection.abort()


class GuardedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's, which by itself waits for ever."""

    def __init__(self, *args: Any, guard: Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self._known = False
        self._waiting_since = self._heard = time.monotonic()
        self._head_since: float | None = None
        self._head_size = 0
        self._answers = 0
        self._has_rest = False  # of a body, after it was answered
        self._behind: tuple[float, int] | None = None  # since when, with how many bytes
        self.peer = ""

    @property
    def is_known(self) -> bool:
        """A request with the token has come this way."""
        self._known = self._known or bool(self.scope and self.scope.get(KNOWN))
        return self._known

    @property
    def is_busy(self) -> bool:
        """A request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def abort(self) -> None:
        """End it now, whatever is under way."""
        self._guard.remove(self)
        self.transport.abort()

    def is_late(self, now: float, limits: ConnectionLimits) -> bool:
        """It had its time."""
        if not self.is_known:
            return now - self._waiting_since > limits.head
        if self._reads_no_more(now, limits.answer):
            return True
        if self.is_busy:
            return self._sends_no_more(now, limits.body)
        return self._head_since is not None and now - self._head_since > limits.head

    def _reads_no_more(self, now: float, patience: float) -> bool:
        if self._behind is None:
            return False
        since, size = self._behind
        left = self.transport.get_write_buffer_size()
        if left > size or size - left >= min(size, _CHUNK):  # it takes some, and gets more
            self._behind = (now, left)
            return False
        return now - since > patience

    def _sends_no_more(self, now: float, patience: float) -> bool:
        cycle = self.cycle
        if not cycle.more_body or cycle.waiting_for_100_continue or self.flow.read_paused:
            return False
        return now - self._heard > patience

    # uvicorn's

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self._guard.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        if not self.is_busy:
            if self._head_since is None:
                self._head_since = self._heard
            self._head_size += len(data)
        super().data_received(data)
        if self.is_busy:
            self._head_since, self._head_size = None, 0
            self._has_rest = False
        elif self._head_size > _HEAD and not self._has_rest:
            self.abort()

    def on_response_complete(self) -> None:
        self._known = self.is_known
        self._waiting_since = time.monotonic()
        self._has_rest = self.cycle.more_body
        self._answers += 1
        if not self._known and self._answers >= _ANSWERS:
            self.transport.close()  # else what is sent ahead keeps the server busy
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._behind = (time.monotonic(), self.transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        self._behind = None
        super().resume_writing()
