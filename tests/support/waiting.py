"""Wait for a condition, not for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_DEADLINE = 30.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(_DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)
