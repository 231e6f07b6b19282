"""Ending commands: nothing of them is left."""

from __future__ import annotations

import asyncio

import pytest

from agent_magics.sandbox import ExecResult, Interrupt, Sandbox
from agent_magics.sandbox import _running as running_module
from tests.support.processes import eventually, with_argument


async def test_partial_output(sandbox: Sandbox) -> None:
    result = await sandbox.run("echo partial; echo oops >&2; sleep 30", timeout=2)
    assert (result.stdout, result.stderr) == (b"partial\n", b"oops\n")
    assert (result.exit_code, result.timed_out, result.killed_by) == (124, True, "timeout")
    assert result.duration >= 2


async def test_may_clean_up(sandbox: Sandbox) -> None:
    command = "trap 'echo clean; exit 3' TERM; echo ready; sleep 30 & wait"
    result = await sandbox.run(command, timeout=2)
    assert result.stdout == b"ready\nclean\n"
    assert result.exit_code == 124


async def test_stubborn_one_is_killed(sandbox: Sandbox, seconds: str) -> None:
    command = f"trap '' TERM INT HUP; echo stubborn; while :; do sleep {seconds}; done"
    result = await sandbox.run(command, timeout=2)
    assert result.stdout == b"stubborn\n"
    assert result.duration >= 2.5
    assert not with_argument(seconds)


async def test_stopped_one_is_ended(sandbox: Sandbox) -> None:
    result = await sandbox.run("kill -STOP $$", timeout=0.3)
    assert result.timed_out


async def test_daemons_die_with_a_timeout(sandbox: Sandbox, seconds: str) -> None:
    daemon = f"(setsid nohup bash -c 'trap \"\" TERM HUP; exec sleep {seconds}' >/dev/null 2>&1 &)"
    result = await sandbox.run(f"{daemon}; sleep 0.1; sleep 30", timeout=2)
    assert result.timed_out
    assert not with_argument(seconds)


async def test_daemons_survive_a_normal_end(sandbox: Sandbox, seconds: str) -> None:
    await sandbox.run(f"(setsid nohup sleep {seconds} >/dev/null 2>&1 &)")
    await eventually(lambda: bool(with_argument(seconds)))
    await sandbox.stop()
    assert not with_argument(seconds)


async def test_cancel_kills_the_tree(sandbox: Sandbox, seconds: str) -> None:
    command = f"trap '' TERM; (setsid sleep {seconds} &); sleep {seconds}"
    task = asyncio.create_task(sandbox.run(command))
    await eventually(lambda: len(with_argument(seconds)) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not with_argument(seconds)
    assert (await sandbox.run("echo on")).stdout == b"on\n"


async def test_cancelled_twice(sandbox: Sandbox, seconds: str) -> None:
    task = asyncio.create_task(sandbox.run(f"trap '' TERM; sleep {seconds}; sleep {seconds}"))
    await eventually(lambda: bool(with_argument(seconds)))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not with_argument(seconds))
    await eventually(lambda: not sandbox.busy)
    assert sandbox.alive


async def test_cancel_hits_only_its_own(sandbox: Sandbox, seconds: str) -> None:
    other = asyncio.create_task(sandbox.run("sleep 1; echo untouched"))
    task = asyncio.create_task(sandbox.run(f"sleep {seconds}"))
    await eventually(lambda: bool(with_argument(seconds)))
    task.cancel()
    assert (await other).stdout == b"untouched\n"


async def test_no_timeout(sandbox: Sandbox) -> None:
    assert (await sandbox.run("sleep 0.3; echo done", timeout=None)).stdout == b"done\n"


# Ctrl-C


async def press_when_it_says(
    sandbox: Sandbox, command: str, word: bytes, *, kill: bool = False
) -> ExecResult:
    """Ctrl-C, once the command has printed that word."""
    interrupt, printed = Interrupt(), bytearray()

    def listen(stream: str, data: bytes) -> None:
        if stream == "stderr":
            return
        before = word in printed
        printed.extend(data)
        if word in printed and not before:
            interrupt.kill() if kill else interrupt.press()

    result = await sandbox.run(command, timeout=60, on_output=listen, interrupt=interrupt)
    assert bytes(printed) == result.stdout
    return result


async def test_ctrl_c_as_at_a_prompt(
    sandbox: Sandbox, seconds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command prints until its end is there; the background goes on."""
    monkeypatch.setattr(running_module, "PATIENCE", 60)
    ready = f"sh -c 'touch ready; exec sleep {seconds}' & until [ -e ready ]; do sleep 0.02; done"
    command = f"{ready}; echo up; sleep {seconds}; echo never"
    result = await press_when_it_says(sandbox, command, b"up\n")
    assert (result.stdout, result.exit_code) == (b"up\n", 130)
    assert (result.killed_by, result.timed_out) == (None, False)
    await eventually(lambda: len(with_argument(seconds)) == 1)
    program = (
        "import time\ntry: print('up', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: print('last words'); raise SystemExit(7)"
    )
    result = await press_when_it_says(sandbox, f'exec python3 -c "{program}"', b"up\n")
    assert (result.stdout, result.exit_code) == (b"up\nlast words\n", 7)
    assert (await sandbox.run("echo on")).stdout == b"on\n"


async def test_ctrl_c_at_any_moment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """However early it comes, it is not lost."""
    monkeypatch.setattr(running_module, "PATIENCE", 60)
    for pause in range(20):
        interrupt = Interrupt()
        task = asyncio.create_task(sandbox.run("sleep 50", timeout=60, interrupt=interrupt))
        for _ in range(pause):
            await asyncio.sleep(0.0005)
        interrupt.press()
        result = await task
        assert (result.exit_code, result.killed_by) == (130, None), pause


async def test_ctrl_c_to_a_stubborn_one(
    sandbox: Sandbox, seconds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = f"trap '' INT TERM; echo up; while :; do sleep {seconds}; done"
    result = await press_when_it_says(sandbox, stubborn, b"up\n", kill=True)
    assert (result.stdout, result.exit_code) == (b"up\n", 137)
    assert result.killed_by == "interrupted" and not with_argument(seconds)
    monkeypatch.setattr(running_module, "PATIENCE", 0.3)
    result = await press_when_it_says(sandbox, stubborn, b"up\n")
    assert (result.stdout, result.exit_code) == (b"up\n", 137)
    assert result.killed_by == "interrupted" and not with_argument(seconds)
