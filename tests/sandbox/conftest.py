"""A sandbox per test, on the default provider."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_magics.sandbox import Limits, ProviderReport, Sandbox, open_sandbox, probe

MEGABYTE = 1 << 20


@pytest.fixture(scope="session")
def bubblewrap_report() -> ProviderReport:
    return next(report for report in probe() if report.name == "bubblewrap")


@pytest.fixture
def needs_bubblewrap(bubblewrap_report: ProviderReport) -> None:
    if not bubblewrap_report.works:
        pytest.skip(f"NO CONTAINERS HERE: {bubblewrap_report.reason}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "session"


@pytest.fixture
async def sandbox(root: Path, needs_bubblewrap: None) -> AsyncIterator[Sandbox]:
    box = open_sandbox(root)
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
