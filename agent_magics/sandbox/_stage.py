"""
A small program, run by root only: start bwrap as a user that can't reach what it shall mount.

Some of it lies below directories that only root may enter, such as /root or the session's own. In
a private mount namespace root binds each of them to a number below STAGE, gives up all privileges
and becomes the given user for good. No other process ever sees these mounts.

    python -I -S _stage.py UID COUNT SOURCE… PROGRAM ARGUMENT…
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from typing import NoReturn

STAGE = "/mnt"

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
PR_SET_NO_NEW_PRIVS = 38


def staged(index: int) -> str:
    """Where the source number `index` is found."""
    return f"{STAGE}/{index}"


def main(arguments: list[str]) -> NoReturn:
    """Never returns: becomes PROGRAM, or fails with one line on stderr."""
    uid, count = int(arguments[0]), int(arguments[1])
    sources, command = arguments[2 : 2 + count], arguments[2 + count :]
    try:
        _build(sources)
        # opened as root, for it may lie where the user can't go (a script could not be run so)
        program = os.open(command[0], os.O_RDONLY | os.O_CLOEXEC)
        _become(uid)
        reachable = os.access(command[0], os.X_OK)
        os.execve(command[0] if reachable else program, command, {})
    except OSError as error:
        sys.exit(f"stage: {error}")


def _build(sources: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "can't make a mount namespace")
    _mount(libc, "none", "/", None, MS_REC | MS_PRIVATE)
    handles = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in sources]  # STAGE may hide them
    _mount(libc, "none", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k")
    for index, handle in enumerate(handles):
        target = staged(index)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.mkdir(target)  # noqa: PTH102
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _mount(libc, f"/proc/self/fd/{handle}", target, None, MS_BIND | MS_REC)
        os.close(handle)


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "can't give up privileges")


def _mount(
    libc: ctypes.CDLL, source: str, target: str, kind: str | None, flags: int, data: str = ""
) -> None:
    done = libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(done, f"can't mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])
