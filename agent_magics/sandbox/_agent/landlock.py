"""
Landlock, a second layer: nothing is written but where the container has its own files.

The mounts say the same. Should one of them be writable by mistake, or something be mounted later,
this still holds, for this process and everything it starts.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Sequence

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on all processors
_VERSION, _PATH_BENEATH, _PR_SET_NO_NEW_PRIVS = 1, 1, 38
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
_CHANGE_DIRECTORY = 0x1FF0  # remove and make entries of each kind
LEAST = 2
"""The version from which on files may be moved between directories."""


def version() -> int:
    """What this kernel has; 0: nothing, or it is switched off."""
    try:
        return max(int(_libc().syscall(_CREATE, None, 0, _VERSION)), 0)
    except (OSError, AttributeError):
        return 0


def usable_version() -> int:
    """The version of Landlock that containers are bound with; 0: without it."""
    found = version()
    return found if found >= LEAST else 0


def restrict(trees: Sequence[str], files: Sequence[str]) -> bool:
    """
    Refuse from now on, for good, all changes of files but in `trees`, and below `files` but those
    of files that are there. False where the kernel can't; nothing has changed then.
    """
    import ctypes

    found = version()
    if found < LEAST:
        return False
    libc = _libc()
    contents = _WRITE_FILE | (_TRUNCATE if found >= 3 else 0)
    everything = contents | _CHANGE_DIRECTORY | _REFER
    handled = ctypes.c_uint64(everything)
    ruleset = libc.syscall(_CREATE, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        return False
    try:
        for paths, allowed in ((trees, everything), (files, contents)):
            if not all(_allow(libc, ruleset, path, allowed) for path in paths):
                return False
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(_RESTRICT, ruleset, 0) == 0)
    except OSError:  # one of the paths is not there
        return False
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, access: int) -> bool:
    import ctypes

    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = access.to_bytes(8, "little") + fd.to_bytes(4, "little")
        data = ctypes.create_string_buffer(rule, len(rule))
        return bool(libc.syscall(_ADD, ruleset, _PATH_BENEATH, data, 0) == 0)
    finally:
        os.close(fd)


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
