"""Looking at the machine's processes from a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path


def with_argument(text: str) -> list[int]:
    """Processes of the machine that have `text` as one of their arguments."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if text.encode() in arguments:
                found.append(int(process.name))
    return found


async def eventually(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    """Wait until the condition holds; fails at the deadline."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        await asyncio.sleep(0.01)
