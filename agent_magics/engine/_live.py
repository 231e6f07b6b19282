"""A command in the container whose output is read while it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent_magics.sandbox import ExecResult, Interrupt, Sandbox

from ._ids import new_id

__all__ = ["LiveRun", "LiveRuns"]

_MOST_UNREAD = 4 << 20
_CHUNK = 256 << 10


class LiveRun:
    """
    `async for stream, data in run` gives output until the command is over.

    Output that the reader doesn't take is kept up to a bound; beyond it, it is dropped and
    `dropped` is set. The command itself never waits for the reader.
    """

    def __init__(self, sandbox: Sandbox, command: str, options: dict[str, Any]) -> None:
        self.dropped = False
        self.interrupt = Interrupt()
        self._sandbox = sandbox
        self._command = command
        self._options = options
        self._chunks: deque[tuple[str, bytes]] = deque()
        self._unread = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[ExecResult] | None = None

    def _on_output(self, stream: str, data: bytes) -> None:
        if self._unread + len(data) > _MOST_UNREAD:
            self.dropped = True
            return
        self._chunks.append((stream, data))
        self._unread += len(data)
        self._wake.set()

    def __aiter__(self) -> LiveRun:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        if self._task is None:
            run = self._sandbox.run(
                self._command,
                on_output=self._on_output,
                interrupt=self.interrupt,
                **self._options,
            )
            self._task = asyncio.create_task(run)
            self._task.add_done_callback(lambda _: self._wake.set())
        while not self._chunks:
            if self._task.done():
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._take()

    def _take(self) -> tuple[str, bytes]:
        """The oldest chunk, with those of the same stream that follow it."""
        stream, data = self._chunks.popleft()
        pieces, size = [data], len(data)
        while self._chunks and self._chunks[0][0] == stream and size < _CHUNK:
            data = self._chunks.popleft()[1]
            pieces.append(data)
            size += len(data)
        self._unread -= size
        return stream, b"".join(pieces)

    @property
    def over(self) -> bool:
        """The command has ended; its last output may still be there."""
        return self._task is not None and self._task.done()

    def result(self) -> ExecResult:
        """The result, or the exception, after the last output."""
        assert self._task is not None
        return self._task.result()

    async def stop(self) -> None:
        """Kill the command if it still runs."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


class LiveRuns:
    """The commands that run with a reader, by their session and an id, for Ctrl-C."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], LiveRun] = {}

    @contextmanager
    def listed(self, session_id: str, run: LiveRun) -> Iterator[str]:
        """The id of a command, as long as it has a reader."""
        key = (session_id, new_id("exe"))
        self._runs[key] = run
        try:
            yield key[1]
        finally:
            del self._runs[key]

    def interrupt(self, session_id: str, id: str, *, kill: bool) -> bool:
        """False when there is no such command, or none any more."""
        run = self._runs.get((session_id, id))
        if run is None or run.over:
            return False
        if kill:
            run.interrupt.kill()
        else:
            run.interrupt.press()
        return True
