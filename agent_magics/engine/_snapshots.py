"""
Snapshots of /workspace: taken and brought back through the session's container.

A file whose size, times and inode are those of the last snapshot is not read again. Not kept are
the top-level directories `.cache` and `.local` (where pip installs to), sockets, pipes and devices,
contents over the limits, and what can't be read; such entries are known but stay as they are.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_magics.sandbox import FetchedFile, Sandbox, TreeRow, WorkspaceTree

from ._blobs import BlobStore
from ._plan import Entry, Tree
from ._restore import expected, steps

__all__ = ["EXCLUDED", "NOT_STORED", "SnapshotLimits", "Snapshots", "snapshot_problem"]

EXCLUDED = (".cache", ".local")
_MOST_ENTRIES = 100_000
_BATCH_FILES = 400
_BATCH_BYTES = 8 << 20
_GROWTH = 1 << 20
"""Bytes by which the files of a batch may have grown between the look and the reading."""
_PARALLEL = 16
VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Between the look and the reading the file went, or what it lay in was replaced."""


@dataclass(frozen=True)
class SnapshotLimits:
    """In bytes: the largest file whose content is kept, and all contents of a session together."""

    file: int = 50 << 20
    total: int = 2 << 30


def snapshot_problem(error: Exception) -> str:
    """Why there is no snapshot, in a few words."""
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return f"the workspace has more than {_MOST_ENTRIES} files"
    if isinstance(error, OSError):
        return f"the snapshot could not be kept: {error.strerror or type(error).__name__}"
    return "the container ended"


NOT_STORED = {"closed": "its content can't be read", "other": "it is no file"}
"""Kinds of entries, and why they are neither kept nor copied."""


