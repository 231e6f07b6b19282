"""Directory trees that hostile code filled: measure, hand over, remove. No link is followed."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["adopt_tree", "disk_usage", "remove_tree"]

BATCH = 1000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_IS_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def disk_usage(path: Path) -> tuple[int, int]:
    """Bytes on disk and entries of directories below `path`, as far as they can be read."""
    total = entries = 0
    todo = [str(path)]
    while todo:
        folder = todo.pop()
        try:
            fd = os.open(folder, _DIRECTORY)
        except OSError:
            continue
        try:
            for name, found in _entries(fd):
                entries += 1
                total += found.st_blocks * 512
                if stat.S_ISDIR(found.st_mode):
                    todo.append(f"{folder}/{name}")
        finally:
            os.close(fd)
    return total, entries


def adopt_tree(path: Path, uid: int) -> None:
    """
    Give `path` and everything below it to user and group `uid`; only root can.

    Files with several names are left alone: one of the names may be elsewhere.
    """
    os.chown(path, uid, uid, follow_symlinks=False)
    todo = [str(path)]
    while todo:
        folder = todo.pop()
        fd = os.open(folder, _DIRECTORY)
        try:
            for name, found in _entries(fd):
                if stat.S_ISDIR(found.st_mode):
                    todo.append(f"{folder}/{name}")
                elif found.st_nlink > 1:
                    continue
                os.chown(name, uid, uid, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)


def _entries(fd: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                yield entry.name, entry.stat(follow_symlinks=False)
            except OSError:
                continue


def remove_tree(path: Path) -> None:
    """
    Remove a directory and everything in it, whatever its modes, depth or names.

    Nested directories are moved up first, so neither the depth of the tree nor the length of its
    paths matters. Nothing happens where there is no such directory.

    Raises:
        OSError: something could not be removed, or is created as fast as it is removed.
    """
    try:
        top = _open_directory(str(path), None)
    except FileNotFoundError:
        return
    numbers = itertools.count()
    try:
        while names := _names(top):
            for name in names:
                if not _unlink(name, top):
                    _dissolve(name, top, numbers)
    finally:
        os.close(top)
    path.rmdir()


def _dissolve(name: str, top: int, numbers: Iterator[int]) -> None:
    """Remove the directory `name` of `top`; the directories in it move up into `top`."""
    fd = _open_directory(name, top)
    try:
        while inner := _names(fd):
            for entry in inner:
                if not _unlink(entry, fd):
                    _move_up(entry, fd, top, numbers)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)


def _move_up(entry: str, fd: int, top: int, numbers: Iterator[int]) -> None:
    os.close(_open_directory(entry, fd))  # a directory can move only if it is writable
    for number in numbers:
        try:
            os.rename(entry, f".removed-{number}", src_dir_fd=fd, dst_dir_fd=top)
            return
        except OSError as error:
            if error.errno not in _NAME_IS_TAKEN:
                raise


def _names(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in itertools.islice(entries, BATCH)]


def _unlink(name: str, fd: int) -> bool:
    """Remove what is not a directory; False where it is one."""
    try:
        if stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
            return False
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    return True


def _open_directory(name: str, parent: int | None) -> int:
    """Open a directory of ours and make it readable and writable for us."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        fd = _open_closed_directory(name, parent)
    os.fchmod(fd, 0o700)
    return fd


def _open_closed_directory(name: str, parent: int | None) -> int:
    """As `_open_directory`, of one that even its owner may not open."""
    if not hasattr(os, "O_PATH"):
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        itself = Path(f"/proc/self/fd/{handle}")  # and no other, even if it was renamed
        itself.chmod(0o700)
        return os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(handle)
