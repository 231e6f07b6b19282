"""Output of any length, in bounded memory."""

from __future__ import annotations

import os
from pathlib import Path

from agent_magics.sandbox import Sandbox
from agent_magics.sandbox._agent.protocol import marker


def memory_of(pid: int) -> int:
    """Highest resident size so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


async def test_hundred_megabytes(sandbox: Sandbox) -> None:
    live = bytearray()
    before = memory_of(os.getpid())
    last = 12_000_000
    result = await sandbox.run(
        f"echo BEGIN; seq {last}; echo END",
        max_output=200_000,
        on_output=lambda stream, data: live.extend(data),
    )
    assert result.exit_code == 0 and result.truncated
    assert result.stdout.startswith(b"BEGIN\n1\n2\n")
    assert result.stdout.endswith(b"\n11999999\n12000000\nEND\n")
    numbers = sum((min(last, 10**d - 1) - 10 ** (d - 1) + 1) * (d + 1) for d in range(1, 9))
    total = len("BEGIN\n") + numbers + len("END\n")
    assert total > 90_000_000
    note = marker(total - 200_000)
    assert len(result.stdout) == 200_000 + len(note)
    assert result.stdout[100_000 : 100_000 + len(note)] == note
    assert bytes(live) == result.stdout
    assert memory_of(os.getpid()) - before < 20 << 20
    agent = await sandbox.run("grep VmHWM /proc/1/status")
    assert int(agent.stdout.split()[1]) << 10 < 60 << 20


async def test_exactly_the_limit_is_not_truncated(sandbox: Sandbox) -> None:
    result = await sandbox.run("head -c 65536 /dev/zero", max_output=65536)
    assert result.stdout == bytes(65536) and not result.truncated
    result = await sandbox.run("head -c 65537 /dev/zero", max_output=65536)
    assert result.truncated
    nothing = await sandbox.run("echo some", max_output=0)
    assert nothing.truncated and nothing.stdout == marker(5)


async def test_binary_output(sandbox: Sandbox) -> None:
    command = "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 50)'"
    result = await sandbox.run(command + "; printf '\\377\\000' >&2")
    assert result.stdout == bytes(range(256)) * 50
    assert result.stderr == b"\xff\x00"


async def test_endless_output_and_timeout(sandbox: Sandbox) -> None:
    result = await sandbox.run("yes", timeout=2, max_output=10_000)
    assert (result.exit_code, result.timed_out, result.truncated) == (124, True, True)
    assert result.stdout.startswith(b"y\ny\n")
