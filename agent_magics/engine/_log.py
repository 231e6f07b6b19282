"""
The numbered event log.

Every event gets the next `position` of the whole log and the next `seq` of its stream (a session
together with its children), is stored, and only when it is committed is shown to readers. A number
that somebody has seen is therefore never given again, whatever happens to the process.

Deltas are stored too, but deleted when the part they belong to is closed: the closing event
carries the whole content. So is an event that tells a session's state, by the next one that does;
and all of a session that is deleted, but for the event that says so: of those the newest are kept,
for readers of everything that come back. A replay therefore may have holes in its numbers, never
in its effect.

Readers pull. Each has a position; what it has not read yet comes from a ring in memory that all
share, or from the store when the ring has moved on. A slow reader costs no memory.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ._ids import new_id, now_ms
from ._store import EventRow, Store
from ._text import dumps

__all__ = ["Event", "EventLog", "Subscription"]

_RING_EVENTS = 8192
_RING_BYTES = 8 << 20
_PAGE = 512
_FAREWELL = "farewell"
_MOST_FAREWELLS = 1000
"""Last events of deleted sessions that are kept."""


_FORGET_FAREWELLS = """
DELETE FROM event WHERE delta_of = ? AND position < (
    SELECT position FROM event WHERE delta_of = ? ORDER BY position DESC LIMIT 1 OFFSET ?)
"""


# A record that a damaged disk has spoiled is a hole in the numbers, as many others are.
_IS_SOUND = """
CASE WHEN typeof(body) = 'text' AND typeof(seq) = 'integer' AND typeof(stream) = 'text'
          AND typeof(session_id) = 'text' AND json_valid(body)
     THEN json_type(body, '$.type') = 'text' AND json_type(body, '$.properties') = 'object'
     ELSE 0 END
"""


class Event(NamedTuple):
    """One event. `body` is its JSON without the number, which depends on the reader."""

    position: int
    stream: str
    seq: int
    session_id: str
    body: str

    def json(self, number: int) -> str:
        """The whole JSON object, with `number` as its `seq`."""
        return f'{self.body[:-1]},"seq":{number}}}'


class EventLog:
    """
    `stream_of` maps a session's id to the id of the stream that carries its events: its root
    session's.
    """

    def __init__(self, store: Store, stream_of: Callable[[str], str]) -> None:
        self._store = store
        self._stream_of = stream_of
        ((self._position,),) = store.query("SELECT coalesce(max(position), 0) FROM event")
        self.committed: int = self._position
        self._seqs: dict[str, int] = {}
        self._forgotten: set[str] = set()
        self._pending: deque[Event] = deque()
        self._ring: list[Event] = []
        self._ring_bytes = 0
        # Weak: a stream that was never begun is never closed either.
        self._readers: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self.closed = False
        store.on_commit = self._on_commit

    def publish(
        self,
        session_id: str,
        type: str,
        properties: Mapping[str, Any],
        *,
        delta_of: str | None = None,
    ) -> None:
        """
        Number and store an event; readers see it when it is committed.

        `delta_of` is what `merge` will be called with when the event has become superfluous.
        """
        stream = self._stream_of(session_id)
        if stream in self._forgotten:
            delta_of = _FAREWELL
            self._store.put(_FORGET_FAREWELLS, _FAREWELL, _FAREWELL, _MOST_FAREWELLS - 2)
        seq = self.seq(stream) + 1
        self._seqs[stream] = seq
        self._position += 1
        body = dumps(
            {
                "id": new_id("evt"),
                "type": type,
                "properties": properties,
                "sessionID": session_id,
                "time": now_ms(),
            }
        )
        self._pending.append(Event(self._position, stream, seq, session_id, body))
        self._store.put_event(EventRow(self._position, stream, seq, session_id, delta_of, body))

    def merge(self, whole: str) -> None:
        """
        Forget the deltas of a part, or what was told of a session's state.

        Put it in one group with the event that makes them superfluous.
        """
        self._store.put("DELETE FROM event WHERE delta_of = ?", whole)

    def seq(self, stream: str) -> int:
        """The last number given in a stream; 0 when there is none."""
        found = self._seqs.get(stream)
        if found is None:
            rows = self._store.query(
                "SELECT max(seq) FROM event WHERE stream = ? AND typeof(seq) = 'integer'", stream
            )
            found = self._seqs[stream] = rows[0][0] or 0
        return found

    def committed_number(self, stream: str | None) -> int:
        """The last number that a reader of `stream`, or of everything, may have seen."""
        if stream is None:
            return self.committed
        return self.seq(stream) - sum(event.stream == stream for event in self._pending)

    async def last_turn(self, session_id: str) -> tuple[str, int] | None:
        """The message of the session's last turn, and the number of the event before that turn."""
        rows = await self._store.read(
            "SELECT seq, json_extract(body, '$.properties.messageID') FROM event "
            f"WHERE stream = ? AND session_id = ? AND {_IS_SOUND} "
            "AND json_extract(body, '$.type') = 'turn.started' ORDER BY seq DESC LIMIT 1",
            self._stream_of(session_id),
            session_id,
        )
        return (rows[0][1], rows[0][0] - 1) if rows else None

    def forget(self, session_id: str) -> None:
        """
        Delete all events of a session; the next one that is published of it is its last.

        With a root session go those of its children, too. Put both in one group.
        """
        stream = self._stream_of(session_id)
        if stream == session_id:
            self._forgotten.add(stream)
            self._store.put("DELETE FROM event WHERE stream = ?", stream)
        else:
            self._store.put(
                "DELETE FROM event WHERE stream = ? AND session_id = ?", stream, session_id
            )

    def subscribe(self, session_id: str | None = None, after: int | None = None) -> Subscription:
        """
        Read the stream of a session, or everything with `session_id=None`.

        `after` is the last number the reader has seen (a `seq` of the stream, or a position of
        the whole log); without it the reader starts now.
        """
        return Subscription(self, self._store, session_id, self._stream_of, after)

    def close(self) -> None:
        """Readers get what is committed, then end."""
        self.closed = True
        for reader in self._readers:
            reader.wake.set()

    # -- for the readers

    def attach(self, reader: Subscription) -> None:
        self._readers.add(reader)

    def detach(self, reader: Subscription) -> None:
        self._readers.discard(reader)

    def recent(self, position: int) -> list[Event] | None:
        """Up to a page of committed events after `position`; None when the ring has moved on."""
        if position >= self.committed:
            return []
        if not self._ring or self._ring[0].position > position + 1:
            return None
        start = position + 1 - self._ring[0].position
        return self._ring[start : start + _PAGE]

    def _on_commit(self, position: int) -> None:
        streams = set()
        while self._pending and self._pending[0].position <= position:
            event = self._pending.popleft()
            self._ring.append(event)
            self._ring_bytes += len(event.body)
            streams.add(event.stream)
            if self._seqs.get(event.stream) == event.seq and event.stream in self._forgotten:
                self._forgotten.discard(event.stream)
                del self._seqs[event.stream]
        self.committed = position
        if self._ring_bytes > _RING_BYTES or len(self._ring) > _RING_EVENTS:
            self._trim()
        for reader in self._readers:
            if reader.stream is None or reader.stream in streams:
                reader.wake.set()

    def _trim(self) -> None:
        """Drop the older half at once, so that the cost per event stays constant."""
        drop = kept = 0
        while (
            self._ring_bytes - kept > _RING_BYTES // 2 or len(self._ring) - drop > _RING_EVENTS // 2
        ):
            kept += len(self._ring[drop].body)
            drop += 1
        del self._ring[:drop]
        self._ring_bytes -= kept


