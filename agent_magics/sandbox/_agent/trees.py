"""
The workspace as a whole: walk it, read many of its files, change it.

Every step goes from one open directory to the next and follows no link, so whatever the
container's own processes put there, or exchange meanwhile, nothing outside is reached.
"""

# plain os.path: importing pathlib would add a third to the start-up time
# ruff: noqa: PTH101

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import stat
import time

from .protocol import CHUNK, FILE_BEGIN, FILE_DATA, FILE_END, FILE_FAIL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

DEEPEST = 100
"""Directories inside each other; what lies deeper is not looked at."""
FRAME = 1 << 17
"""Characters of JSON from which on a frame of rows is sent."""
SETTLED = 20_000_000
"""Nanoseconds without a change after which the next change gets another time stamp."""
_ANY = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
_PASS = _ANY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


# -- looking


class _Folder:
    def __init__(self, fd: int, path: str, most: int) -> None:
        self.fd = fd
        self.path = path
        os.close(
            os.open(".", _PASS, dir_fd=fd)
        )  # else its names are known, and nothing behind them
        with os.scandir(fd) as entries:
            self.names = sorted((e.name for e in itertools.islice(entries, most)), reverse=True)


def scan(root: str, skip: list[str], limit: int) -> Generator[bytes, None, None]:
    """
    JSON arrays of `[path, kind, mode, size, mtime_ns, ctime_ns, inode, target]`: where a link
    leads, or of a file with several names the first of them; null of all else.

    `skip` are names directly below `root`. A directory that can't be listed or entered, or lies
    too deep, is of the kind "closed", and so are its contents not there. Raises OSError E2BIG for
    more than `limit` entries.
    """
    rows: list[Any] = []
    length = 0
    names: dict[tuple[int, int], str] = {}
    stack = [_Folder(os.open(root, _LIST), "", limit + len(skip) + 1)]
    try:
        while stack:
            folder = stack[-1]
            if not folder.names:
                os.close(stack.pop().fd)
                continue
            name = folder.names.pop()
            if len(stack) == 1 and name in skip:
                continue
            limit -= 1
            if limit < 0:
                raise OSError(errno.E2BIG, "too many files")
            try:
                row = _row(folder, name, names)
                if row[1] == "directory" and not _enter(stack, row[0], name, limit):
                    row[1] = "closed"
            except OSError:
                continue  # gone or replaced meanwhile
            rows.append(row)
            length += len(row[0]) + len(row[7] or "") + 80
            if length > FRAME // 6:  # an odd character takes six in JSON
                yield json.dumps(rows).encode()
                rows, length = [], 0
        yield json.dumps(rows).encode()
    finally:
        for folder in stack:
            os.close(folder.fd)


def _row(folder: _Folder, name: str, names: dict[tuple[int, int], str]) -> list[Any]:
    """`names`: the first path of each file that has several."""
    found = os.lstat(name, dir_fd=folder.fd)
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    path = f"{folder.path}/{name}" if folder.path else name
    target = os.readlink(name, dir_fd=folder.fd) if kind == "link" else None
    if kind == "file" and found.st_nlink > 1:
        first = names.setdefault((found.st_dev, found.st_ino), path)
        target = None if first == path else first
    return [path, kind, *_facts(found), target]


