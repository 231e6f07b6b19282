"""
The database file: its schema with a version, copies before a migration, and its repair.

`open_database` is what every start goes through. It refuses a store of a newer version without
writing to it, migrates one of an older version after a verified copy, and rebuilds one that SQLite
can't read; what it replaces is kept beside, in `backups` and `damaged`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import sqlite3
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from ._log_mark import is_others_log
from ._reserve import shortage_message
from ._salvage import Salvaged, salvage

__all__ = [
    "BACKUPS",
    "DAMAGED",
    "VERSION",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "database_file",
    "is_damage",
    "is_shortage",
    "mark_closed",
    "mark_damaged",
    "open_database",
    "sync_directory",
    "unopened",
]

log = logging.getLogger(__name__)

BACKUPS = "backups"
"""The folder beside the database with copies that were made before migrations."""
DAMAGED = "damaged"
"""The folder beside it with databases that were replaced by what could be read of them."""

# The schema of 0.1.0, which had no version.
_SCHEMA_1 = """
CREATE TABLE IF NOT EXISTS session(
    id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS message(
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS message_session ON message(session_id);
CREATE TABLE IF NOT EXISTS part(
    id TEXT PRIMARY KEY, message_id TEXT NOT NULL, session_id TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS part_message ON part(message_id);
CREATE INDEX IF NOT EXISTS part_session ON part(session_id);
CREATE TABLE IF NOT EXISTS turn(
    message_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, running INTEGER NOT NULL,
    history BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS turn_session ON turn(session_id);
CREATE TABLE IF NOT EXISTS permission(
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS artifact_version(
    session_id TEXT NOT NULL, key TEXT NOT NULL, message_id TEXT NOT NULL, info TEXT NOT NULL,
    data BLOB, PRIMARY KEY(session_id, key, message_id));
CREATE TABLE IF NOT EXISTS removed_message(
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS checkpoint(
    message_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS checkpoint_session ON checkpoint(session_id);
CREATE TABLE IF NOT EXISTS revert(
    session_id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS event(
    position INTEGER PRIMARY KEY, stream TEXT NOT NULL, seq INTEGER NOT NULL,
    session_id TEXT NOT NULL, delta_of TEXT, body TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS event_stream ON event(stream, seq);
CREATE INDEX IF NOT EXISTS event_delta ON event(delta_of) WHERE delta_of IS NOT NULL;
"""

# Sessions that were ended and whose files may still be there; records that could not be read.
_SCHEMA_2 = """
CREATE TABLE ended_session(
    id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE unreadable_record(
    kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB, found INTEGER NOT NULL);
"""

_MIGRATIONS = (_SCHEMA_1, _SCHEMA_2)
"""The first makes version 1 of nothing, each other one the next version of the one before."""
VERSION = len(_MIGRATIONS)
"""Of the schema that this engine reads and writes."""

_MAGIC = b"SQLite format 3\x00"
_VERSION_AT = 60
_LARGEST_CHECKED = 64 << 20
"""Bytes of a store that is looked through at the start after an unclean end; in a larger one damage
is found when it is read."""
_MOST_BACKUPS = 3
_BESIDE = (
    *("", "-wal", "-shm", "-journal"),
    *(".closed", ".damaged", ".mark", ".partial", ".salvaged"),
)
"""Ends of the names of the database and of the files beside it."""
_SPARE = 16 << 20
"""Bytes that must stay free beside a copy."""
_SHORTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_READONLY_DIRECTORY,
    }
)
"""What SQLite says when it could not write, and nothing is damaged."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class StoreError(Exception):
    """The database can't be written or read; nothing more can be acknowledged."""


class StoreFull(StoreError):
    """Nothing can be stored for now; the message says why, and what to do. Reading works."""


class StoreDamaged(StoreError):
    """SQLite can't read a part of the database file; the next start repairs it."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite failed because the content of the file makes no sense."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _CORRUPT


def is_shortage(error: sqlite3.Error) -> bool:
    """Whether SQLite could not write for now: no room, no permission."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in _SHORTAGES or code & 0xFF in _SHORTAGES - {sqlite3.SQLITE_READONLY}


def database_file(path: Path) -> Path:
    """
    The database's own path, where `path` is a link to it: SQLite has its log beside the file.

    Raises StoreError for a link that leads nowhere: sessions would seem to be lost when the disk
    that it leads to is not there. And for what is no file.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if path.is_symlink() and not target.exists():
            raise StoreError(
                f"{path} is a link to {target}, which does not exist. Mount its disk, or remove "
                "the link."
            )
        for suffix in _BESIDE:
            found = _beside(target, suffix)
            if found.exists() and not stat.S_ISREG(found.stat().st_mode):
                raise StoreError(f"{found} is not a file. Move it away and try again.")
    except RuntimeError as error:  # a link to itself
        raise StoreError(f"{path} is a link that can't be followed. Remove it.") from error
    except OSError as error:
        raise unopened(path, error) from error
    return target


def open_database(path: Path) -> None:
    """
    Make the database file fit for this engine: new, migrated or repaired.

    Raises:
        StoreFull: nothing can be written for now.
        StoreError: it is of a newer version, there is no room for a copy, or it can't be opened.
    """
    try:
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            # SQLite would open it for reading, and never find out that it may be written again.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        _finish_replacing(path)
        if _is_new(path):
            _create(path)
            return
        if _version_in_header(path) <= VERSION and is_others_log(path):
            _set_log_aside(path)
        closed, damaged = _was_closed(path), _beside(path, ".damaged").exists()
        if closed and not damaged and _version_in_header(path) == VERSION:
            return
        check = "integrity_check" if damaged else "quick_check"
        if not damaged and (closed or path.stat().st_size > _LARGEST_CHECKED):
            check = ""
        try:
            _prepare(path, check=check)
        except StoreDamaged as error:
            _replace(path, str(error))
            _prepare(path, check="")
        _beside(path, ".damaged").unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as error:
        raise unopened(path, error) from error


def unopened(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """The error to raise for a database that could not be opened."""
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK | os.X_OK):
        reason = shortage_message(path.parent, PermissionError(errno.EACCES, ""))
        return StoreFull(f"The database {path} can't be opened: {reason}")
    beside = (*(_beside(path, s) for s in _BESIDE), path.parent / DAMAGED, path.parent / BACKUPS)
    for found in beside:
        if not os.path.lexists(found) or os.access(found, os.R_OK | os.W_OK):
            continue
        return StoreFull(f"The database {path} can't be opened. {_opening(found)}")
    if isinstance(error, OSError):
        full, reason = error.errno in _NO_ROOM, error.strerror or type(error).__name__
    else:
        full, reason = is_shortage(error), str(error)
    kind = StoreFull if full else StoreError
    return kind(f"The database {path} can't be opened: {reason}")


def _opening(path: Path) -> str:
    """What to do about a file or a folder that must not be used."""
    if os.geteuid() and path.lstat().st_uid != os.geteuid():
        return f"{path} belongs to another user. Run as root: chown {os.geteuid()} {path}"
    return f"Run: chmod u+rw{'x' if path.is_dir() else ''} {path}"


def _prepare(path: Path, *, check: str) -> None:
    """
    `check` is the pragma that looks for damage, if any.

    Raises StoreDamaged where only a repair helps.
    """
    version = _version(path)
    if version > VERSION or version < 0:
        raise StoreError(
            f"The sessions in {path.parent} were written by a newer agent-magics (store version "
            f"{version}, this one reads {VERSION}); they are unchanged. Upgrade it with "
            "pip install -U agent-magics, or set AGENT_MAGICS_DATA_DIR to another directory."
        )
    try:
        with _opened(path) as connection:
            if check:
                _keep_lost_log(path, connection)
                _verify(connection, check)
            if version < VERSION:
                if version:
                    _backup(path, connection, version)
                _migrate(connection, version)
            _require_tables(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise StoreDamaged(str(error)) from error
        raise


# -- versions


def _is_new(path: Path) -> bool:
    """Nothing is there: no file, or an empty one without a write-ahead log."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = 0
    if size:
        return False
    wal = _beside(path, "-wal")
    # Without its database a log is worth nothing to SQLite, which would delete it.
    if wal.exists() and wal.stat().st_size:
        kept = _keep(path.parent, DAMAGED, wal)
        log.warning("%s is missing or empty; its log is kept as %s", path, kept)
    return True


def _create(path: Path) -> None:
    path.unlink(missing_ok=True)
    with _opened(path) as connection:
        _migrate(connection, 0)


def _version(path: Path) -> int:
    """
    The schema's version: 1 for a database of 0.1.0, 0 for one without tables. Nothing is written.

    Raises StoreDamaged for what is no database.
    """
    version = _version_in_header(path)
    if version > VERSION:  # also where its log can't be read
        return version
    try:
        try:
            return _read_version(path, "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # Killed while it wrote, where there is no log: what it had not finished is taken back.
            return _read_version(path, "rw")
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise StoreDamaged(str(error)) from error
        raise


def _read_version(path: Path, mode: str) -> int:
    reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=10)
    with contextlib.closing(reader):
        ((found,),) = reader.execute("PRAGMA user_version")
        ((objects,),) = reader.execute("SELECT count(*) FROM sqlite_schema")
    return int(found) or int(objects > 0)


def _version_in_header(path: Path) -> int:
    """The version without what a log says; 0 where there is none."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        return 0
    return int(struct.unpack_from(">i", header, _VERSION_AT)[0])


def _require_tables(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError, as for damage, where a table or an index is missing."""
    wanted = sqlite3.connect(":memory:")
    with contextlib.closing(wanted):
        for script in _MIGRATIONS:
            wanted.executescript(script)
        expected = {(row[0], row[1]) for row in wanted.execute(_NAMES)}
    missing = expected - {(row[0], row[1]) for row in connection.execute(_NAMES)}
    if missing:
        raise StoreDamaged("tables are missing: " + ", ".join(sorted(name for _, name in missing)))


_NAMES = "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """
    From `version` to ours, each step in one transaction.

    The first step is repeated for version 1: 0.1.0 made its tables one by one.
    """
    begin = version - 1 if version == 1 else version
    for number, script in enumerate(_MIGRATIONS[begin:], begin + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if version:
            log.info("the store was migrated to version %d", number)
    # The version has to stand in the file itself, where also an older engine finds it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _backup(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """A copy that was read back. Raises StoreError where there can be none."""
    folder = path.parent / BACKUPS
    wanted = folder / f"engine-version{version}-{_stamp()}.db"
    partial = wanted.with_suffix(".partial")
    size = sum(p.stat().st_size for p in (path, _beside(path, "-wal")) if p.exists())
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob("*.partial"):
            left.unlink()
        free = shutil.disk_usage(folder).free
        if free < size + _SPARE:
            raise StoreError(
                f"The store has to be migrated, but there is no room for a copy of it in {folder}: "
                f"{(size + _SPARE) >> 20} MB are needed, {free >> 20} MB are free. Make room and "
                "try again; nothing was changed."
            )
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            connection.backup(copy, pages=4096)
            _verify(copy)
        _sync(partial)
        partial.replace(wanted)
        sync_directory(folder)
    except StoreError:
        partial.unlink(missing_ok=True)
        raise
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
            raise
        raise StoreError(
            f"The store has to be migrated, but no copy of it can be made in {folder} ({error}). "
            "Check the disk and the rights of that folder and try again; nothing was changed."
        ) from error
    log.info("before the migration the store was copied to %s", wanted)
    for old in sorted(folder.glob("engine-version*.db"), key=_age)[:-_MOST_BACKUPS]:
        old.unlink()


def _verify(connection: sqlite3.Connection, check: str = "quick_check") -> None:
    """Raises StoreDamaged."""
    found = connection.execute(f"PRAGMA {check}(1)").fetchall()
    if found != [("ok",)]:
        said = str(found[0][0]) if found else "no answer"
        raise StoreDamaged(said.replace("\n", " ").removeprefix("*** in database main *** "))


# -- damage


def _keep_lost_log(path: Path, connection: sqlite3.Connection) -> None:
    """
    Keep a copy of a write-ahead log that has whole transactions which SQLite can't take.

    SQLite stops at the first frame whose checksum is wrong and overwrites what follows.
    """
    _, taken, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    wal = _beside(path, "-wal")
    if wal.exists() and _commits_after(wal, max(taken, 0)):
        kept = _keep(path.parent, DAMAGED, wal, copy=True)
        log.warning("the newest changes in the store's log are damaged; it is kept as %s", kept)


def _set_log_aside(path: Path) -> None:
    """An older database was put back beside the log of the newer one."""
    kept = _keep(path.parent, DAMAGED, _beside(path, "-wal"))
    _beside(path, "-shm").unlink(missing_ok=True)
    log.warning("%s is not the database of the log beside it; the log is kept as %s", path, kept)


def _commits_after(wal: Path, taken: int) -> bool:
    """Whether a log has whole transactions of its present generation after that many frames."""
    with wal.open("rb") as file:
        header = file.read(32)
        if len(header) < 32:
            return False
        page_size = int.from_bytes(header[8:12], "big")
        if page_size not in {1 << n for n in range(9, 17)}:
            return taken == 0
        file.seek(32 + taken * (page_size + 24))
        while len(frame := file.read(24)) == 24:
            if int.from_bytes(frame[4:8], "big") and (frame[8:16] == header[16:24] or not taken):
                return True
            file.seek(page_size, os.SEEK_CUR)
    return False


def _replace(path: Path, reason: str) -> None:
    """Put what can be read of the database in its place. Raises StoreError."""
    log.error("the store %s is damaged (%s); what can be read goes into a new one", path, reason)
    size = sum(p.stat().st_size for p in (path, _beside(path, "-wal")) if p.exists())
    free = shutil.disk_usage(path.parent).free
    if free < 2 * size + _SPARE:
        raise StoreError(
            f"The store {path} is damaged and there is no room to repair it: "
            f"{(2 * size + _SPARE) >> 20} MB are needed, {free >> 20} MB are free. Make room and "
            "try again; nothing was changed."
        )
    partial = _beside(path, ".partial")
    for suffix in ("", "-wal", "-shm", "-journal"):
        _beside(partial, suffix).unlink(missing_ok=True)
    with _opened(partial) as connection:
        _migrate(connection, 0)
        found = salvage(path, connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _sync(partial)
    partial.replace(_beside(path, ".salvaged"))
    sync_directory(path.parent)
    _tell(found)
    _finish_replacing(path)


def _tell(found: Salvaged) -> None:
    counts = ", ".join(f"{count} {table}" for table, count in found.rows.items() if count)
    log.warning("read from the damaged store: %s", counts or "nothing")


def _finish_replacing(path: Path) -> None:
    """
    Move a damaged database away and the new one into its place, also after a crash in between:
    as long as the new one has its own name, the old one has to go.
    """
    new = _beside(path, ".salvaged")
    if not new.exists():
        return
    stamp = _stamp(new.stat().st_mtime)
    folder = path.parent / DAMAGED
    folder.mkdir(mode=0o700, exist_ok=True)
    _beside(path, "-shm").unlink(missing_ok=True)
    for suffix in ("-wal", "-journal", ""):  # a log must never be found beside another database
        old = _beside(path, suffix)
        if suffix and old.exists() and not old.stat().st_size:
            old.unlink()
        elif old.exists():
            old.replace(folder / f"engine-{stamp}.db{suffix}")
    sync_directory(folder)
    sync_directory(path.parent)
    new.replace(path)
    sync_directory(path.parent)
    _beside(path, ".damaged").unlink(missing_ok=True)
    log.warning("the damaged store is kept as %s", folder / f"engine-{stamp}.db")


# -- how the last engine ended


def mark_closed(path: Path) -> None:
    """The database was closed whole: the next start need not look for damage."""
    with contextlib.suppress(OSError):
        if _beside(path, "-wal").exists():
            return
        _beside(path, ".closed").write_text(json.dumps(_facts(path)))


def mark_damaged(path: Path) -> None:
    """SQLite met damage: the next start repairs."""
    with contextlib.suppress(OSError):
        _beside(path, ".damaged").touch()


def _was_closed(path: Path) -> bool:
    """Whether nothing happened to the file since `mark_closed`; the mark holds once."""
    mark = _beside(path, ".closed")
    try:
        said = json.loads(mark.read_text())
        mark.unlink()
    except (OSError, ValueError):
        return False
    return said == _facts(path) and not _beside(path, "-wal").exists()


def _facts(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


# -- files


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if str(mode).lower() != "wal":  # a file system without shared memory, such as NFS
            connection.execute("PRAGMA journal_mode=TRUNCATE")
        yield connection
    finally:
        connection.close()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _keep(parent: Path, folder: str, path: Path, *, copy: bool = False) -> Path:
    """Move or copy a file where nothing deletes it."""
    (parent / folder).mkdir(mode=0o700, exist_ok=True)
    kept = parent / folder / f"{path.name}-{_stamp()}"
    if copy:
        shutil.copyfile(path, kept)
    else:
        path.replace(kept)
    return kept


def _stamp(seconds: float | None = None) -> str:
    """A moment, for names of files."""
    moment = time.time() if seconds is None else seconds
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(moment)) + f"-{int(moment * 1000) % 1000:03d}"


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Names that were made or changed in it survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
