"""What all commands together may use: processes and memory."""

# plain open: importing pathlib would add a third to the start-up time
# ruff: noqa: PTH123

from __future__ import annotations

import errno
import os
import select

from .processes import (
    available_memory,
    descendants,
    open_files,
    proportional,
    release_system_v_memory,
    resident,
    system_v_memory,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Watchdog:
    """
    Totals that no rlimit covers.

    Works by looking several times a second, so it bounds a runaway command; it is not a wall.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._processes: int | None = config["processes"]
        # others' files count on any other file system, /tmp on a disk for one
        self._folders = {
            folder: most for folder, most in config["folders"].items() if is_memory(folder)
        }
        self._numbers: dict[str, int] = {}
        self._descriptors: int | None = config["descriptors"]
        self._memory: int | None = config["memory"]
        self._reserve: int = config["memory_reserve"]
        # System V memory is counted only where the IPC namespace is the container's own
        self._isolated: bool = config["isolated"]
        if self._descriptors is not None:
            self._probe = select.epoll()
            self._watched = os.pipe()[0]

    def excess(self) -> str | None:
        """Which total is exceeded now: "processes", "open files", "files", "memory" or None."""
        everything = descendants(os.getpid())
        if self._processes is not None and len(everything) > self._processes:
            return "processes"
        if self._descriptors is not None and (
            open_files(everything) > self._descriptors or self._no_more_watches()
        ):
            return "open files"
        if self._crowded():
            return "files"
        held = resident(everything)
        # of many containers on a full machine, those that hold little are not what fills it
        if held > self._reserve // 4 and self._machine_is_full():
            return "memory"
        # the quick figure is too high where memory is shared, the exact one is slow to get
        if self._too_much(held):
            if self._isolated:
                release_system_v_memory()
            if self._too_much(proportional(everything)):
                return "memory"
        return None

    def _crowded(self) -> bool:
        """More files in memory than a directory there may have; not while one cleans up."""
        crowded = False
        for folder, most in self._folders.items():
            try:
                found = os.statvfs(folder)
            except OSError:
                continue
            number = found.f_files - found.f_ffree
            crowded = crowded or number > max(most, self._numbers.get(folder, 0))
            self._numbers[folder] = number
        return crowded

    def _no_more_watches(self) -> bool:
        """
        The user's epoll sets are full, which no limit of a container covers.

        Nobody but an attacker comes near the millions that are allowed; none of the user's other
        programs can wait for anything then.
        """
        try:
            self._probe.register(self._watched, select.EPOLLIN)
        except OSError as error:
            return error.errno == errno.ENOSPC
        self._probe.unregister(self._watched)
        return False

    def _too_much(self, used: int) -> bool:
        if self._isolated:
            used += system_v_memory()
        return self._memory is not None and used > self._memory

    def _machine_is_full(self) -> bool:
        available = available_memory()
        return available is not None and available < self._reserve


def is_memory(folder: str) -> bool:
    """Whether a file system in memory is mounted just here."""
    with open("/proc/self/mounts") as mounts:
        kinds = [words[2] for words in map(str.split, mounts) if words[1] == folder]
    return kinds[-1:] == ["tmpfs"]


def heaviest(supervisors: Sequence[int], reason: str) -> int:
    """The supervisor whose tree uses most of what ran out."""

    def weight(supervisor: int) -> int:
        tree = descendants(supervisor)
        if reason == "open files":
            return open_files(tree)
        return len(tree) if reason == "processes" else resident(tree)

    return max(supervisors, key=weight)
