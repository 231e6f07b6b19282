"""A process somewhere else that a channel can talk to as to one of ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

__all__ = ["AgentProcess", "RemoteProcess", "end_now"]

STREAM_LIMIT = 1 << 21

Bridge = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[str]]
"""Carries what it reads there and what comes from there to the writer, until either ends; says
why it ended, or nothing."""


class AgentProcess(Protocol):
    """What a channel needs of the process that runs the agent program, or stands for it."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...


class RemoteProcess:
    """
    Two streams, and a bridge behind them that carries them to another machine.

    Closing `stdin` closes both, and the bridge then ends the process over there.
    """

    def __init__(
        self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader, bridge: asyncio.Task[str]
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self._bridge = bridge

    @classmethod
    async def start(cls, bridge: Bridge) -> RemoteProcess:
        """Connect two streams of ours to the bridge, and let it work."""
        ours, its = socket.socketpair()
        stdout, stdin = await asyncio.open_connection(sock=ours, limit=STREAM_LIMIT)
        reader, writer = await asyncio.open_connection(sock=its, limit=STREAM_LIMIT)

        async def work() -> str:
            try:
                return await bridge(reader, writer)
            finally:
                writer.close()

        return cls(stdin, stdout, asyncio.create_task(work(), name="sandbox-bridge"))

    @property
    def returncode(self) -> int | None:
        return 0 if self._bridge.done() else None

    @property
    def reason(self) -> str:
        """Why it ended, where that is known."""
        if not self._bridge.done() or self._bridge.cancelled() or self._bridge.exception():
            return ""
        return self._bridge.result()

    async def wait(self) -> int:
        await asyncio.wait({self._bridge})
        return 0

    def cut(self) -> None:
        """End the connection at once."""
        self._bridge.cancel()
        self.stdin.transport.abort()  # whoever reads must not wait for the other side's farewell


def end_now(process: AgentProcess) -> None:
    """End it without asking."""
    if isinstance(process, RemoteProcess):
        process.cut()
    elif isinstance(process, asyncio.subprocess.Process) and process.returncode is None:
        # not Process.kill(): it polls, and takes the exit status away from asyncio's own watcher
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
