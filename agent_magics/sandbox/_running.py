"""Commands while they run: the time they may take, Ctrl-C, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from ._agent import protocol
from ._channel import Channel
from ._disk import DiskWatch
from ._frames import Exit
from ._requests import Command

__all__ = ["Interrupt", "RunningCommands"]

TIMEOUT_CODE = 124
GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL."""
CANCEL_GRACE = 0.1
PATIENCE = 5.0
"""Seconds that a command has after Ctrl-C to end by itself."""
KILL_TIMEOUT = 5.0
"""Seconds the agent program has to end a command's processes; then the container is ended."""


class Interrupt:
    """Ctrl-C for one command: given to `Sandbox.run`, used from the same event loop."""

    def __init__(self) -> None:
        self._send: Callable[[], None] | None = None
        self._pressed = False
        self._killing = asyncio.Event()

    def press(self) -> None:
        """
        SIGINT to the command in front, as at a prompt.

        One that has not ended some seconds later is ended with all its processes. What it has left
        in the background otherwise goes on. A command that is yet to begin gets it then.
        """
        self._pressed = True
        if self._send is not None:
            self._send()

    def kill(self) -> None:
        """End the command and all its processes at once."""
        self._killing.set()

    def begin(self, send: Callable[[], None]) -> None:
        """The command runs; `send` interrupts it."""
        self._send = send
        if self._pressed:
            send()

    def end(self) -> None:
        """There is nothing to interrupt any more."""
        self._send = None

    async def killed(self) -> None:
        """Wait until it is wanted."""
        await self._killing.wait()


class RunningCommands:
    """The commands of one sandbox; the disk is watched while there are any."""

    def __init__(self, disk: DiskWatch) -> None:
        self._disk = disk
        self._running: set[int] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(
        self,
        channel: Channel,
        order: dict[str, Any],
        request: Command,
        *,
        timeout: float,
        stdin: bytes | None,
        interrupt: Interrupt | None,
    ) -> Exit:
        """
        How it ended, with the exit code as shells give it.

        Raises SandboxGone, SandboxError, and what the request's listener raised.
        """
        async with self._place(channel, request) as number:
            if stdin is not None:
                await channel.send_data(protocol.STDIN, number, stdin, request.ended)
            channel.send_json(protocol.RUN, number, order)
            reason = await self._wait(channel, number, request, timeout, interrupt)
            if reason is not None:
                grace = GRACE if reason == "timeout" else 0.0
                await self._end(channel, number, request, grace, reason)
            return _ending(request, timed_out=reason == "timeout")

    def disk_full(self, channel: Channel, reason: str) -> None:
        """End all of them, for there are too many bytes ("disk") or files ("files")."""
        for number in self._running:
            channel.send_json(protocol.KILL, number, {"grace": 0, "reason": reason})

    async def _wait(
        self,
        channel: Channel,
        number: int,
        request: Command,
        timeout: float,
        interrupt: Interrupt | None,
    ) -> str | None:
        """Until it is over, or why it has to be ended."""
        if interrupt is None:
            await asyncio.wait({request.done}, timeout=timeout)
            return None if request.done.done() else "timeout"
        order = {"patience": PATIENCE, "grace": GRACE}
        killing = asyncio.create_task(interrupt.killed())
        interrupt.begin(lambda: channel.send_json(protocol.INTERRUPT, number, order))
        try:
            either: set[asyncio.Future[Any]] = {request.done, killing}
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if request.done.done():
                return None
            return "interrupted" if killing.done() else "timeout"
        finally:
            interrupt.end()
            killing.cancel()

    @asynccontextmanager
    async def _place(self, channel: Channel, request: Command) -> AsyncIterator[int]:
        """A command's place among the running ones; leaving early ends its processes."""
        number = channel.attach(request)
        self._running.add(number)
        self._disk.resume()
        try:
            yield number
        finally:
            task = asyncio.create_task(self._leave(channel, number, request))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            await asyncio.shield(task)  # goes on even if we are cancelled once more

    async def _leave(self, channel: Channel, number: int, request: Command) -> None:
        if not request.ended.done():
            await self._end(channel, number, request, CANCEL_GRACE, "cancelled")
        channel.detach(number)
        self._running.discard(number)
        if not self._running:
            self._disk.pause()

    async def _end(
        self, channel: Channel, number: int, request: Command, grace: float, reason: str
    ) -> None:
        """End the command's processes; if that can't be had, the container."""
        channel.send_json(protocol.KILL, number, {"grace": grace, "reason": reason})
        ended, _ = await asyncio.wait({request.ended}, timeout=grace + KILL_TIMEOUT)
        if not ended:
            channel.kill()
            await asyncio.wait({request.ended})


def _ending(request: Command, *, timed_out: bool) -> Exit:
    """How the command ended, with the exit code as shells give it."""
    if timed_out:
        exited = not request.done.cancelled() and request.done.exception() is None
        truncated = exited and request.done.result().truncated
        return Exit(TIMEOUT_CODE, "timeout", truncated)
    ending = request.done.result()
    return ending if ending.code >= 0 else replace(ending, code=128 - ending.code)
