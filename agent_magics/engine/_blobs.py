"""
Where snapshots are kept: one directory per session, outside everything that a container sees.

    objects/ab/cdef…   contents of files, by hash     trees/…   trees, by hash     last   a tree's

Files appear complete or not at all, so nothing has to be repaired after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ._plan import Entry, Tree

__all__ = ["BlobStore"]

_CHUNK = 1 << 18
_DIGEST = 20


class BlobStore:
    """The snapshots of one session. Blocking; not to be used by two threads at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        for name in ("objects", "trees"):
            (path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.size = sum(p.stat().st_size for p in self._objects())
        """Bytes of all contents."""

    # -- contents

    def put(self, data: bytes | bytearray) -> str:
        """Keep a content; its key."""
        key = _hash(data)
        path = self._object(key)
        if not _has_size(path, len(data)):  # a lost power supply may have left less
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write(path, data)
            self.size += len(data)
        return key

    def content(self, key: str) -> bytes:
        return self._object(key).read_bytes()

    def chunks(self, key: str) -> Iterator[bytes]:
        """The content in pieces. Raises OSError, at the end as well: EIO, it is damaged."""
        found = _digest()
        with self._object(key).open("rb") as file:
            while data := file.read(_CHUNK):
                found.update(data)
                yield data
        if found.hexdigest() != key:
            raise OSError(errno.EIO, "the snapshot is damaged")

    def _object(self, key: str) -> Path:
        return self._path / "objects" / key[:2] / key[2:]

    def _objects(self) -> Iterable[Path]:
        return (self._path / "objects").glob("??/*")

    # -- trees

    def put_tree(self, tree: Tree, *, last: bool = False) -> str:
        """Keep a tree; its key. `last` marks it as the newest."""
        body = json.dumps(dict(sorted(tree.items())), separators=(",", ":")).encode()
        key = _hash(body)
        path = self._path / "trees" / key
        packed = zlib.compress(body, 1)
        if not _has_size(path, len(packed)):
            _write(path, packed)
        if last:
            _write(self._path / "last", key.encode())
        return key

    def tree(self, key: str) -> Tree:
        """Raises OSError: EIO, it is damaged."""
        packed = (self._path / "trees" / key).read_bytes()
        try:
            body = json.loads(zlib.decompress(packed))
        except (zlib.error, ValueError):
            raise OSError(errno.EIO, "the snapshot is damaged") from None
        return {path: Entry(*values) for path, values in body.items()}

    def last(self) -> tuple[str, Tree]:
        """The newest tree and its key; empty when there is none, or none that can be read."""
        key = self._last_key()
        try:
            return key, self.tree(key) if key else {}
        except OSError:
            return "", {}

    def _last_key(self) -> str:
        try:
            return (self._path / "last").read_text("ascii")
        except FileNotFoundError:
            return ""

    # -- all of it

    def clone(self, target: Path) -> BlobStore:
        """The same snapshots for another session; contents are shared on disk."""
        for directory, names in ((p, os.listdir(p)) for p in self._directories()):  # noqa: PTH208
            copy = target / directory.relative_to(self._path)
            copy.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in names:
                os.link(directory / name, copy / name)
        return BlobStore(target)

    def _directories(self) -> list[Path]:
        objects = self._path / "objects"
        return [self._path / "trees", *objects.iterdir()]

    def collect(self, trees: Iterable[str]) -> None:
        """Forget all but these trees, the newest, and the contents that they name."""
        keep = {*trees, self._last_key()}
        used: set[str] = set()
        for path in (self._path / "trees").iterdir():
            if path.name not in keep:
                path.unlink()
                continue
            with contextlib.suppress(OSError):  # a damaged one needs nothing any more
                used |= {e.key for e in self.tree(path.name).values() if e.kind == "file"}
        for path in self._objects():
            if path.parent.name + path.name not in used:
                self.size -= path.stat().st_size
                path.unlink()


def _hash(data: bytes | bytearray) -> str:
    found = _digest()
    found.update(data)
    return found.hexdigest()


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes | bytearray) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
