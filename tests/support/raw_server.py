"""Model servers that answer every request with the same bytes, or with those of its model."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.tcp_server import TcpServer

Piece = bytes | float
"""Bytes to send, or seconds to wait."""


@dataclass
class RawServer:
    """`pieces` are sent one by one; then the connection is closed, or stays open with `hold`."""

    pieces: Sequence[Piece]
    reset: bool = False
    hold: bool = False
    port: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = re.findall(rb"content-length: *(\d+)", head.lower())
        length = int(lengths[0]) if lengths else 0
        self.requests.append(head + await reader.readexactly(length))
        for piece in self.pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        if self.hold:
            await asyncio.Event().wait()
        if self.reset:
            writer.transport.abort()


def answer(
    body: bytes, kind: str = "text/event-stream", status: str = "200 OK", **more: str
) -> bytes:
    """A whole answer that ends when the connection is closed."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


_MODEL = re.compile(rb'"model": *"([^"]+)"')


@asynccontextmanager
async def answers_by_model(answers: Mapping[str, bytes]) -> AsyncIterator[int]:
    """A server on 127.0.0.1 that sends `answers[model]` and closes; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = RawServer(())
        await server.serve(reader, writer)
        found = _MODEL.search(server.requests[0])
        assert found
        writer.write(answers[found[1].decode()])
        await writer.drain()

    listening = TcpServer(serve)
    yield await listening.start("127.0.0.1")
    await listening.stop()


@asynccontextmanager
async def raw_server(
    *pieces: Piece,
    reset: bool = False,
    hold: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """On 127.0.0.1; its port is set."""
    server = RawServer(pieces, reset=reset, hold=hold)
    listening = TcpServer(server.serve, tls=tls)
    server.port = await listening.start("127.0.0.1")
    try:
        yield server
    finally:
        await listening.stop()
