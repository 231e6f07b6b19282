"""
Processes that outlive an agent program without a container of its own.

A container ends as a whole. Without one, a program that was killed can't end what it started; so
everything it starts carries its session's directory in the environment, and is found by that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MARKER", "end_leftovers"]

MARKER = "AGENT_MAGICS_LOCAL_SESSION"
"""The variable; its value is the session's directory, absolute."""

_ROUNDS = 50


def end_leftovers(root: Path) -> int:
    """
    Kill all processes of ours that were started in sessions at or below `root`; how many it were.

    For sessions whose agent program has ended: it would be among them. Linux only; elsewhere
    nothing is found.
    """
    ended: set[int] = set()
    quiet = 0
    for _ in range(_ROUNDS):  # what forks while it is looked for is found in the next round
        killed = {pid for pid in _processes() if _kill(pid, root)}
        quiet = 0 if killed else quiet + 1
        if quiet > 1:
            break
        ended |= killed
    return len(ended)


def _processes() -> Iterator[int]:
    me = str(os.getpid())
    try:
        entries = list(os.scandir("/proc"))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid() and entry.name != me:
                yield int(entry.name)
        except OSError:
            continue


def _kill(pid: int, root: Path) -> bool:
    """Kill the process if it is one of them, and no other that got its number meanwhile."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _is_marked(pid, root):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_marked(pid: int, root: Path) -> bool:
    prefix = f"{MARKER}=".encode()
    for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if variable.startswith(prefix):
            return Path(os.fsdecode(variable[len(prefix) :])).is_relative_to(root)
    return False