class Subscription:
    """
    One reader of the log; `async for batch in subscription` gives non-empty lists of events.

    Numbers: `number(event)` is what `Last-Event-ID` takes on this reader's stream.
    """

    def __init__(
        self,
        log: EventLog,
        store: Store,
        session_id: str | None,
        stream_of: Callable[[str], str],
        after: int | None,
    ) -> None:
        self._log = log
        self._store = store
        self.stream = None if session_id is None else stream_of(session_id)
        # A child's own stream is that of its root without the other sessions.
        self._only = session_id if session_id != self.stream else None
        self.wake = asyncio.Event()
        self._position = log.committed
        self._seq = 0
        self.start = log.committed_number(self.stream) if after is None else after
        """The number after which this reader starts."""
        if self.stream is None:
            if after is not None:
                self._position = min(after, log.committed)
        else:
            last = log.seq(self.stream)
            self._seq = last if after is None else min(after, last)
            if self._seq < last:
                self._position = 0  # catch up from the store
            elif after is None:
                self._seq = 0  # whatever is committed from now on
        log.attach(self)

    def number(self, event: Event) -> int:
        return event.position if self.stream is None else event.seq

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> list[Event]:
        while True:
            self.wake.clear()
            found = self._log.recent(self._position)
            if found is None:
                found = await self._stored()
            elif found:
                self._position = found[-1].position
            batch = [e for e in found if self._wanted(e)]
            if batch:
                self._seq = batch[-1].seq
                return batch
            if self._position >= self._log.committed:
                if self._log.closed:
                    raise StopAsyncIteration
                await self.wake.wait()

    def close(self) -> None:
        self._log.detach(self)

    def _wanted(self, event: Event) -> bool:
        if self.stream is None:
            return True
        if event.stream != self.stream or event.seq <= self._seq:
            return False
        return self._only is None or event.session_id == self._only

    async def _stored(self) -> list[Event]:
        end = self._log.committed
        select = "SELECT position, stream, seq, session_id, body FROM event WHERE "
        within = f"position > ? AND position <= ? AND {_IS_SOUND}"
        arguments: tuple[Any, ...] = (self._position, end)
        order = "position"
        if self.stream is not None:
            within += " AND stream = ? AND seq > ?"
            arguments += (self.stream, self._seq)
            order = "seq"
        rows = await self._store.read_committed(
            f"{select}{within} ORDER BY {order} LIMIT ?", *arguments, _PAGE
        )
        events = [Event(*row) for row in rows]
        self._position = events[-1].position if len(events) == _PAGE else end
        return events
