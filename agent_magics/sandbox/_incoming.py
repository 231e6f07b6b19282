"""Where the connections of programs in a container come from: a socket of ours, or frames."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

__all__ = ["Incoming", "Listener", "Source"]


class Incoming(Protocol):
    """A connection that nobody serves yet."""

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Serve it from now on. Raises OSError."""

    def close(self) -> None:
        """Nobody will."""


class Source(Protocol):
    """Gives one connection after the other."""

    async def accept(self) -> Incoming:
        """The next one; raises OSError when it is gone already or there is no room for it."""

    def close(self) -> None:
        """No further ones."""


class Listener:
    """A listening socket."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener

    async def accept(self) -> Incoming:
        connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        return _Accepted(connection)

    def close(self) -> None:
        self._listener.close()


class _Accepted:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, self._connection)
        return transport

    def close(self) -> None:
        self._connection.close()