class Snapshots:
    """`root` holds one directory per session. Used from one event loop."""

    def __init__(self, root: Path, limits: SnapshotLimits | None = None) -> None:
        self._root = root
        self._limits = limits or SnapshotLimits()
        self._stores: dict[str, BlobStore] = {}
        self._last: dict[str, tuple[str, Tree]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self.files_read = 0
        """Files whose content was read, since the start."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- life

    async def store(self, session_id: str) -> BlobStore:
        if session_id not in self._stores:
            store = await asyncio.to_thread(BlobStore, self._root / session_id)
            self._stores.setdefault(session_id, store)
        return self._stores[session_id]

    async def clone(self, source_id: str, target_id: str) -> None:
        """Give a new session the snapshots of another."""
        store = await self.store(source_id)
        async with self._lock(source_id):
            target = self._root / target_id
            self._stores[target_id] = await asyncio.to_thread(store.clone, target)

    async def collect(self, session_id: str, trees: Iterable[str]) -> None:
        """Forget what these trees don't need."""
        store = await self.store(session_id)
        async with self._lock(session_id):
            await asyncio.to_thread(store.collect, list(trees))

    async def forget(self, session_id: str) -> None:
        for known in (self._stores, self._last, self._locks):
            known.pop(session_id, None)
        await asyncio.to_thread(shutil.rmtree, self._root / session_id, ignore_errors=True)

    async def sweep(self, living: Iterable[str]) -> None:
        """Delete what deleted sessions left behind."""
        keep = set(living)
        for path in list(self._root.iterdir()):
            if path.name not in keep:
                await self.forget(path.name)

    def _lock(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    # -- taking

    async def tree(self, session_id: str, key: str) -> Tree:
        store = await self.store(session_id)
        return await asyncio.to_thread(store.tree, key)

    async def keep(self, session_id: str, tree: Tree) -> str:
        """Keep a tree whose contents are there already; its key."""
        store = await self.store(session_id)
        return await asyncio.to_thread(store.put_tree, tree)

    async def take(self, session_id: str, sandbox: Sandbox) -> str:
        """
        A snapshot of what is there now; the key of its tree.

        Raises:
            SandboxError: the container ended.
            OSError: E2BIG, too many files; or the snapshot can't be stored.
        """
        store = await self.store(session_id)
        async with self._lock(session_id):
            if session_id not in self._last:
                self._last[session_id] = await asyncio.to_thread(store.last)
            last_key, last = self._last[session_id]
            rows = await sandbox.tree.scan(skip=EXCLUDED, limit=_MOST_ENTRIES)
            tree = {row.path: _known(row, last.get(row.path)) for row in rows}
            unread = [row for row in rows if tree[row.path].key == ""]
            for batch in _batches([r for r in unread if r.kind == "file"], self._limits.file):
                await self._read(store, sandbox, batch, tree)
            _link(rows, tree)
            if tree == last and last_key:
                return last_key
            key = await asyncio.to_thread(store.put_tree, tree, last=True)
            self._last[session_id] = key, tree
            return key

    async def _read(
        self, store: BlobStore, sandbox: Sandbox, batch: list[TreeRow], tree: dict[str, Entry]
    ) -> None:
        if batch[0].size > self._limits.file:
            tree[batch[0].path] = _unstored(batch[0], "larger than the limit of snapshots")
            return
        paths = [row.path for row in batch]
        budget = sum(row.size for row in batch) + _GROWTH
        files = await sandbox.tree.fetch(paths, limit=self._limits.file, budget=budget)
        self.files_read += len(files)
        keys = await asyncio.to_thread(self._put, store, files)
        for row, file, key in zip(batch, files, keys, strict=True):
            if file.content is not None and key:
                ctime = file.ctime if file.settled else 0
                facts = (file.size, file.mtime, ctime, file.inode)
                tree[row.path] = Entry("file", file.mode, key, *facts)
            elif file.errno in VANISHED:
                del tree[row.path]
            elif file.content is not None:
                tree[row.path] = _unstored(row, "the session's snapshots take too much room")
            else:
                tree[row.path] = _unstored(row, "it can't be read")

    def _put(self, store: BlobStore, files: list[FetchedFile]) -> list[str]:
        keys = []
        for file in files:
            room = store.size + len(file.content or b"") <= self._limits.total
            keys.append(store.put(file.content) if file.content is not None and room else "")
        return keys

    # -- bringing back

    async def restore(
        self, session_id: str, sandbox: Sandbox, now: Tree, goal: Tree, paths: Collection[str]
    ) -> None:
        """
        Give each of `paths` its entry of `goal`, none for nothing; `now` is what is there.

        Raises:
            SandboxError: the container ended.
            OSError: something could not be written; ESTALE, somebody has changed it meanwhile.
        """
        store = await self.store(session_id)
        tree = sandbox.tree
        async with self._lock(session_id):
            todo = await asyncio.to_thread(steps, now, goal, paths)
            await tree.change(todo.first)
            await _put_all(tree, store, todo.contents, now)
            names = [
                {"do": "name", "path": p, "source": s, "expect": expected(now.get(p))}
                for p, s in todo.names.items()
            ]
            try:
                await tree.change(names)
            except OSError:  # no links here, too many of them, or somebody took a name away
                await _put_all(tree, store, {path: goal[path] for path in todo.names}, now)
            await tree.change(todo.last)


async def _put_all(
    tree: WorkspaceTree, store: BlobStore, files: Mapping[str, Entry], now: Tree
) -> None:
    limit = asyncio.Semaphore(_PARALLEL)

    async def put(path: str, entry: Entry) -> None:
        async with limit:
            chunks = store.chunks(entry.key)
            expect = expected(now.get(path))
            await tree.put(path, chunks, mode=entry.mode, mtime=entry.mtime, expect=expect)

    try:
        async with asyncio.TaskGroup() as group:
            for path, entry in files.items():
                group.create_task(put(path, entry))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _known(row: TreeRow, last: Entry | None) -> Entry:
    """The entry of a row; with the key "" for a file that has to be read."""
    facts = (row.size, row.mtime, row.ctime, row.inode)
    if row.kind == "file":
        known = last is not None and last.kind == "file" and last[3:7] == facts
        return Entry("file", row.mode, last.key if known and last else "", *facts)
    if row.kind == "link":
        return Entry("link", 0, row.target, *facts)
    if row.kind == "directory":
        return Entry("directory", row.mode, "", 0, 0, 0, 0)
    return Entry(row.kind, row.mode, f"?{NOT_STORED[row.kind]}", 0, 0, 0, 0)


def _link(rows: list[TreeRow], tree: dict[str, Entry]) -> None:
    """Tell the entries which of them are names of one file."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.kind == "file" and row.target:
            names.setdefault(row.target, [row.target]).append(row.path)
    for paths in names.values():
        there = [path for path in paths if path in tree]  # none of them is surely there by now
        first = tree[there[0]] if there else None
        alike = [path for path in there if tree[path][:3] == first[:3]] if first else []
        for path in alike if len(alike) > 1 else ():
            tree[path] = tree[path]._replace(twin=alike[0])


def _unstored(row: TreeRow, why: str) -> Entry:
    facts = (row.size, row.mtime, row.ctime, row.inode)
    return Entry("file", row.mode, f"?{why}:{row.size}:{row.mtime}:{row.inode}", *facts)


def _batches(rows: list[TreeRow], largest: int) -> Iterator[list[TreeRow]]:
    """Rows to be read together; one that is too large stands alone."""
    batch: list[TreeRow] = []
    size = 0
    for row in rows:
        alone = row.size > largest
        if batch and (alone or size + row.size > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row.size
        if alone:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
