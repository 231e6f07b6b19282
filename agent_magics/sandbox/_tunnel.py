"""
Connections of programs in a container that come as frames of its agent program.

The way of containers that can't hand a socket out. The host takes nothing on trust: numbers, sizes
and the order of frames are checked, of each connection no more is kept than its window, and there
is a bound on connections. Any violation is a `ProtocolError`, and so the end of the container.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from ._agent import protocol
from ._frames import ProtocolError
from ._incoming import Incoming

__all__ = ["Tunnel"]

HIGH_WATER = 64 << 10
"""Bytes that wait for room in the window, from which on a writer is asked to pause."""
COUNT = struct.Struct(">I")

Send = Callable[[int, int, bytes], None]


class Tunnel:
    """The connections of one container, as a source of them for the proxy."""

    def __init__(self) -> None:
        self._send: Send = lambda kind, number, payload: None
        self._connections: dict[int, _Connection] = {}
        self._unserved: dict[int, _Connection] = {}
        self._arrived = asyncio.Event()
        self._last = 0

    def begin(self, send: Send) -> None:
        """`send` takes a frame to the agent program and never waits."""
        self._send = send

    def frame(self, kind: int, number: int, payload: bytes) -> None:
        """
        A frame about a connection.

        Raises:
            ProtocolError: the agent program would never send it.
        """
        if kind == protocol.NET_OPENED:
            self._open(number, payload)
            return
        connection = self._connections.get(number)
        if connection is None:
            raise ProtocolError(f"connection {number}, which is not there")
        if kind == protocol.NET_SENT:
            connection.received(payload)
        elif kind == protocol.NET_MORE:
            connection.taken(_count(payload))
        elif payload:
            raise ProtocolError("content where none belongs")
        elif kind == protocol.NET_ENDED:
            connection.ended()
        elif kind == protocol.NET_LOST:
            connection.cut()
        elif connection.may_be_closed:
            del self._connections[number]
            connection.lost(None)
        else:
            raise ProtocolError("a connection was closed, and nobody had asked for it")

    def lost(self) -> None:
        """The container is gone, and all connections with it."""
        connections = list(self._connections.values())
        self._connections.clear()
        self._unserved.clear()
        for connection in connections:
            connection.lost(ConnectionResetError("the container ended"))

    async def accept(self) -> Incoming:
        while not self._unserved:
            self._arrived.clear()
            await self._arrived.wait()
        number = next(iter(self._unserved))
        return self._unserved.pop(number)

    def close(self) -> None:
        """Nothing: the container ends."""

    def _open(self, number: int, payload: bytes) -> None:
        if number != self._last + 1 or payload:
            raise ProtocolError(f"connection {number} after {self._last}")
        if len(self._connections) >= protocol.NET_CONNECTIONS:
            raise ProtocolError("more connections than there may be")
        self._last = number
        connection = _Connection(number, self._send)
        self._connections[number] = self._unserved[number] = connection
        self._arrived.set()


def _count(payload: bytes) -> int:
    if len(payload) != COUNT.size:
        raise ProtocolError("bad count")
    return int(COUNT.unpack(payload)[0])


class _Connection(asyncio.Transport):
    """
    One connection as asyncio's streams want it.

    What comes is handed to the protocol unless it has paused; only then is the agent program told
    that it may send more. What goes waits here until it says the same.
    """

    def __init__(self, number: int, send: Send) -> None:
        super().__init__()
        self._number = number
        self._send = send
        self._protocol: asyncio.Protocol | None = None
        self._may_come = self._may_go = protocol.NET_WINDOW
        self._came = bytearray()  # and was not handed on yet
        self._handed = 0  # bytes of which the agent program has not been told
        self._end_came = self._end_handed = False
        self._paused = False
        self._going = bytearray()
        self._end_goes = self._end_went = False
        self._writer_paused = False
        self._closing = False
        self._close_went = False
        self._drop_went = False  # or it would be pointless
        self._was_cut = False
        self._over = False

    # what the agent program says

    def received(self, data: bytes) -> None:
        if not data or self._end_came or self._was_cut or len(data) > self._may_come:
            raise ProtocolError("bytes of a connection that may not come")
        self._may_come -= len(data)
        if not self._closing:
            self._came += data
            self._hand_on()

    def ended(self) -> None:
        if self._end_came or self._was_cut:
            raise ProtocolError("a second end of a connection")
        self._end_came = True
        self._hand_on()

    def taken(self, size: int) -> None:
        if self._was_cut or not 0 < size <= protocol.NET_WINDOW - self._may_go:
            raise ProtocolError("more was taken than was sent")
        self._may_go += size
        self._flush()

    def cut(self) -> None:
        """The program has gone. An unserved connection keeps its place until its turn comes."""
        if self._was_cut:
            raise ProtocolError("a connection was cut twice")
        self._was_cut = True
        if self._protocol is not None:
            self._drop(ConnectionResetError("the program has cut the connection"))

    @property
    def may_be_closed(self) -> bool:
        """We have said that it is over."""
        return self._close_went or self._drop_went

    def lost(self, error: Exception | None) -> None:
        """There is nobody there any more; nothing else will be said about it."""
        self._drop_went = True
        self._finish(error)

    # what the proxy does before it has a transport

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        if self._was_cut:
            self.abort()
        if self._over:
            raise ConnectionResetError("the connection is gone")
        self._protocol = protocol
        protocol.connection_made(self)
        self._hand_on()
        return self

    # asyncio.Transport

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._hand_on()

    def get_write_buffer_size(self) -> int:
        return len(self._going)

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._end_goes:
            return
        self._going += data
        self._flush()
        if len(self._going) > HIGH_WATER and not self._writer_paused:
            self._writer_paused = True
            self.get_protocol().pause_writing()

    def write_eof(self) -> None:
        if not self._closing and not self._end_goes:
            self._end_goes = True
            self._flush()

    def close(self) -> None:
        """What has been written is still delivered; the connection is lost when that is done."""
        if not self._closing:
            self._closing = True
            self._came.clear()
            self._flush()

    def abort(self) -> None:
        self._drop(None)

    # in between

    def _hand_on(self) -> None:
        if self._protocol is None or self._paused or self._closing:
            return
        if self._came:
            data = bytes(self._came)
            self._came.clear()
            self._count(len(data))
            self._protocol.data_received(data)
        if self._end_came and not self._end_handed and not self._came:
            self._end_handed = True
            self._protocol.eof_received()

    def _count(self, size: int) -> None:
        self._handed += size
        if self._handed >= protocol.NET_WINDOW // 2:
            self._may_come += self._handed
            self._send(protocol.NET_TAKEN, self._number, COUNT.pack(self._handed))
            self._handed = 0

    def _flush(self) -> None:
        if self._over:
            return
        while self._going and self._may_go:
            data = bytes(self._going[: min(self._may_go, protocol.CHUNK)])
            del self._going[: len(data)]
            self._may_go -= len(data)
            self._send(protocol.NET_DATA, self._number, data)
        if self._writer_paused and len(self._going) <= HIGH_WATER // 4:
            self._writer_paused = False
            self.get_protocol().resume_writing()
        if self._going:
            return
        if self._closing and not self._close_went:
            self._close_went = True
            self._send(protocol.NET_CLOSE, self._number, b"")
        elif self._end_goes and not self._closing and not self._end_went:
            self._end_went = True
            self._send(protocol.NET_END, self._number, b"")

    def _drop(self, error: Exception | None) -> None:
        if not self._drop_went:
            self._drop_went = True
            self._send(protocol.NET_DROP, self._number, b"")
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = self._closing = True
        self._came.clear()
        self._going.clear()
        if self._protocol is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._protocol.connection_lost, error)
