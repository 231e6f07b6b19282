"""Files: every path is resolved here, inside the container, so a link leads nowhere else."""

# plain os.path: importing pathlib would add a third to the start-up time
# ruff: noqa: PTH103, PTH108, PTH118

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import stat

from .protocol import CHUNK, DATA, DONE, FAIL
from .trees import Restoring, change, fetch, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from .outlet import Outlet

MOST_NAMES = 100_000
"""Names looked at in one directory; a bigger one is listed in part."""
PER_FRAME = 30
"""Entries in a frame; a path has up to 4 kB, of up to six bytes each in JSON."""


def write_all(fd: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def unnamed_file(folder: str) -> int:
    """A new file without a name, open for reading and writing."""
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
    path = os.path.join(folder, temporary_name("input"))
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    os.unlink(path)
    return fd


def temporary_name(name: str) -> str:
    return f".{name[:50]}.{os.urandom(6).hex()}.tmp"


def _open_regular(path: str) -> tuple[int, os.stat_result]:
    """A regular file, open for reading, and what is known of it."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "not a regular file")
    return fd, found


def _under(base: str, path: str) -> bool:
    return path == base or path.startswith(base.rstrip("/") + "/")


class LinkedError(OSError):
    """The path leads elsewhere: `target`."""

    def __init__(self, target: str) -> None:
        super().__init__(errno.ELOOP, os.strerror(errno.ELOOP))
        self.target = target


def _real_path(path: str, bases: tuple[str, ...], follow: bool) -> str:
    """
    Where `path` leads. Raises LinkedError unless `follow`, if that is elsewhere.

    Links on the way to one of `bases` don't count.
    """
    target = os.path.realpath(path)
    if follow:
        return target
    base = next((base for base in bases if _under(base, path)), "/")
    real = os.path.realpath(base)
    seen = base.rstrip("/") + target[len(real.rstrip("/")) :] if _under(real, target) else target
    if os.path.normpath(seen) != os.path.normpath(path):
        raise LinkedError(seen)
    return target


class Writing:
    """A file on its way: a temporary file next to it, renamed at the end."""

    def __init__(self, path: str, bases: tuple[str, ...], follow: bool) -> None:
        target = _real_path(path, bases, follow)  # a link is written through, as editors do
        folder, self._name = os.path.split(target)
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
        except FileExistsError:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        if not self._name:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._folder = os.open(folder, flags)
        try:
            mode = self._mode_of_target()
            self._temporary = temporary_name(self._name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._temporary, flags, 0o600, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise
        self._mode = mode

    def _mode_of_target(self) -> int:
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return 0o644
        if stat.S_ISDIR(found):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found):
            raise OSError(errno.EINVAL, "not a regular file")
        return stat.S_IMODE(found) & 0o777

    def write(self, data: bytes) -> None:
        write_all(self._file, data)

    def finish(self) -> None:
        os.fchmod(self._file, self._mode)
        folder = self._folder
        os.replace(self._temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        self._close()

    def abandon(self) -> None:
        try:
            os.unlink(self._temporary, dir_fd=self._folder)
        except OSError:
            pass  # the container's own processes may have taken it away
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._folder)


class Files:
    """File requests. Long ones go on in steps, so that commands and other files go on, too."""

    def __init__(self, outlet: Outlet, workspace: str) -> None:
        self._out = outlet
        self._workspace = workspace
        self._tasks: dict[int, Generator[None, None, None]] = {}
        self._writings: dict[int, Writing | Restoring] = {}

    @property
    def busy(self) -> bool:
        """There is a step to do as soon as the host has taken what was sent."""
        return bool(self._tasks)

    def step(self) -> None:
        """Do a bounded piece of each request."""
        for number, task in list(self._tasks.items()):
            if self._out.full:
                return
            try:
                next(task)
            except StopIteration:
                del self._tasks[number]
                self._out.send(DONE, number)
            except (OSError, ValueError) as error:
                del self._tasks[number]
                self._fail(number, error)

    def read(self, number: int, path: str, limit: int) -> None:
        self._tasks[number] = self._read(number, path, limit)

    def read_piece(self, number: int, request: dict[str, Any]) -> None:
        self._tasks[number] = self._piece(number, **request)

    def list_names(self, number: int, request: dict[str, Any]) -> None:
        self._tasks[number] = self._list(number, **request)

    def delete(self, number: int, path: str) -> None:
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            os.unlink(path)
            self._out.send(DONE, number)
        except (OSError, ValueError) as error:
            self._fail(number, error)

    def scan(self, number: int, request: dict[str, Any]) -> None:
        self._tasks[number] = self._scan(number, **request)

    def fetch(self, number: int, request: dict[str, Any]) -> None:
        send = functools.partial(self._out.send, DATA, number)
        self._tasks[number] = fetch(self._workspace, send=send, **request)

    def change(self, number: int, request: dict[str, Any]) -> None:
        self._tasks[number] = change(self._workspace, **request)

    def begin_write(self, number: int, path: str, follow: bool) -> None:
        bases = (self._workspace, "/tmp")
        self._begin(number, functools.partial(Writing, path, bases, follow))

    def begin_put(self, number: int, request: dict[str, Any]) -> None:
        self._begin(number, functools.partial(Restoring, self._workspace, **request))

    def _begin(self, number: int, writing: Callable[[], Writing | Restoring]) -> None:
        try:
            self._writings[number] = writing()
        except LinkedError as error:
            self._out.send(DATA, number, os.fsencode(error.target))
            self._fail(number, error)
        except (OSError, ValueError) as error:
            self._fail(number, error)

    def write(self, number: int, data: bytes) -> None:
        writing = self._writings.get(number)
        if writing is not None:  # else it failed before and the host will see that
            try:
                writing.write(data)
            except OSError as error:
                self.cancel(number)
                self._fail(number, error)

    def end_write(self, number: int) -> None:
        writing = self._writings.get(number)
        if writing is not None:
            try:
                writing.finish()
            except OSError as error:
                self.cancel(number)
                self._fail(number, error)
            else:
                del self._writings[number]
                self._out.send(DONE, number)

    def cancel(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None:
            task.close()
        writing = self._writings.pop(number, None)
        if writing is not None:
            writing.abandon()

    def _piece(
        self, number: int, path: str, offset: int, length: int
    ) -> Generator[None, None, None]:
        fd, found = _open_regular(path)
        try:
            facts = [found.st_size, found.st_ino]
            self._out.send(DATA, number, json.dumps(facts).encode())
            while length and (data := os.pread(fd, min(CHUNK, length), offset)):
                offset += len(data)
                length -= len(data)
                self._out.send(DATA, number, data)
                yield
        finally:
            os.close(fd)

    def _read(self, number: int, path: str, limit: int) -> Generator[None, None, None]:
        fd, found = _open_regular(path)
        try:
            left = limit - found.st_size
            while left >= 0:
                data = os.read(fd, CHUNK)
                if not data:
                    return
                limit -= len(data)
                left = limit
                if left >= 0:
                    self._out.send(DATA, number, data)
                yield
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        finally:
            os.close(fd)

    def _list(
        self, number: int, path: str, recursive: bool, limit: int, skip: list[str]
    ) -> Generator[None, None, None]:
        """Breadth first: when the limit cuts, it cuts what lies deep."""
        todo = [path]
        for folder in todo:
            try:
                names = yield from self._names(folder, skip if recursive else [])
            except OSError:
                if folder is path:
                    raise
                continue  # gone, replaced or closed to us meanwhile
            for start in range(0, len(names), PER_FRAME):
                rows = [self._row(folder, name) for name in names[start : start + PER_FRAME]]
                found = [row for row in rows if row is not None][:limit]
                limit -= len(found)
                self._out.send(DATA, number, json.dumps(found).encode())
                if limit <= 0:
                    return
                if recursive:
                    todo += [path for path, kind, _, _ in found if kind == "directory"]
                yield

    def _scan(self, number: int, skip: list[str], limit: int) -> Generator[None, None, None]:
        for rows in scan(self._workspace, skip, limit):
            self._out.send(DATA, number, rows)
            yield

    def _names(self, folder: str, skip: list[str]) -> Generator[None, None, list[str]]:
        # the requested folder may be a link, those found below it may not
        names: list[str] = []
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, MOST_NAMES):
                if entry.name not in skip:
                    names.append(entry.name)
                if len(names) % 2000 == 1999:
                    yield
        return sorted(names)

    @staticmethod
    def _row(folder: str, name: str) -> tuple[str, str, int, int] | None:
        path = os.path.join(folder, name)
        try:
            found = os.lstat(path)
        except OSError:
            return None
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "other")
        return path, kind, found.st_size, found.st_mtime_ns // 1_000_000

    def _fail(self, number: int, error: OSError | ValueError) -> None:
        if isinstance(error, OSError):
            answer = {"errno": error.errno or errno.EIO, "message": error.strerror or "failed"}
        else:
            answer = {"errno": errno.EINVAL, "message": str(error)}
        self._out.send_json(FAIL, number, answer)
