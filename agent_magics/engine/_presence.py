"""Who is there, and what is at work: the engine stays as long as somebody holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Presence"]


class Presence:
    """
    Counts open streams (leases, events, running requests), and what must not be cut: turns, and
    requests that change something. `on_work` is called with the number of these.
    """

    def __init__(self, on_work: Callable[[int], None] | None = None) -> None:
        self._holders = 0
        self._changing = 0
        self._turns = 0
        self._on_work = on_work
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

    @contextmanager
    def change(self) -> Iterator[None]:
        """A request that changes something."""
        self._changing += 1
        self._tell()
        try:
            yield
        finally:
            self._changing -= 1
            self._tell()

    def set_turns(self, number: int) -> None:
        """So many turns run."""
        self._turns = number
        self._tell()

    def _tell(self) -> None:
        if self._on_work is not None:
            self._on_work(self._turns + self._changing)

    @property
    def alone_for(self) -> float:
        """Seconds since the last holder left; 0 while there is one."""
        return 0.0 if self._holders else time.monotonic() - self._left
