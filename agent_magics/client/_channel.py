"""A bounded queue between one producer task and one consumer on the same event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Channel"]

T = TypeVar("T")


class Channel(Generic[T]):
    """
    Hands items over in batches; a full channel holds the producer back.

    After `finish()` the consumer gets what is left, then the error, or empty batches.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._space = asyncio.Event()
        self._finished = False
        self._error: BaseException | None = None

    @property
    def exhausted(self) -> bool:
        """Finished, and everything was taken."""
        return self._finished and not self._items

    async def put(self, item: T) -> None:
        while len(self._items) >= self._size and not self._finished:
            self._space.clear()
            await self._space.wait()
        if not self._finished:
            self._items.append(item)
            self._changed.set()

    def finish(self, error: BaseException | None = None) -> None:
        """No more items. Only the first call counts."""
        if not self._finished:
            self._finished = True
            self._error = error
            self._changed.set()
            self._space.set()

    async def take(self, timeout: float | None = None) -> list[T]:
        """
        All items there are, waiting for the first one.

        Empty after `timeout` seconds and at the end (`exhausted` tells which). Raises the error
        of `finish()` once.
        """
        if not self._items and not self._finished:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                return []
        if not self._items and self._error is not None:
            error, self._error = self._error, None
            raise error
        items = list(self._items)
        self._items.clear()
        self._space.set()
        return items
