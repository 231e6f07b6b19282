"""
Room that is kept for bad times: a file that is given up when the disk is full.

With it a turn that the full disk cuts is still closed, and sessions can be ended, which makes room.
Getting it back is also the proof that there is room again.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["Reserve", "shortage_message"]

_SIZE = 4 << 20
_PIECE = bytes(1 << 16)
_ADVICE = {
    errno.ENOSPC: (
        "the disk of {path} is full. Make room (5 MB or more): end sessions, or delete files"
    ),
    errno.EDQUOT: "the quota on the disk of {path} is used up. End sessions, or delete files",
    errno.EFBIG: "files in {path} may not grow (a limit of file sizes). Raise the limit",
    errno.EROFS: "{path} is on a read-only file system. Mount it for writing",
    errno.EACCES: "the engine may not write in {path}. Run: chmod u+rwx {path}",
}


def shortage_message(path: Path, error: OSError) -> str:
    """One sentence: why nothing can be stored in `path`, and what to do."""
    advice = _ADVICE.get(error.errno or 0, "{file} can't be written ({why}). Mend that")
    return advice.format(
        path=path, file=error.filename or path, why=error.strerror or type(error).__name__
    )


class Reserve:
    """`path` is the file; `size` in bytes. Used by one thread at a time."""

    def __init__(self, path: Path, size: int = _SIZE) -> None:
        self._path = path
        self._size = size

    def fill(self) -> OSError | None:
        """Have the whole reserve. Returns why that can't be."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_blocks * 512 < self._size:
                    _allocate(fd, self._size)
            finally:
                os.close(fd)
        except OSError as error:
            self.release()
            return error
        return None

    def release(self) -> bool:
        """Give it up. False when there was none."""
        try:
            size = self._path.stat().st_size
            self._path.unlink()
        except OSError:
            return False
        return size > 0


def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    for offset in range(0, size, len(_PIECE)):
        os.pwrite(fd, _PIECE, offset)
