"""Containers: starts, commands, floods of output, large files, many at once."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from agent_magics.sandbox import Sandbox, open_sandbox
from tests.benchmarks.figures import Figure

COMMANDS = 60
STARTS = 12
FLOOD = 1 << 30
FILE = 100 << 20
MANY = 20


def measure() -> Iterator[Figure]:
    """All figures, from one run; the baseline is the same work without a container."""
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Figure]:
    async with AsyncExitStack() as stack:
        starts = [await _timed(lambda i=i: _open(stack, folder / f"s{i}")) for i in range(STARTS)]
        plain_starts = [await _timed(lambda: _plain("true")) for _ in range(STARTS)]
        box = await _open(stack, folder / "box")
        await box.run("true")
        commands = [await _timed(lambda: box.run("true")) for _ in range(COMMANDS)]
        plain = [await _timed(lambda: _plain("true")) for _ in range(COMMANDS)]
        return [
            _figure("container: start", starts, plain_starts, "a plain bash", limit=500),
            _figure("container: a command", commands, plain, "a plain bash", limit=30),
            *await _flood(box),
            *await _file(box, folder),
            *await _many(stack, folder),
        ]


async def _open(stack: AsyncExitStack, root: Path) -> Sandbox:
    box = open_sandbox(root)
    await box.start()
    stack.push_async_callback(box.destroy)
    return box


async def _plain(command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/bash", "-c", command, stdout=asyncio.subprocess.PIPE, limit=1 << 21
    )
    assert process.stdout is not None
    while await process.stdout.read(1 << 18):
        pass
    await process.wait()


async def _flood(box: Sandbox) -> list[Figure]:
    command, before = f"head -c {FLOOD} /dev/zero", _memory(os.getpid(), "VmRSS")
    plain = await _timed(lambda: _plain(command))
    _reset_peak()
    took = await _timed(lambda: box.run(command, timeout=600))
    grown = (_memory(os.getpid(), "VmHWM") - before) / 1e6
    return [
        Figure("container: 1 GB of output", took, "s", 60, baseline=plain, against="a plain bash"),
        Figure("container: memory for it", max(grown, 0.0), "MB", 64),
    ]


async def _file(box: Sandbox, folder: Path) -> list[Figure]:
    data, path = os.urandom(FILE), folder / "plain"
    write = await _timed(lambda: box.write_file("f", data))
    read = await _timed(lambda: box.read_file("f", max_bytes=FILE))
    plain_write = await _timed(lambda: asyncio.to_thread(path.write_bytes, data))
    plain_read = await _timed(lambda: asyncio.to_thread(path.read_bytes))
    against = "the host's own"
    return [
        Figure("container: write 100 MB", write, "s", 10, baseline=plain_write, against=against),
        Figure("container: read 100 MB", read, "s", 10, baseline=plain_read, against=against),
    ]


async def _many(stack: AsyncExitStack, folder: Path) -> list[Figure]:
    boxes = [await _open(stack, folder / f"m{i}") for i in range(MANY)]
    memory = sum(_tree_memory(box) for box in boxes) / MANY / 1e6
    work = f"{sys.executable} -c 'sum(range(10**6))'"
    busy = await _timed(lambda: _together([box.run(work, timeout=600) for box in boxes]))
    plain = await _timed(lambda: _together([_plain(work) for _ in boxes]))
    return [
        Figure("container: memory when idle, each", memory, "MB", 40),
        Figure(f"container: {MANY} busy at once", busy, "s", 60, baseline=plain, against="plain"),
    ]


async def _together(work: list[Awaitable[object]]) -> None:
    for result in await asyncio.gather(*work):
        assert getattr(result, "exit_code", 0) == 0, result


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


def _figure(
    name: str, values: list[float], plain: list[float], against: str, limit: float
) -> Figure:
    """Medians, in ms."""
    value, baseline = statistics.median(values) * 1000, statistics.median(plain) * 1000
    return Figure(name, value, "ms", limit, baseline=baseline, against=against)


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def _reset_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _tree_memory(box: Sandbox) -> int:
    """Proportional memory of everything that runs for a container."""
    assert box._channel is not None
    todo, total = [box._channel._process.pid], 0
    while todo:
        pid = todo.pop()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) << 10 for line in rollup if line.startswith("Pss:"))
        for task in Path(f"/proc/{pid}/task").iterdir():
            todo += map(int, (task / "children").read_text().split())
    return total
