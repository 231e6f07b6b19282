"""
What can be read of a damaged database: row by row through SQLite, then from its pages.

SQLite gives up a whole table when one of its upper pages is broken. So the leaves of the file are
read as well, wherever they hang: rows are known by their shape (`_table_of`). Pages that SQLite has
freed are left out, as far as their list can be read, for they have rows that were deleted.
The damaged file is only read.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Salvaged", "salvage"]

_COLUMNS = {
    "session": ("id", "data"),
    "message": ("id", "session_id", "data"),
    "part": ("id", "message_id", "session_id", "data"),
    "turn": ("message_id", "session_id", "running", "history"),
    "permission": ("id", "session_id", "data"),
    "artifact_version": ("session_id", "key", "message_id", "info", "data"),
    "removed_message": ("id", "session_id"),
    "checkpoint": ("message_id", "session_id", "data"),
    "revert": ("session_id", "data"),
    "unreadable_record": ("kind", "id", "data", "found"),
    "event": ("position", "stream", "seq", "session_id", "delta_of", "body"),
}
"""Without the sessions that were ended: of those nothing may be concluded from a damaged row."""
_SQLITE_ONLY = frozenset({"unreadable_record"})
_BATCH = 500
_LEAF = 13
_MOST_OVERFLOW = 1 << 20
_LARGEST_ROWID = 1 << 53
_LARGEST_CELL = 1 << 30

Row = tuple[Any, ...]


@dataclass
class Salvaged:
    """How many rows were read, by table."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COLUMNS, 0))


def salvage(path: Path, target: sqlite3.Connection) -> Salvaged:
    """
    Copy what can be read of the database `path` into `target`, which has the tables and no rows.

    Raises:
        sqlite3.Error: `target` can't be written.
        OSError: the file can't be read at all.
    """
    found = Salvaged()
    target.execute("BEGIN IMMEDIATE")
    whole = _through_sqlite(path, target, found)
    with contextlib.closing(_File(path)) as file:
        _from_pages(file, target, found, whole)
    target.execute("COMMIT")
    return found


def _through_sqlite(path: Path, target: sqlite3.Connection, found: Salvaged) -> set[str]:
    """The tables that could be read to their end."""
    whole: set[str] = set()
    try:
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
    except sqlite3.Error:
        return whole
    with contextlib.closing(source):
        source.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for table, columns in _COLUMNS.items():
            batch: list[Row] = []
            try:
                for row in source.execute(f"SELECT rowid, {', '.join(columns)} FROM {table}"):
                    batch.append(row)
                    if len(batch) == _BATCH:
                        _put(target, table, batch, found)
                        batch = []
                whole.add(table)
            except (sqlite3.Error, OverflowError, MemoryError):
                pass
            _put(target, table, batch, found)
    return whole


def _from_pages(file: _File, target: sqlite3.Connection, found: Salvaged, whole: set[str]) -> None:
    # Where SQLite reads a table to its end rows may still be missing, for a pointer led elsewhere.
    wanted = {t for t in _COLUMNS if t not in whole or (file.knows_free and t != "event")}
    batches: dict[str, list[Row]] = {table: [] for table in wanted - _SQLITE_ONLY}
    for rowid, values in file.rows():
        table = _table_of(values)
        if table in batches:
            if table == "event":
                values = (rowid, *values[1:])
            batches[table].append((rowid, *values))
            if len(batches[table]) == _BATCH:
                _put(target, table, batches[table], found)
                batches[table] = []
    for table, batch in batches.items():
        _put(target, table, batch, found)


def _put(target: sqlite3.Connection, table: str, rows: Sequence[Row], found: Salvaged) -> None:
    if table == "event":  # its position is the rowid
        columns, rows = _COLUMNS[table], [row[1:] for row in rows if 0 < row[0] < _LARGEST_ROWID]
    else:  # a damaged rowid must not become the largest
        columns = ("rowid", *_COLUMNS[table])
        rows = [(row[0] if 0 < row[0] < _LARGEST_ROWID else None, *row[1:]) for row in rows]
    marks = ", ".join("?" * len(columns))
    before = target.total_changes
    target.executemany(
        f"INSERT OR IGNORE INTO {table}({', '.join(columns)}) VALUES ({marks})", rows
    )
    found.rows[table] += target.total_changes - before


def _table_of(values: Row) -> str | None:
    """The table that has rows of this shape."""
    kinds = [_kind(value) for value in values]
    match kinds:
        case ["ses", "text"]:
            text = str(values[1])
            if '"removed":' in text:
                return "revert"
            return "session" if '"title":' in text or '"created":' in text else None
        case ["msg", "ses"]:
            return "removed_message"
        case ["msg", "ses", "text"]:
            return "message" if '"role":' in str(values[2]) else "checkpoint"
        case ["per", "ses", "text"]:
            return "permission"
        case ["prt", "msg", "ses", "text"]:
            return "part"
        case ["msg", "ses", "int", "blob"] | ["msg", "ses", "int", "text"]:
            return "turn"
        case ["ses", str(), "msg", "text", "blob" | "null"]:
            return "artifact_version"
        case ["null", "ses", "int", "ses", str(), "text"]:
            return "event"
    return None


