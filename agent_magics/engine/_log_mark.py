"""
Which write-ahead log belongs to which database.

SQLite takes a log for that of any database beside which it stands: of an older database, put back
beside a newer log, it makes a mixture of two states. So the database has a mark, its
`application_id`, which changes whenever SQLite begins the log anew, and a file beside says which
log that is and which marks its database may have: the one from before, until the new one is copied
out of the log.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import zlib
from contextlib import suppress
from pathlib import Path

__all__ = ["LogMark", "is_others_log"]

_MAGIC = b"SQLite format 3\x00"
_MARK_AT = 68
_SALTS = slice(16, 24)
_CHECK_BITS = 12
_TRIES = 3


class LogMark:
    """For the database at `path`, whose only writer uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _told(path)[0]

    def keep(self, connection: sqlite3.Connection) -> None:
        """
        After a commit: give the database a new mark if SQLite has begun its log anew.

        Raises sqlite3.Error.
        """
        log = _log(self._path)
        if not log or log == self._known:
            return
        ((before,),) = connection.execute("PRAGMA application_id")
        mark = _new_mark()
        for number in range(_TRIES):
            with suppress(OSError):  # no room: this log can't be told from another's
                _tell(self._path, log, (before, mark))
            if number == 0:
                connection.execute(f"PRAGMA application_id = {mark}")
            begun, log = log, _log(self._path)
            if begun == log:  # else with the new mark SQLite has begun it once more
                self._known = log
                return


def is_others_log(path: Path) -> bool:
    """
    Whether the log beside the database is certainly another database's.

    A log of which nothing is known, and a database whose mark is damaged, are taken as they are.
    Must not be called while this process has the database open: closing a file of it drops SQLite's
    locks.
    """
    log, marks = _told(path)
    if not log or _log(path) != log:
        return False
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        return False
    mark = int.from_bytes(header[_MARK_AT : _MARK_AT + 4], "big", signed=True)
    return mark not in marks and (mark == 0 or _is_whole(mark))


def _new_mark() -> int:
    chosen = 1 + secrets.randbelow((1 << 32 - _CHECK_BITS) - 1)
    mark = chosen << _CHECK_BITS | _check(chosen)
    return mark - (1 << 32) if mark >= 1 << 31 else mark


def _is_whole(mark: int) -> bool:
    chosen, check = divmod(mark & 0xFFFFFFFF, 1 << _CHECK_BITS)
    return _check(chosen) == check


def _check(chosen: int) -> int:
    return zlib.crc32(chosen.to_bytes(4, "big")) & (1 << _CHECK_BITS) - 1


def _log(path: Path) -> str:
    """What tells a log from every other one; nothing where there is none."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path.with_name(path.name + "-wal"), flags)
    except OSError:
        return ""
    try:
        return os.pread(fd, 32, 0)[_SALTS].hex()
    except OSError:
        return ""
    finally:
        os.close(fd)


def _file(path: Path) -> Path:
    return path.with_name(path.name + ".mark")


def _told(path: Path) -> tuple[str, list[int]]:
    """The log and the marks of which the file beside tells."""
    try:
        said = json.loads(_file(path).read_bytes())
        return str(said["log"]), [int(mark) for mark in said["marks"]]
    except (OSError, ValueError, TypeError, KeyError):
        return "", []


def _tell(path: Path, log: str, marks: tuple[int, int]) -> None:
    file = _file(path)
    new = file.with_suffix(".mark-new")
    new.write_text(json.dumps({"log": log, "marks": marks}))
    new.replace(file)
