"""Containers that nobody uses are stopped; the next use starts them again, with the same files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent_magics.sandbox import SandboxError

if TYPE_CHECKING:
    from ._containers import Containers
    from ._sessions import SessionBook

__all__ = ["IdleContainers"]

log = logging.getLogger(__name__)

_ROUNDS = 10
"""Looks during the time that a container may be idle."""
_LONGEST_PAUSE = 60.0


class IdleContainers:
    """
    Looks at every container again and again, and stops those without use for `limit` seconds.

    A container is in use while a command of it runs or a file is read or written, while a turn of
    one of its sessions runs, and while something else keeps such a session busy. `clock` gives
    seconds.
    """

    def __init__(
        self,
        containers: Containers,
        sessions: SessionBook,
        limit: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._containers = containers
        self._sessions = sessions
        self._limit = limit
        self._clock = clock
        self._last: dict[str, tuple[int, float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        if self._limit is not None:
            self._task = asyncio.create_task(self._watch(self._limit), name="idle-containers")

    async def close(self) -> None:
        """Look no more. A container that is being stopped is still stopped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def look(self) -> None:
        """Stop what has been idle for too long."""
        alive = self._containers.alive()
        self._last = {owner: self._last[owner] for owner, _ in alive if owner in self._last}
        for owner, sandbox in alive:
            uses, since = self._last.get(owner, (-1, 0.0))
            now = self._containers.uses(owner)
            if sandbox.busy or now != uses or self._needed(owner):
                self._last[owner] = (now, self._clock())
            elif self._limit is not None and self._clock() - since >= self._limit:
                await self._stop(owner, self._limit)

    def _needed(self, owner: str) -> bool:
        sharing = [s for s in self._sessions if owner in (s.id, s.container)]
        return not sharing or any(s.turn is not None or s.held for s in sharing)

    async def _stop(self, owner: str, limit: float) -> None:
        session = self._sessions.get(owner)
        try:
            await self._containers.rest(session, f"after {limit / 60:g} minutes without a command")
        except (SandboxError, OSError) as error:
            log.warning("stopping the container of %s: %s", owner, type(error).__name__)

    async def _watch(self, limit: float) -> None:
        while True:
            await asyncio.sleep(min(_LONGEST_PAUSE, limit / _ROUNDS))
            await self.look()
