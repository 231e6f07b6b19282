"""Containers for walks of models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_magics.sandbox import Sandbox, open_sandbox, probe
from tests.support.agent_loop import Record


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """Real files and processes, without isolation."""
    sandbox = open_sandbox(tmp_path / "session", provider="local")
    await sandbox.start()
    yield sandbox
    await sandbox.destroy()


@pytest.fixture(scope="session")
def bubblewrap_works() -> None:
    report = next(report for report in probe(["bubblewrap"]) if report.name == "bubblewrap")
    if not report.works:
        pytest.skip(f"no container here: {report.reason}")


@pytest.fixture
async def container(tmp_path: Path, bubblewrap_works: None) -> AsyncIterator[Sandbox]:
    """A real container."""
    sandbox = open_sandbox(tmp_path / "session", provider="bubblewrap")
    await sandbox.start()
    yield sandbox
    await sandbox.destroy()


@pytest.fixture
def record(sandbox: Sandbox) -> Record:
    return Record(sandbox)
