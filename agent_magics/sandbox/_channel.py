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
from ._requests import FileRequest, Request
from ._tunnel import Tunnel

__all__ = ["Channel"]

STREAM_LIMIT = 1 << 21
SILENCE = 120.0
"""Seconds without a sign from the agent program, while one is due, after which it is given up."""
STRAY = 8 << 20
"""Bytes that may still be on their way to a request which was given up."""
UNREAD = 32 << 20
"""Bytes about connections that wait for the agent program: more than all windows together."""
TURN = 64
"""Frames in a row before everybody else gets a turn."""
STOP_GRACE = 3.0
"""Seconds the agent program has to end by itself once its stdin is closed."""


class Channel:
    """
    Frames to and from one container. The first violation of the protocol is its end.

    Used from one event loop; `alive` turns False the moment the line breaks, for whatever reason.
    """

    def __init__(self, process: AgentProcess, tunnel: Tunnel | None = None) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._tunnel = tunnel
        self._requests: dict[int, Request] = {}
        self._last = 0
        self._stray = STRAY
        self._closing = False
        self._gone: SandboxGone | None = None
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fault = ""
        self.bounded = False
        """What the kernel counts per user is bounded for this container."""
        if tunnel is not None:
            tunnel.begin(self._tell)
        self._reader = asyncio.create_task(self._read(), name="sandbox-channel")

    @property
    def alive(self) -> bool:
        return self._gone is None

    @property
    def busy(self) -> bool:
        """A request waits for its answer."""
        return bool(self._requests)

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
        if not self._requests.pop(number).over:
            self._stray += STRAY

    def send(self, kind: int, request: int, payload: bytes = b"") -> None:
        """Queue a frame; on a broken line nothing happens, the request was told."""
        self._write(_frames.encode(kind, request, payload))

    def send_json(self, kind: int, request: int, value: Any) -> None:
        self._write(_frames.encode_json(kind, request, value))

    def _tell(self, kind: int, number: int, payload: bytes) -> None:
        """A frame about a connection; who causes them and reads none is ended."""
        self.send(kind, number, payload)
        if self.alive and self._stdin.transport.get_write_buffer_size() > UNREAD:
            self._fault = "the container took nothing any more and was ended"
            self.kill()

    async def send_data(
        self, kind: int, request: int, data: bytes, done: asyncio.Future[Any]
    ) -> None:
        """Send bytes in pieces, no faster than they are taken, until `done`."""
        for start in range(0, len(data), protocol.CHUNK):
            if done.done() or not self.alive:
                return
            self.send(kind, request, data[start : start + protocol.CHUNK])
            await self._drain()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(SILENCE):
                await self._stdin.drain()
        except ConnectionError:
            return
        except TimeoutError:
            self.kill()

    async def answered(self, request: FileRequest) -> None:
        """
        Wait for the end of a request; one that is not answered at all is the container's end.

        Raises what the request failed with.
        """
        while not request.done.done():
            frames = request.frames
            await asyncio.wait({request.done}, timeout=SILENCE)
            if not request.done.done() and request.frames == frames:
                self.kill()
                await asyncio.wait({request.done})
        request.done.result()

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
        self._reader.result()

    def _write(self, data: bytes) -> None:
        if self._gone is None and not self._closing and not self._stdin.is_closing():
            self._stdin.write(data)

    async def _read(self) -> None:
        reason = "the container ended"
        frames = 0
        try:
            while True:
                self._dispatch(await _frames.read_frame(self._stdout))
                frames += 1
                if frames % TURN == 0:  # what is in the buffer already is read without a pause
                    await asyncio.sleep(0)
        except ProtocolError as error:
            reason = f"the container broke the protocol and was ended: {error}"
        except (EOFError, ConnectionError):
            if isinstance(self._process, RemoteProcess):
                reason = self._process.reason or reason
        finally:
            self._break(SandboxGone(self._fault or reason))
            self.kill()
        with contextlib.suppress(ConnectionError):
            while await self._stdout.read(protocol.MAX_PAYLOAD):
                pass  # asyncio tells the end of a process only when its output was read to the end
        await self._process.wait()
        await self._stdin_closed()

    async def _stdin_closed(self) -> None:
        """Note how writing ended: early versions of Python 3.11 complain if nobody asks."""
        self._stdin.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(STOP_GRACE):
                await self._stdin.wait_closed()

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind >= protocol.NET_OPENED:
            if self._tunnel is None:
                raise ProtocolError("a connection, and there is no network")
            self._tunnel.frame(frame.kind, frame.request, frame.payload)
        elif frame.request in self._requests:
            self._requests[frame.request].frame(frame.kind, frame.payload)
        elif frame.request == 0 and frame.kind == protocol.HELLO and not self._greeted.done():
            self.bounded = _frames.load(frame.payload, dict).get("quotas") is True
            self._greeted.set_result(None)
        elif not 0 < frame.request <= self._last:
            raise ProtocolError(f"answer to request {frame.request}, which was never made")
        else:
            self._stray -= protocol.HEADER.size + len(frame.payload)
            if self._stray < 0:
                raise ProtocolError("answers to nobody")

    def _break(self, error: SandboxGone) -> None:
        self._gone = error
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()
        for request in list(self._requests.values()):
            request.lost(error)
        if self._tunnel is not None:
            self._tunnel.lost()
