"""
The engine's database: one SQLite file, one writer thread, group commit.

The event loop only appends to a queue; everything that was queued while a transaction ran goes
into the next one. What is written in one `group()` is committed together or not at all.

Every thread that reads has a connection of its own. On a shared one, a statement that begins while
another thread's is read sees the older state of the database, and from Python 3.12 on may run with
that one's arguments.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ._database import (
    StoreDamaged,
    StoreError,
    is_damage,
    mark_closed,
    mark_damaged,
    open_database,
)

__all__ = ["EventRow", "Store", "StoreDamaged", "StoreError"]

log = logging.getLogger(__name__)

# One statement for any number of rows: sqlite3 gives up the GIL at every step, and taking it back
# from a busy event loop costs up to a whole switch interval.
_INSERT_EVENTS = """
INSERT INTO event(position, stream, seq, session_id, delta_of, body)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(?)
"""
_INSERT_EVENT = """
INSERT INTO event(position, stream, seq, session_id, delta_of, body) VALUES (?, ?, ?, ?, ?, ?)
"""

_READERS = 3
_LARGEST_BATCH = 4096
_PAUSE = 0.001
"""Seconds between transactions: in a fast stream each of them takes several events."""


class EventRow(NamedTuple):
    """A stored event. `delta_of` names the part whose closing makes the event superfluous."""

    position: int
    stream: str
    seq: int
    session_id: str
    delta_of: str | None
    body: str


class _Statement(NamedTuple):
    sql: str
    arguments: tuple[Any, ...]


_Item = EventRow | _Statement
_Group = list[_Item]


class Store:
    """
    Must be created inside the event loop that uses it.

    `on_commit(position)` is called on that loop after each transaction with the position of the
    last event in it; `on_failure(error)` once, when the database stopped working; `on_damage()`,
    in any thread, when a part of it can't be read: what can be is salvaged by the next start.

    Raises StoreError, see `open_database`.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_failure: Callable[[StoreError], None] | None = None,
    ) -> None:
        self.path = path
        self.on_commit: Callable[[int], None] | None = None
        self.on_damage: Callable[[], None] | None = None
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Group | asyncio.Future[None] | None] = queue.SimpleQueue()
        self._open_group: _Group | None = None
        self._error: StoreError | None = None
        self._closed = False
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._mine = threading.local()
        self._connections: list[sqlite3.Connection] = []
        open_database(path)
        try:
            self._writer = self._connect()
        except sqlite3.Error as error:
            self._disconnect()
            raise StoreError(f"The database {path} can't be opened: {error}") from error
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, check_same_thread=False, isolation_level=None, timeout=10
        )
        self._connections.append(connection)
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if str(mode).lower() != "wal":  # a file system without shared memory, such as NFS
            connection.execute("PRAGMA journal_mode=TRUNCATE")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _connection(self) -> sqlite3.Connection:
        """The calling thread's, for reading."""
        found: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if found is None:
            found = self._mine.connection = self._connect()
        return found

    # -- writing

    @contextmanager
    def group(self) -> Iterator[None]:
        """All that is put inside (without awaiting) is one atomic unit. Groups may be nested."""
        if self._open_group is not None:
            yield
            return
        items: _Group = []
        self._open_group = items
        try:
            yield
        finally:
            # Also after an exception: what was put has been numbered and must be stored.
            self._open_group = None
            if items:
                self._queue.put(items)

    def put(self, sql: str, *arguments: Any) -> None:
        """Queue one statement."""
        self._add(_Statement(sql, arguments))

    def put_event(self, row: EventRow) -> None:
        """Queue one event."""
        self._add(row)

    def _add(self, item: _Item) -> None:
        if self._open_group is not None:
            self._open_group.append(item)
        else:
            self._queue.put([item])

    async def flushed(self) -> None:
        """Wait until everything put so far is committed. Raises StoreError."""
        if self._error is not None:
            raise self._error
        if self._closed:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(waiter)
        await waiter

    # -- reading

    def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows as committed. For small results; it runs in the calling thread."""
        try:
            connection = self._connection()
            try:
                return connection.execute(sql, arguments).fetchall()
            except sqlite3.OperationalError as error:
                if not str(error).startswith("Could not decode"):
                    raise
                return _read_broken_text(connection, sql, arguments)
        except sqlite3.Error as error:
            raise self._failure(error, "read") from error

    def _failure(self, error: sqlite3.Error, what: str) -> StoreError:
        if not is_damage(error):
            return StoreError(f"The database {self.path} can't be {what}: {error}")
        log.error("the store is damaged: %s", error)
        mark_damaged(self.path)
        if self.on_damage is not None:
            self.on_damage()
        return StoreDamaged(
            f"A part of the store {self.path} is damaged ({error}). The next start of the engine "
            "saves what can be read and keeps the damaged file; then try again."
        )

    async def read(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows, including everything put before the call; read in a thread."""
        await self.flushed()
        return await self.read_committed(sql, *arguments)

    async def read_committed(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows as committed, read in a thread."""
        if self._closed:
            raise StoreError(f"The database {self.path} is closed.")
        return await self._loop.run_in_executor(self._readers, self.query, sql, *arguments)

    # -- the writer thread

    def _write(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < _LARGEST_BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            closing = None in batch
            waiters = [b for b in batch if isinstance(b, asyncio.Future)]
            groups = [b for b in batch if isinstance(b, list)]
            try:
                if self._error is None and groups:
                    self._commit([item for group in groups for item in group])
            except sqlite3.Error as error:
                log.critical("the database stopped working: %s", error)
                self._error = self._failure(error, "written")
            last = max(
                (i.position for g in groups for i in g if isinstance(i, EventRow)), default=0
            )
            try:
                self._loop.call_soon_threadsafe(self._settle, last, waiters, self._error)
            except RuntimeError:  # the loop was closed before the store
                return
            if not closing:
                time.sleep(_PAUSE)

    def _commit(self, items: list[_Item]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for sql, arguments in _statements(items):
                self._writer.execute(sql, arguments)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def _settle(
        self, last: int, waiters: list[asyncio.Future[None]], error: StoreError | None
    ) -> None:
        if error is None:
            if last and self.on_commit is not None:
                self.on_commit(last)
        elif self._on_failure is not None:
            on_failure = self._on_failure
            self._on_failure = None
            on_failure(error)
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    async def close(self) -> None:
        """Commit what is queued and close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._disconnect()
        if self._error is None:
            await asyncio.to_thread(mark_closed, self.path)

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.close()


def _read_broken_text(
    connection: sqlite3.Connection, sql: str, arguments: tuple[Any, ...]
) -> list[tuple[Any, ...]]:
    """The rows, with a mark in place of the bytes that are no UTF-8."""
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        return connection.execute(sql, arguments).fetchall()
    finally:
        connection.text_factory = str


def _statements(items: list[_Item]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The items in order, runs of events joined into one statement each."""
    run: list[EventRow] = []
    for item in items:
        if isinstance(item, EventRow):
            run.append(item)
            continue
        if run:
            yield _insert(run)
            run = []
        yield item.sql, item.arguments
    if run:
        yield _insert(run)


def _insert(rows: list[EventRow]) -> tuple[str, tuple[Any, ...]]:
    if len(rows) == 1:
        return _INSERT_EVENT, tuple(rows[0])
    return _INSERT_EVENTS, (json.dumps(rows, ensure_ascii=False),)
