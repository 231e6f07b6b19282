"""What all commands together may use: processes and memory."""

from __future__ import annotations

import os

from .processes import (
    available_memory,
    descendants,
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
        self._memory: int | None = config["memory"]
        self._reserve: int = config["memory_reserve"]
        # System V memory is counted only where the IPC namespace is the container's own
        self._isolated: bool = config["isolated"]

    def excess(self) -> str | None:
        """Which total is exceeded now: "processes", "memory" or None."""
        everything = descendants(os.getpid())
        if self._processes is not None and len(everything) > self._processes:
            return "processes"
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

    def _too_much(self, used: int) -> bool:
        if self._isolated:
            used += system_v_memory()
        return self._memory is not None and used > self._memory

    def _machine_is_full(self) -> bool:
        available = available_memory()
        return available is not None and available < self._reserve


def heaviest(supervisors: Sequence[int], reason: str) -> int:
    """The supervisor whose tree uses most of what ran out."""

    def weight(supervisor: int) -> int:
        tree = descendants(supervisor)
        return len(tree) if reason == "processes" else resident(tree)

    return max(supervisors, key=weight)
