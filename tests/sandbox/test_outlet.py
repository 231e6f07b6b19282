"""The event loop inside the container: it never sleeps while there is work to do."""

from __future__ import annotations

import os
from typing import Any

import pytest

from agent_magics.sandbox._agent import outlet
from agent_magics.sandbox._agent.outlet import HIGH_WATER, Outlet


def test_no_sleep_when_the_host_takes_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue was full, and is empty by the time that a descriptor could be waited for."""
    reading, writing = os.pipe()
    queue = Outlet(writing)
    queue.send(69, 1, bytes(HIGH_WATER))
    assert queue.full
    waits: list[float | None] = []
    select = queue._selector.select

    def watched(timeout: float | None = None) -> Any:
        waits.append(timeout)
        return select(0)

    monkeypatch.setattr(queue._selector, "select", watched)
    monkeypatch.setattr(outlet.os, "write", lambda fd, data: len(data))
    queue.wait(None, busy=True)
    queue.wait(None, busy=False)
    assert waits == [0, None]
    os.close(reading)
    os.close(writing)
