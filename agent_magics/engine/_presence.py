"""Who is there: the engine stays as long as somebody holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Presence"]


class Presence:
    """Counts open streams (leases, events, running requests)."""

    def __init__(self) -> None:
        self._holders = 0
        self._left = time.monotonic()
        self.closing = asyncio.Event()
        """Set when the engine goes; open streams end then."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._left = time.monotonic()

    @property
    def alone_for(self) -> float:
        """Seconds since the last holder left; 0 while there is one."""
        return 0.0 if self._holders else time.monotonic() - self._left
