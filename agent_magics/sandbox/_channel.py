"""The open line to the agent program of one running container."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from . import _frames
from ._agent import bundle, protocol
from ._errors import SandboxGone
from ._frames import Frame, ProtocolError
from ._remote import AgentProcess, RemoteProcess, end_now
from ._requests import Request

__all__ = ["Channel"]

STREAM_LIMIT = 1 << 21
STOP_GRACE = 3.0
"""Seconds the agent program has to end by itself once its stdin is closed."""


class Channel:
    """
    Frames to and from one container. The first violation of the protocol is its end.

    Used from one event loop; `alive` turns False the moment the line breaks, for whatever reason.
    """

    def __init__(self, process: AgentProcess) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._requests: dict[int, Request] = {}
        self._last = 0
        self._closing = False
        self._gone: SandboxGone | None = None
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(), name="sandbox-channel")

    @property
    def alive(self) -> bool:
        return self._gone is None

    async def greet(self, config: dict[str, Any], timeout: float) -> None:
        """
        Send the agent program and wait until it says hello.

        Raises:
            SandboxGone: it ended before, or sent something else.
            TimeoutError: it says nothing.
        """
        self._write(bundle(config))
        done, _ = await asyncio.wait({self._greeted}, timeout=timeout)
        if not done:
            raise TimeoutError
        self._greeted.result()

    def attach(self, request: Request) -> int:
        """Number a request; from now on its answers are handed to it. SandboxGone if too late."""
        if self._gone is not None:
            raise SandboxGone(str(self._gone))
        self._last += 1
        self._requests[self._last] = request
        return self._last

    def detach(self, number: int) -> None:
        """Answers to this request are of no interest any more."""
        del self._requests[number]

    def send(self, kind: int, request: int, payload: bytes = b"") -> None:
        """Queue a frame; on a broken line nothing happens, the request was told."""
        self._write(_frames.encode(kind, request, payload))

    def send_json(self, kind: int, request: int, value: Any) -> None:
        self._write(_frames.encode_json(kind, request, value))

    async def send_data(
        self, kind: int, request: int, data: bytes, done: asyncio.Future[Any]
    ) -> None:
        """Send bytes in pieces, no faster than they are taken, until `done`."""
        for start in range(0, len(data), protocol.CHUNK):
            if done.done() or not self.alive:
                return
            self.send(kind, request, data[start : start + protocol.CHUNK])
            with contextlib.suppress(ConnectionError):
                await self._stdin.drain()

    def kill(self) -> None:
        """End the container at once."""
        end_now(self._process)

    async def close(self) -> None:
        """End the container: its agent program ends with its stdin, else it is killed."""
        self._closing = True
        with contextlib.suppress(OSError):  # it may be broken already
            self._stdin.write_eof()
        try:
            async with asyncio.timeout(STOP_GRACE):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        finally:
            self.kill()
        await asyncio.wait({self._reader})
        self._stdin.close()

    def _write(self, data: bytes) -> None:
        if self._gone is None and not self._closing and not self._stdin.is_closing():
            self._stdin.write(data)

    async def _read(self) -> None:
        reason = "the container ended"
        try:
            while True:
                self._dispatch(await _frames.read_frame(self._stdout))
        except ProtocolError as error:
            reason = f"the container broke the protocol and was ended: {error}"
        except (EOFError, ConnectionError):
            if isinstance(self._process, RemoteProcess):
                reason = self._process.reason or reason
        finally:
            self._break(SandboxGone(reason))
        self.kill()
        await self._process.wait()

    def _dispatch(self, frame: Frame) -> None:
        if frame.request in self._requests:
            self._requests[frame.request].frame(frame.kind, frame.payload)
        elif frame.request == 0 and frame.kind == protocol.HELLO and not self._greeted.done():
            self._greeted.set_result(None)
        elif not 0 < frame.request <= self._last:
            raise ProtocolError(f"answer to request {frame.request}, which was never made")

    def _break(self, error: SandboxGone) -> None:
        self._gone = error
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()
        for request in list(self._requests.values()):
            request.lost(error)