def _facts(found: os.stat_result) -> list[int]:
    mode = stat.S_IMODE(found.st_mode)
    return [mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _enter(stack: list[_Folder], path: str, name: str, limit: int) -> bool:
    if len(stack) > DEEPEST:
        return False
    try:
        fd = os.open(name, _LIST, dir_fd=stack[-1].fd)
    except PermissionError:
        return False
    try:
        stack.append(_Folder(fd, path, limit + 1))
    except OSError:
        os.close(fd)
        return False
    return True


def fetch(
    root: str,
    paths: list[str],
    limit: int,
    budget: int,
    offset: int | None,
    send: Callable[[bytes], None],
) -> Generator[None, None, None]:
    """
    Read regular files, of at most `limit` bytes each and `budget` together; or with an `offset`
    the piece of them that starts there.

    Of each is sent: FILE_BEGIN and JSON of `[index, mode, size, mtime_ns, ctime_ns, inode,
    settled]`, any number of FILE_DATA and bytes, FILE_END; or FILE_FAIL and JSON of `[index,
    errno]` instead of its end. `settled` says that a later change will show in these numbers.
    """
    top = os.open(root, _PASS)
    try:
        for index, path in enumerate(paths):
            try:
                for data in _content(top, index, path, min(limit, budget), offset, send):
                    budget -= len(data)
                    yield
                send(FILE_END)
            except OSError as error:
                send(FILE_FAIL + json.dumps([index, error.errno or errno.EIO]).encode())
            yield
    finally:
        os.close(top)


def _content(
    top: int,
    index: int,
    path: str,
    limit: int,
    offset: int | None,
    send: Callable[[bytes], None],
) -> Iterator[bytes]:
    parent, name = _parent(top, path)
    try:
        fd = os.open(name, _READ, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if offset is not None:
            os.lseek(fd, offset, os.SEEK_SET)
        elif found.st_size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        settled = found.st_ctime_ns < time.time_ns() - SETTLED
        send(FILE_BEGIN + json.dumps([index, *_facts(found), settled]).encode())
        while data := os.read(fd, CHUNK if offset is None else min(CHUNK, limit)):
            limit -= len(data)
            if limit < 0:  # it grows while it is read
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            send(FILE_DATA + data)
            yield data
    finally:
        os.close(fd)


def _parent(top: int, path: str) -> tuple[int, str]:
    """The open directory that `path` lies in, and its name there."""
    *folders, name = path.split("/")
    if any(part in ("", ".", "..") for part in (*folders, name)):
        raise OSError(errno.EINVAL, "not a path below the workspace")
    fd = os.dup(top)
    for folder in folders:
        try:
            inner = os.open(folder, _PASS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd, name


# -- changing


class _Writable:
    """A directory that can be written while this lasts, whatever its mode says."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mode = stat.S_IMODE(os.fstat(fd).st_mode)

    def __enter__(self) -> None:
        if self._mode & 0o300 != 0o300:
            _chmod(self._fd, self._mode | 0o300)

    def __exit__(self, *error: object) -> None:
        if self._mode & 0o300 != 0o300:
            _chmod(self._fd, self._mode)


def _chmod(fd: int, mode: int) -> None:
    if hasattr(os, "O_PATH"):
        os.chmod(f"/proc/self/fd/{fd}", mode)  # fchmod refuses what was opened with O_PATH
    else:
        os.fchmod(fd, mode)


def change(root: str, steps: list[dict[str, Any]]) -> Generator[None, None, None]:
    """
    Do these steps in order; each may have been done before.

    `remove` (a directory with something in it stays), `directory` with `mode`, `link` with
    `target`, `name` (another one of the file `source`), `mode`; each with `path`. With `expect`
    nothing is replaced or removed that is something else: see `_check`.
    """
    top = os.open(root, _PASS)
    try:
        for step in steps:
            path = step["path"]
            try:
                parent, name = _parent(top, path)
            except FileNotFoundError:
                if step["do"] != "remove":
                    raise
                continue
            try:
                _step(top, parent, name, step)
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror}: {path}") from None
            finally:
                os.close(parent)
            yield
    finally:
        os.close(top)


def _step(top: int, parent: int, name: str, step: dict[str, Any]) -> None:
    with _Writable(parent):
        _check(parent, name, step.get("expect"))
        if step["do"] == "remove":
            _remove(parent, name)
        elif step["do"] == "link":
            temporary = _temporary()
            os.symlink(step["target"], temporary, dir_fd=parent)
            _replace(parent, temporary, name)
        elif step["do"] == "name":
            temporary = _temporary()
            _name_again(top, step["source"], parent, temporary)
            _replace(parent, temporary, name)
        elif step["do"] == "directory":
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                pass
            _set_mode(parent, name, step["mode"], stat.S_ISDIR)
        else:
            _set_mode(parent, name, step["mode"], lambda m: stat.S_ISDIR(m) or stat.S_ISREG(m))


def _check(parent: int, name: str, expect: list[int] | None) -> None:
    """
    Raise OSError ESTALE where something else is than `[size, mtime_ns, ctime_ns, inode]`; a ctime
    of 0 stands for any. `[]`: nothing may be there. None: anything.
    """
    if expect is None:
        return
    try:
        found = _facts(os.lstat(name, dir_fd=parent))[1:]
    except FileNotFoundError:
        return
    if expect and not expect[2]:
        found[2] = 0
    if found != expect:
        raise OSError(errno.ESTALE, "somebody else has changed it")


def _remove(parent: int, name: str) -> None:
    try:
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.rmdir(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _set_mode(parent: int, name: str, mode: int, wanted: Callable[[int], bool]) -> None:
    fd = os.open(name, _ANY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not wanted(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "something else is there")
        _chmod(fd, mode)
    finally:
        os.close(fd)


def _name_again(top: int, source: str, parent: int, name: str) -> None:
    """Give the regular file `source` one more name."""
    folder, old = _parent(top, source)
    try:
        os.link(old, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.lstat(name, dir_fd=parent).st_mode):
        os.unlink(name, dir_fd=parent)
        raise OSError(errno.EEXIST, "something else is there")


def _replace(parent: int, temporary: str, name: str) -> None:
    try:
        os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        # Still there after a failure, and where both were names of one file: then nothing happens.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)


def _temporary() -> str:
    return f".{os.urandom(9).hex()}.tmp"


class Restoring:
    """A file on its way into the workspace: a temporary file next to it, renamed at the end."""

    def __init__(
        self, root: str, path: str, mode: int, mtime: int | None, expect: list[int] | None = None
    ) -> None:
        top = os.open(root, _PASS)
        try:
            self._parent, self._name = _parent(top, path)
        finally:
            os.close(top)
        self._temporary = _temporary()
        self._mode = mode
        self._mtime = mtime
        self._expect = expect
        try:
            with _Writable(self._parent):
                self._file = os.open(self._temporary, _NEW, 0o600, dir_fd=self._parent)
        except OSError:
            os.close(self._parent)
            raise

    def write(self, data: bytes) -> None:
        if data.count(0) == len(data):  # holes stay holes
            os.lseek(self._file, len(data), os.SEEK_CUR)
            return
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def finish(self) -> None:
        os.ftruncate(self._file, os.lseek(self._file, 0, os.SEEK_CUR))
        os.fchmod(self._file, self._mode)
        if self._mtime is not None:
            os.utime(self._file, ns=(self._mtime, self._mtime))
        with _Writable(self._parent):
            _check(self._parent, self._name, self._expect)
            os.replace(
                self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent
            )
        self._close()

    def abandon(self) -> None:
        try:
            with _Writable(self._parent):
                os.unlink(self._temporary, dir_fd=self._parent)
        except OSError:
            pass  # the container's own processes may have taken it away
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._parent)