def _kind(value: Any) -> str:
    if isinstance(value, str):
        prefix = value.removeprefix("reverted:")[:4]
        return prefix[:3] if prefix in ("ses_", "msg_", "prt_", "per_") else "text"
    if isinstance(value, bytes):
        return "blob"
    return "null" if value is None else "int"


class _File:
    """Pages of a database, the newest whole state of each: its log's, else its own."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
        header = self._map[:100] if self._map is not None else b""
        self._page = _page_size(header)
        self._usable = self._page - (header[20] if len(header) > 20 and header[20] <= 32 else 0)
        self._logged = _logged(path.with_name(path.name + "-wal"), self._page)
        self._count = max([size // self._page, *self._logged])
        self._free: set[int] = set()
        self.knows_free = self._read_free()
        """Whether the list of freed pages could be read to its end."""

    def close(self) -> None:
        if self._map is not None:
            self._map.close()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Of all leaves of all tables that are in use."""
        for number in range(1, self._count + 1):
            if number not in self._free:
                yield from self._leaf(number, self._read(number))

    def _read(self, number: int) -> bytes:
        if number in self._logged:
            return self._logged[number]
        start = (number - 1) * self._page
        return self._map[start : start + self._page] if self._map is not None else b""

    def _read_free(self) -> bool:
        first = self._read(1)
        if len(first) < 100:
            return False
        trunk, total = int.from_bytes(first[32:36], "big"), int.from_bytes(first[36:40], "big")
        while trunk:
            page = self._read(trunk) if trunk <= self._count else b""
            count = int.from_bytes(page[4:8], "big")
            if len(page) < self._page or trunk in self._free or count > self._usable // 4 - 2:
                return False
            leaves = (int.from_bytes(page[8 + 4 * i : 12 + 4 * i], "big") for i in range(count))
            self._free |= {trunk, *leaves}
            trunk = int.from_bytes(page[:4], "big")
        return len(self._free) == total

    def _leaf(self, number: int, page: bytes) -> Iterator[tuple[int, Row]]:
        start = 100 if number == 1 else 0
        if len(page) < start + 8 or page[start] != _LEAF:
            return
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        for index in range(cells):
            at = start + 8 + 2 * index
            with contextlib.suppress(IndexError, ValueError, OverflowError):
                yield self._cell(page, int.from_bytes(page[at : at + 2], "big"))

    def _cell(self, page: bytes, at: int) -> tuple[int, Row]:
        """Raises ValueError or IndexError for what is none."""
        size, at = _varint(page, at)
        rowid, at = _varint(page, at)
        if size > _LARGEST_CELL:
            raise ValueError("too large")
        usable = self._usable
        most, least = usable - 35, (usable - 12) * 32 // 255 - 23
        if size <= most:
            payload = page[at : at + size]
        else:
            local = least + (size - least) % (usable - 4)
            local = local if local <= most else least
            rest = int.from_bytes(page[at + local : at + local + 4], "big")
            payload = page[at : at + local] + self._overflow(rest, size - local)
        if len(payload) < size:
            raise ValueError("cut")
        return rowid - (1 << 64) if rowid >= 1 << 63 else rowid, _record(payload)

    def _overflow(self, number: int, size: int) -> bytes:
        parts: list[bytes] = []
        for _ in range(_MOST_OVERFLOW):
            if size <= 0:
                break
            page = self._read(number) if 1 < number <= self._count else b""
            part = page[4 : min(self._usable, size + 4)]
            if not part:
                raise ValueError("cut")
            parts.append(part)
            size -= len(part)
            number = int.from_bytes(page[:4], "big")
        return b"".join(parts)


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    size = 1 << 16 if size == 1 else size
    return size if size in {1 << n for n in range(9, 17)} else 4096


def _logged(wal: Path, page_size: int) -> dict[int, bytes]:
    """The newest committed state of the pages in a write-ahead log."""
    found: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    try:
        file = wal.open("rb")
    except OSError:
        return found
    with file:
        header = file.read(32)
        while len(frame := file.read(24)) == 24 and len(page := file.read(page_size)) == page_size:
            if frame[8:16] != header[16:24]:  # of an earlier use of the file
                break
            pending[int.from_bytes(frame[:4], "big")] = page
            if int.from_bytes(frame[4:8], "big"):
                found |= pending
                pending = {}
    last = max(found, default=0)
    return found if last < 1 << 31 else {}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


def _record(payload: bytes) -> Row:
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    at, values = end, []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at > len(payload):
        raise ValueError("cut")
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind <= 6:
        size = (1, 2, 3, 4, 6, 8)[kind - 1]
        return int.from_bytes(payload[at : at + size], "big", signed=True), at + size
    if kind < 12:
        raise ValueError("no kind of value that the tables have")
    size = (kind - 12) // 2
    raw = payload[at : at + size]
    return raw.decode("utf-8", "replace") if kind % 2 else raw, at + size
