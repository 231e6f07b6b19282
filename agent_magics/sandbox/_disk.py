"""A session's share of the disk: bytes and files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from ._trees import disk_usage
from ._types import Limits

__all__ = ["DiskWatch"]

INTERVAL = 0.25
FREE_RESERVE = 256 << 20
FREE_FILES = 10_000
SMALL = 16 << 20
FEW = 1000
COUNTING = 10
"""Where the file system does not count its files we do, and rest so many times as long."""


class DiskWatch:
    """
    Calls `on_full` when the session's files take more than the limits allow, or the disk is full:
    with "disk" for bytes, with "files" for their number.

    Free space is looked at often, for it costs nothing; files are measured only when enough of it
    has gone to matter. What is merely full already does not count, so that one can clean up.
    """

    def __init__(self, root: Path, limits: Limits, on_full: Callable[[str], None]) -> None:
        self._root = root
        self._bytes = limits.disk
        self._files = limits.most_files
        self._on_full = on_full
        self._space = _Since()
        self._names = _Since()
        self._count_at = 0.0
        self._counted: int | None = None
        self._task: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """A command runs."""
        if self._task is None and not (self._bytes is None and self._files is None):
            self._task = asyncio.create_task(self._watch(), name="sandbox-disk")

    def pause(self) -> None:
        """No command runs."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        if self._files is not None and (self._counted or 0) > self._files:
            # those that were ended for it wrote more before their end; now one may clean up
            self._counted = (await asyncio.to_thread(disk_usage, self._root))[1]
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                found = os.statvfs(self._root)
            except OSError:  # the session is being destroyed
                continue
            reason = self._machine_is_full(found)
            if reason is None and self._has_taken_much(found):
                self._space.reset(_space(found))  # or others fill the disk
                self._names.reset(_names(found))
                reason = await self._measure()
            if reason is not None:
                self._on_full(reason)

    def _machine_is_full(self, found: os.statvfs_result) -> str | None:
        bytes_taken, files_taken = (
            self._space.taken(_space(found)),
            self._names.taken(_names(found)),
        )
        if self._bytes is not None and bytes_taken > SMALL and _space(found) < FREE_RESERVE:
            return "disk"
        few_left = found.f_favail < min(FREE_FILES, found.f_files // 20)
        return "files" if self._files is not None and files_taken > FEW and few_left else None

    def _has_taken_much(self, found: os.statvfs_result) -> bool:
        if self._bytes is not None and self._space.taken(_space(found)) > self._bytes // 8:
            return True
        if self._files is None:
            return False
        if found.f_files == 0:  # as btrfs says it
            return time.monotonic() >= self._count_at
        return self._names.taken(_names(found)) > self._files // 8

    async def _measure(self) -> str | None:
        began = time.monotonic()
        size, files = await asyncio.to_thread(disk_usage, self._root)
        self._count_at = time.monotonic() + COUNTING * (time.monotonic() - began)
        before, self._counted = self._counted, files
        if self._bytes is not None and size > self._bytes:
            return "disk"
        if self._files is None or files <= self._files:
            return None
        return "files" if before is None or files > before else None


def _space(found: os.statvfs_result) -> int:
    """Bytes that are left."""
    return found.f_bavail * found.f_frsize


def _names(found: os.statvfs_result) -> int:
    """The number of files, negative: XFS has as many left as the free space would hold."""
    return found.f_ffree - found.f_files


class _Since:
    """How much of something that is left has gone since there was most of it."""

    def __init__(self) -> None:
        self._most: int | None = None

    def taken(self, left: int) -> int:
        if self._most is None or left > self._most:
            self._most = left
        return self._most - left

    def reset(self, left: int) -> None:
        self._most = left
