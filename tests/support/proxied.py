"""A proxy on this machine's loopback, servers behind it, and programs that speak to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from agent_magics.sandbox import Openings, Traffic
from agent_magics.sandbox._incoming import Listener
from agent_magics.sandbox._proxy import Proxy
from tests.support.tcp_server import Handler, TcpServer

PATIENCE = 60.0
SERVER = "127.0.0.2"
"""Where the servers of tests listen: of this machine, and no address that programs leave out."""


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request."""
    await read_head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


@asynccontextmanager
async def server(handler: Handler = hello) -> AsyncIterator[int]:
    """A server on SERVER; its port."""
    listening = TcpServer(handler)
    port = await listening.start(SERVER)
    try:
        yield port
    finally:
        await listening.stop()


@dataclass
class Proxied:
    """`names` are the hosts there are; all are permitted but those in `refused`."""

    port: int = 0
    names: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    withdrawn: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def permit(self, host: str, port: int) -> str:
        self.asked.append((host, port))
        if host.startswith("slow."):
            try:
                await self.answer.wait()
            except asyncio.CancelledError:
                self.withdrawn.set()
                raise
        return self.refused.get(host, "")

    async def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        if host not in self.names:
            raise OSError("unknown host")
        return self.names[host]

    async def connect(
        self, buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`buffer`: bytes that the kernel may keep for the program."""
        connection = socket.socket()
        connection.setblocking(False)
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        reader, writer = await asyncio.open_connection(sock=connection)
        self.writers.append(writer)
        return reader, writer

    async def disconnect(self) -> None:
        for writer in self.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def exchange(self, data: bytes) -> bytes:
        """Everything that is answered to these bytes."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            async with asyncio.timeout(PATIENCE):
                return await reader.read(-1)
        finally:
            writer.close()

    @asynccontextmanager
    async def tunnel(
        self, site: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await self.connect()
        try:
            writer.write(f"CONNECT {site} HTTP/1.1\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE):
                assert await read_head(reader) == b"HTTP/1.1 200 Connection established\r\n\r\n"
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def proxied(
    private: tuple[str, ...] = (SERVER,), *, buffer: int | None = None, **options: Any
) -> AsyncIterator[Proxied]:
    """`buffer`: bytes that the kernel may keep for each program."""
    stand = Proxied(names={"data.example.org": [SERVER], "slow.example.org": [SERVER]})
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    stand.port = listener.getsockname()[1]
    proxy = Proxy(stand.permit, stand.resolve, Openings(private), stand.traffic, **options)
    proxy.serve(Listener(listener))
    try:
        yield stand
    finally:
        await proxy.close()
        await stand.disconnect()
