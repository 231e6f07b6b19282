"""A sandbox per test, on the default provider; the modules of others say how theirs is opened."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_magics.sandbox import Limits, ProviderReport, Sandbox, open_sandbox, probe

pytest.register_assert_rewrite("tests.sandbox.suite")

MEGABYTE = 1 << 20


@pytest.fixture(scope="session")
def bubblewrap_report() -> ProviderReport:
    return next(report for report in probe(["bubblewrap"]) if report.name == "bubblewrap")


@pytest.fixture
def needs_bubblewrap(bubblewrap_report: ProviderReport) -> None:
    if not bubblewrap_report.works:
        pytest.skip(f"NO CONTAINERS HERE: {bubblewrap_report.reason}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "session"


@pytest.fixture
def opens(needs_bubblewrap: None) -> Callable[..., Sandbox]:
    """`open_sandbox`, for the provider under test."""
    return open_sandbox


@pytest.fixture
def open_box(root: Path, opens: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    """A sandbox of the provider under test."""
    return lambda **options: opens(root, **options)


@pytest.fixture
def kill_container() -> Callable[[Sandbox], Awaitable[None]]:
    """Ends the container of the provider under test, from outside and without notice."""

    async def kill(sandbox: Sandbox) -> None:
        assert sandbox._channel is not None
        os.kill(sandbox._channel._process.pid, signal.SIGKILL)

    return kill


@pytest.fixture
async def sandbox(open_box: Callable[..., Sandbox]) -> AsyncIterator[Sandbox]:
    box = open_box()
    await box.start()
    yield box
    await box.destroy()


@pytest.fixture
async def limited(root: Path, needs_bubblewrap: None) -> AsyncIterator[Callable[..., Any]]:
    """Starts a sandbox with given limits."""
    boxes: list[Sandbox] = []

    async def start(**limits: Any) -> Sandbox:
        boxes.append(open_sandbox(root, limits=Limits(**limits)))
        await boxes[-1].start()
        return boxes[-1]

    yield start
    for box in boxes:
        await box.destroy()


@pytest.fixture
def seconds() -> str:
    """An argument for sleep by which the process is found among the machine's."""
    number = uuid.uuid4().int
    return f"{10**5 + number % 10**6}.{number % 10**9}"
