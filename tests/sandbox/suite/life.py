"""The container's life: start, end, death, a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent_magics.sandbox import Sandbox, SandboxGone
from tests.support.processes import eventually, with_argument

Killer = Callable[[Sandbox], Awaitable[None]]


async def listed(sandbox: Sandbox, path: str) -> None:
    """Wait until the file is there."""
    async with asyncio.timeout(30):
        while not any(entry.path == path for entry in await sandbox.list_files()):
            pass


async def test_start_is_idempotent(sandbox: Sandbox, seconds: str) -> None:
    await sandbox.run(f"sleep {seconds} &")
    await eventually(lambda: len(with_argument(seconds)) == 1)
    await asyncio.gather(sandbox.start(), sandbox.start())
    assert len(with_argument(seconds)) == 1  # still the same container


async def test_stop_keeps_files(sandbox: Sandbox) -> None:
    await sandbox.write_file("kept", b"x")
    await sandbox.stop()
    assert not sandbox.alive
    await sandbox.start()
    assert await sandbox.read_file("kept") == b"x"


async def test_stop_under_a_running_command(sandbox: Sandbox) -> None:
    task = asyncio.create_task(sandbox.run("touch started; sleep 60"))
    await listed(sandbox, "/workspace/started")
    await sandbox.stop()
    with pytest.raises(SandboxGone):
        await task


async def test_death_of_the_container(
    sandbox: Sandbox, kill_container: Killer, seconds: str
) -> None:
    await sandbox.write_file("kept", b"x")
    task = asyncio.create_task(sandbox.run(f"sleep {seconds}"))
    await eventually(lambda: len(with_argument(seconds)) == 1)
    await kill_container(sandbox)
    with pytest.raises(SandboxGone):
        await asyncio.wait_for(task, 30)
    assert not sandbox.alive
    with pytest.raises(SandboxGone):
        await sandbox.run("true")
    await sandbox.start()
    assert await sandbox.read_file("kept") == b"x"
    await eventually(lambda: not with_argument(seconds))
