"""A session's share of the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from ._trees import disk_usage

__all__ = ["DiskWatch"]

INTERVAL = 0.25
FREE_RESERVE = 256 << 20
SMALL = 16 << 20


class DiskWatch:
    """
    Calls `on_full` when the session's files take more than `quota` bytes, or the disk is full.

    Free space is looked at often, for it costs nothing; files are measured only when enough of it
    has gone to matter. What is merely full already does not count, so that one can clean up.
    """

    def __init__(self, root: Path, quota: int | None, on_full: Callable[[], None]) -> None:
        self._root = root
        self._quota = quota
        self._on_full = on_full
        self._reference: int | None = None
        self._task: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """A command runs."""
        if self._quota is not None and self._task is None:
            self._task = asyncio.create_task(self._watch(self._quota), name="sandbox-disk")

    def pause(self) -> None:
        """No command runs."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self, quota: int) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                free = self._free()
            except OSError:  # the session is being destroyed
                continue
            if self._reference is None or free > self._reference:
                self._reference = free
            taken = self._reference - free
            if taken > SMALL and free < FREE_RESERVE:
                self._on_full()
            elif taken > quota // 8:
                if await asyncio.to_thread(disk_usage, self._root) > quota:
                    self._on_full()
                self._reference = free  # or others fill the disk

    def _free(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize
