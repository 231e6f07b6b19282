"""
The engine's database: one SQLite file, one writer thread, group commit.

The event loop only appends to a queue; everything that was queued while a transaction ran goes
into the next one. What is written in one `group()` is committed together or not at all.

A disk that is full, or can't be written for now, is no end: what can't be stored waits in order, is
not acknowledged, and is tried again every second. Anything else that fails ends the store, and with
it the engine.

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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ._database import (
    StoreDamaged,
    StoreError,
    StoreFull,
    database_file,
    is_damage,
    is_shortage,
    mark_closed,
    mark_damaged,
    open_database,
    unopened,
)
from ._log_mark import LogMark
from ._reserve import Reserve, shortage_message

__all__ = ["EventRow", "Store", "StoreDamaged", "StoreError", "StoreFull"]

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
_TICK = 1.0
"""Seconds between two looks at the disk when nothing is to be written."""


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
    last event in it; `on_failure(error)` once, when the database stopped working;
    `on_shortage(error)` when nothing can be stored for now, and with None when it can again;
    `on_damage()`, in any thread, when a part of it can't be read: what can be is salvaged by the
    next start.

    Raises StoreError, see `open_database`.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_failure: Callable[[StoreError], None] | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        self.path = path = database_file(path)
        self.on_commit: Callable[[int], None] | None = None
        self.on_damage: Callable[[], None] | None = None
        self.on_shortage: Callable[[StoreFull | None], None] | None = None
        self.shortage: StoreFull | None = None
        """Why nothing can be stored for now. Set by the writer's thread."""
        self._told: StoreFull | None = None
        self._reserved = False
        self._reserve = reserve or Reserve(path.with_name("reserve"))
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Group | asyncio.Future[None] | None] = queue.SimpleQueue()
        self._open_group: _Group | None = None
        self._error: StoreError | None = None
        self._closed = False
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._mine = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._open()
        except StoreError as error:
            self._disconnect()
            if isinstance(error, StoreFull) and (reason := self._reserve.fill()):
                raise StoreFull(_sentence(shortage_message(path.parent, reason))) from error
            raise
        self._place = _place(path)
        self._log_mark = LogMark(path)
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._begin()
        except StoreFull:
            if not self._reserve.release():
                raise
            self._begin()

    def _begin(self) -> None:
        open_database(self.path)
        try:
            self._writer = self._connect()
        except sqlite3.Error as error:
            raise unopened(self.path, error) from error

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
        """Wait until everything put so far is committed. Raises StoreError, StoreFull."""
        if self._error is not None:
            raise self._error
        if self._closed:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(waiter)
        await waiter

    async def require_room(self) -> None:
        """Look again whether something can be stored. Raises StoreFull, at once, when not."""
        if self.shortage is not None:
            await self.flushed()
        if self.shortage is not None:
            raise self.shortage

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

    def _as_store_error(self, error: BaseException) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, sqlite3.Error):
            return self._failure(error, "written")
        return StoreError(f"The database {self.path} can't be written: {type(error).__name__}")

    async def read(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows, including everything put before the call that can be stored; read in a thread."""
        with suppress(StoreFull):
            await self.flushed()
        return await self.read_committed(sql, *arguments)

    async def read_committed(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows as committed, read in a thread."""
        if self._closed:
            raise StoreError(f"The database {self.path} is closed.")
        return await self._loop.run_in_executor(self._readers, self.query, sql, *arguments)

    # -- the writer thread

    def _write(self) -> None:
        waiting: list[_Item] = []  # to be stored, oldest first
        closing = False
        while not closing:
            batch = self._next_batch()
            closing = None in batch
            waiters = [b for b in batch if isinstance(b, asyncio.Future)]
            waiting += [item for group in batch if isinstance(group, list) for item in group]
            last = 0
            try:
                if self._error is None and self._stored(waiting):
                    last = max((i.position for i in waiting if isinstance(i, EventRow)), default=0)
                    waiting = []
            except BaseException as error:  # whatever it was: nothing more may be acknowledged
                log.critical("the database stopped working: %s: %s", type(error).__name__, error)
                self._error = self._as_store_error(error)
            failure = self._error or (self.shortage if waiting else None)
            try:
                self._loop.call_soon_threadsafe(self._settle, last, waiters, failure)
            except RuntimeError:  # the loop was closed before the store
                return
            if not closing:
                time.sleep(_PAUSE)
        if waiting:
            log.error("%d changes were not stored and not acknowledged", len(waiting))

    def _next_batch(self) -> list[_Group | asyncio.Future[None] | None]:
        """What was queued; empty when it is time to look at the disk."""
        batch: list[_Group | asyncio.Future[None] | None] = []
        with suppress(queue.Empty):
            batch.append(self._queue.get(timeout=_TICK))
            while len(batch) < _LARGEST_BATCH:
                batch.append(self._queue.get_nowait())
        return batch

    def _stored(self, items: list[_Item]) -> bool:
        """Store them, or find out why that can't be for now. Raises when it never can."""
        refused: sqlite3.Error | None = None
        if items:
            refused = self._try(items)
            if refused is not None and self._shrink_log():
                refused = self._try(items)
            if refused is not None and self._reserve.release():
                self.shortage = self.shortage or _refusal(self.path, refused)
                self._shrink_log()
                refused = self._try(items)
        self._check_place()
        if refused is not None or self.shortage is not None or not self._reserved:
            reason = self._reserve.fill()
            self._reserved = reason is None
            if reason is not None:
                self.shortage = StoreFull(_sentence(shortage_message(self.path.parent, reason)))
            else:
                self.shortage = None if refused is None else _refusal(self.path, refused)
        return refused is None

    def _try(self, items: list[_Item]) -> sqlite3.Error | None:
        try:
            self._commit(items)
        except sqlite3.Error as error:
            if not is_shortage(error):
                raise
            return error
        try:
            self._log_mark.keep(self._writer)
        except sqlite3.Error as error:  # what matters is stored
            if not is_shortage(error):
                raise
        return None

    def _shrink_log(self) -> bool:
        """Give back what the write-ahead log takes: megabytes that are mostly stored already."""
        try:
            busy, *_ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            if not is_shortage(error):
                raise
            return False
        return not busy

    def _check_place(self) -> None:
        """What is written to a file that was deleted is not stored."""
        with suppress(PermissionError):  # then what is open can still be written
            if _place(self.path) == self._place:
                return
            raise StoreError(
                f"The data directory {self.path.parent} was removed or replaced while the engine "
                "ran, or its disk is gone. Bring it back; the next call starts a new engine."
            )

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
        try:
            if last and self.on_commit is not None:
                self.on_commit(last)
        except Exception as failure:  # readers would wait for ever
            log.critical("events could not be passed on: %s", type(failure).__name__)
            error = self._error = self._error or self._as_store_error(failure)
        if self._error is not None and self._on_failure is not None:
            on_failure = self._on_failure
            self._on_failure = None
            on_failure(self._error)
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        shortage = self.shortage
        if (shortage is None) != (self._told is None):
            self._told = shortage
            log.warning("storing %s", f"is not possible: {shortage}" if shortage else "goes on")
            if self.on_shortage is not None:
                self.on_shortage(shortage)

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


def _refusal(path: Path, error: sqlite3.Error) -> StoreFull:
    return StoreFull(f"Nothing can be stored: {path} can't be written for now ({error}).")


def _sentence(reason: str) -> str:
    return f"Nothing can be stored: {reason}, then try again."


def _place(path: Path) -> tuple[int, int] | None:
    """Which file it is; None when it is not there. Raises PermissionError."""
    try:
        found = path.stat()
    except PermissionError:
        raise
    except OSError:
        return None
    return found.st_dev, found.st_ino
