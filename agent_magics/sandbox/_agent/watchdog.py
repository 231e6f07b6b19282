"""What all commands together may use: processes and memory."""

from __future__ import annotations

import os

from .processes import (
    available_memory,
    descendants,
    proportional,
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
        if everything and self._machine_is_full():
            return "memory"
        if self._memory is not None:
            shared = self.orphan_memory()
            # the exact figure is slow to get, so only when the quick one is too high
            if (
                resident(everything) + shared > self._memory
                and proportional(everything) + shared > self._memory
            ):
                return "memory"
        return None

    def orphan_memory(self) -> int:
        """Bytes that stay allocated when every process is dead."""
        return system_v_memory() if self._isolated else 0

    def hopeless(self) -> bool:
        """Too much memory is held by nobody: only the end of the container frees it."""
        return self._memory is not None and self.orphan_memory() > self._memory

    def _machine_is_full(self) -> bool:
        available = available_memory()
        return available is not None and available < self._reserve


def heaviest(supervisors: Sequence[int], reason: str) -> int:
    """The supervisor whose tree uses most of what ran out."""

    def weight(supervisor: int) -> int:
        tree = descendants(supervisor)
        return len(tree) if reason == "processes" else resident(tree)

    return max(supervisors, key=weight)
