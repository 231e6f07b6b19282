"""
Workspaces and snapshots that belong to no session, and how to make sessions of them again.

The engine deletes only files of which its store says that their session was ended. What it does not
know, because the store was lost, replaced by an older copy, or is another's, stays where it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from agent_magics.sandbox import SandboxError
from agent_magics.wire import KeptStoreJSON, UnclaimedJSON, UnclaimedWorkspaceJSON

from ._containers import Containers
from ._database import BACKUPS, DAMAGED
from ._errors import Conflict, NotFound
from ._ids import new_id, now_ms
from ._messages import MessageBook, counted
from ._records import is_session_id, time_of_id
from ._sessions import Session, SessionBook, raise_usage
from ._snapshots import Snapshots
from ._store import Store
from ._text import spelled_out, well_formed

__all__ = ["Unclaimed"]

log = logging.getLogger(__name__)

_MEASURE_SECONDS = 2.0
"""How long measuring all of them may take together."""
_NAMED = 3
"""Files that a title names."""
_COPIED = {
    "message": ("id", "session_id", "data"),
    "part": ("id", "message_id", "session_id", "data"),
    "turn": ("message_id", "session_id", "running", "history"),
    "checkpoint": ("message_id", "session_id", "data"),
    "artifact_version": ("session_id", "key", "message_id", "info", "data"),
}
"""What is taken over of a session that stands in a kept store."""


class Unclaimed:
    """`sessions_dir` and `snapshots_dir` have one directory per session."""

    def __init__(
        self,
        store: Store,
        sessions: SessionBook,
        messages: MessageBook,
        containers: Containers,
        snapshots: Snapshots,
        sessions_dir: Path,
        snapshots_dir: Path,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._messages = messages
        self._containers = containers
        self._snapshots = snapshots
        self._sessions_dir = sessions_dir
        self._snapshots_dir = snapshots_dir

    # -- what there is

    def known(self) -> set[str]:
        """Names of directories that are a session's, were one's, or are about to be."""
        book, making = self._sessions, self._containers.making
        return {*book.ids(), *making, *book.leaving, *book.ended()}

    def find(self, known: Collection[str]) -> dict[str, Path]:
        """
        The directories that belong to none of `known`, by name as JSON has it; of a session whose
        workspace is gone its snapshots. May block.
        """
        found: dict[str, Path] = {}
        for folder in (self._sessions_dir, self._snapshots_dir):
            for path in _directories(folder):
                if path.name not in known:
                    found.setdefault(well_formed(path.name), path)
        return found

    def report(self, known: Collection[str]) -> UnclaimedJSON:
        """All of it with sizes, which are measured for a bounded time. May block."""
        deadline = time.monotonic() + _MEASURE_SECONDS
        found = sorted(self.find(known).items())
        workspaces = [_measured(name, path, deadline) for name, path in found]
        return {"workspaces": workspaces, "stores": [_facts(path) for path in self._stores()]}

    def tell(self) -> None:
        """Say in the log what belongs to no session."""
        for name, path in self.find(self.known()).items():
            log.warning(
                "%s belongs to no session and is kept: agent-magics sessions recover %s",
                spelled_out(str(path)),
                spelled_out(name),
            )

    def _stores(self) -> list[Path]:
        """Databases that were kept, the newest first."""
        home = self._store.path.parent
        found = [
            path
            for folder in (DAMAGED, BACKUPS)
            for path in (home / folder).glob("engine*")
            if path.is_file() and not path.name.endswith((".partial", "-shm", ".db-wal"))
        ]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    # -- making sessions of it

    async def recover(self, name: str) -> Session:
        """
        Make a session of an unclaimed workspace, or make one whose record is damaged usable.

        What kept stores know of it comes back. Raises NotFound and Conflict.
        """
        session = next((s for s in self._sessions if s.id == name), None)
        if session is not None:
            return await self._repair(session)
        found = self.find(self.known())
        if name not in found:
            there = ", ".join(sorted(found)) or "none"
            raise NotFound(f"There is no workspace {name} without a session. There is: {there}.")
        session_id = name
        if not is_session_id(name):
            session_id = new_id("ses")
            for folder in (self._sessions_dir, self._snapshots_dir):
                if (path := folder / found[name].name).is_dir():
                    path.rename(folder / session_id)
        is_bare = not (self._sessions_dir / session_id).exists()
        session, source = self._remembered(session_id)
        if session is None:
            session = self._made_up(session_id)
        with self._store.group():
            self._copy_rows(source, session)
            self._sessions.add(session)
        await self._count(session)
        if is_bare:
            await self._restore_files(session)
        log.info("made a session of the workspace %s", name)
        return session

    async def _repair(self, session: Session) -> Session:
        if not session.damage:
            raise Conflict(f"{session.id} is a session already.", sessionID=session.id)
        remembered, source = self._remembered(session.id)
        if remembered is not None:
            for field in fields(Session):
                setattr(session, field.name, getattr(remembered, field.name))
        session.damage = ""
        with self._store.group():
            self._store.put(
                "INSERT INTO unreadable_record(kind, id, data, found) "
                "SELECT 'session', id, data, ? FROM session WHERE id = ?",
                now_ms(),
                session.id,
            )
            self._copy_rows(source, session)
            self._sessions.save(session)
        await self._count(session)
        return session

    async def _count(self, session: Session) -> None:
        """Its metrics are at least those of its messages; what was reverted stays spent."""
        raise_usage(session.usage, counted(await self._messages.history(session.id)))
        self._sessions.save(session)
        await self._store.flushed()

    def _made_up(self, session_id: str) -> Session:
        """A session of which nothing is known but its files."""
        now = now_ms()
        created = time_of_id(session_id) or now
        workspace = self._sessions_dir / session_id / "workspace"
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = sorted(n for n in os.listdir(workspace) if not n.startswith("."))  # noqa: PTH208
        told = ", ".join(spelled_out(name) for name in names[:_NAMED])
        title = "Recovered" + (f": {told}" if told else " workspace")
        return Session(session_id, title, min(created, now), now, titled=True)

    def _remembered(self, session_id: str) -> tuple[Session | None, Path | None]:
        """The session as the newest kept store has it, and that store."""
        for path in self._stores():
            rows = _rows(path, "SELECT data FROM session WHERE id = ?", session_id)
            session = Session.of_row(session_id, rows[0][0]) if rows else None
            if session is None or session.damage:
                continue
            known = set(self._sessions.ids())
            session.parent_id = session.parent_id if session.parent_id in known else None
            session.container = session.revert = session.error = None
            session.hidden, session.started_by = False, None
            return session, path
        return None, None

    def _copy_rows(self, source: Path | None, session: Session) -> None:
        if source is None:
            return
        for table, columns in _COPIED.items():
            names, marks = ", ".join(columns), ", ".join("?" * len(columns))
            select = f"SELECT {names} FROM {table} WHERE session_id = ? ORDER BY rowid"
            for row in _rows(source, select, session.id):
                self._store.put(f"INSERT OR IGNORE INTO {table}({names}) VALUES ({marks})", *row)
        self._store.put("UPDATE turn SET running = 0 WHERE session_id = ?", session.id)

    async def _restore_files(self, session: Session) -> None:
        """The workspace is gone: what its newest snapshot has comes back."""
        store = await self._snapshots.store(session.id)
        _, tree = store.last()
        stored = {path: entry for path, entry in tree.items() if entry.stored}
        try:
            sandbox = await self._containers.started(session)
            await self._snapshots.restore(session.id, sandbox, {}, stored, stored)
        except (SandboxError, OSError) as error:
            log.warning("files of %s did not come back: %s", session.id, type(error).__name__)


def _directories(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
    except OSError:
        return []


def _measured(name: str, path: Path, deadline: float) -> UnclaimedWorkspaceJSON:
    size = newest = 0
    complete = True
    for found in _files(path):
        size += found.st_blocks * 512
        newest = max(newest, found.st_mtime_ns // 1_000_000)
        if time.monotonic() > deadline:
            complete = False
            break
    return {
        "name": name,
        "path": str(path),
        "size": size,
        "complete": complete,
        "newest": newest,
    }


def _files(top: Path) -> Iterator[os.stat_result]:
    todo = [str(top)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        yield entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
        except OSError:
            continue


def _facts(path: Path) -> KeptStoreJSON:
    return {
        "path": str(path),
        "size": path.stat().st_size,
        "damaged": path.parent.name == DAMAGED,
    }


def _rows(path: Path, select: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Rows of a kept store, which is not written; none where SQLite can't read it."""
    try:
        reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(reader):
            reader.text_factory = lambda raw: raw.decode("utf-8", "replace")
            return reader.execute(select, arguments).fetchall()
    except sqlite3.Error:
        return []
