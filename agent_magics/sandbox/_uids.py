"""Throw-away users: as root, every session's container runs as a user that nothing else is."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["running_tasks", "session_uid"]

FIRST, COUNT = 1_900_000_000, 90_000_000
SMALL_FIRST, SMALL_LAST = 20_000, 60_000


def session_uid(owner: int) -> int | None:
    """
    The user for a session whose files belong to `owner`; None: there is no other user to be had.

    A session that is opened again keeps its user.
    """
    allowed = _range()
    if allowed is None:
        return None
    if owner in allowed:
        return owner
    return allowed.start + secrets.randbelow(len(allowed))


def _range() -> range | None:
    """User numbers nobody has, in this user namespace: a container's root may have few."""
    wide, small = range(FIRST, FIRST + COUNT), range(SMALL_FIRST, SMALL_LAST)
    for candidate in (wide, small):
        if any(candidate.start in block and candidate[-1] in block for block in _mapped()):
            return candidate
    return None


def _mapped() -> list[range]:
    text = Path("/proc/self/uid_map").read_text("ascii")
    rows = [[int(field) for field in line.split()] for line in text.splitlines()]
    return [range(inside, inside + length) for inside, _, length in rows]


def running_tasks(uid: int) -> int:
    """Threads that run as this user now, as far as /proc shows them."""
    total = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if process.stat().st_uid == uid:
                    total += len(os.listdir(process / "task"))  # noqa: PTH208
            except OSError:
                continue
    return total
