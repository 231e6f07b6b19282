"""Bytes from one connection to another: no faster than they are taken, no longer than they are."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

__all__ = ["BodyError", "Idle", "relay_body", "relay_response", "splice"]

CHUNK = 64 << 10
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e]{0,256})?\r\n")
_LONGEST_LINE = 300
_MOST_TRAILERS = 50

Counter = Callable[[int], None]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BodyError(ValueError):
    """The body of a request is malformed or ended early."""


class Idle:
    """Raises TimeoutError in its body when nothing has moved for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._timeout.__aexit__(kind, error, traceback)

    def moved(self) -> None:
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)


async def splice(client: Streams, server: Streams, sent: Counter, received: Counter) -> None:
    """
    Both ways, until both have ended. The end of one way is passed on, the other goes on.

    Raises OSError when either connection breaks.
    """
    await _together(
        _pump(client[0], server[1], sent),
        _pump(server[0], client[1], received),
    )


async def relay_response(
    body: Coroutine[Any, Any, None],
    server: asyncio.StreamReader,
    client: asyncio.StreamWriter,
    received: Counter,
) -> None:
    """
    The server's answer, up to the end of its connection, while `body` sends the request's.

    A server may answer before it has the whole body; then nobody needs the rest of it.
    """
    sending = asyncio.ensure_future(body)
    answering = asyncio.ensure_future(_pump(server, client, received, pass_end=False))
    try:
        await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done() and not isinstance(sending.exception(), OSError):
            sending.result()
        await answering
    finally:
        await _cancelled(sending, answering)


async def relay_body(
    client: asyncio.StreamReader, server: asyncio.StreamWriter, length: int | None, sent: Counter
) -> None:
    """
    The body of a request, and not a byte of what may follow it.

    Raises BodyError and OSError.
    """
    if length is not None:
        await _copy(client, server, length, sent)
        return
    while size := await _chunk_size(client):
        server.write(b"%x\r\n" % size)
        await _copy(client, server, size, sent)
        if await client.readexactly(2) != b"\r\n":
            raise BodyError("a chunk does not end where it should")
        server.write(b"\r\n")
    for _ in range(_MOST_TRAILERS):
        if await _line(client) == b"\r\n":
            server.write(b"0\r\n\r\n")
            await server.drain()
            return
    raise BodyError("too many trailers")


async def _chunk_size(client: asyncio.StreamReader) -> int:
    match = _CHUNK_SIZE.fullmatch(await _line(client))
    if match is None:
        raise BodyError("this is no chunk")
    return int(match[1], 16)


async def _line(client: asyncio.StreamReader) -> bytes:
    try:
        line = await client.readuntil(b"\r\n")
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
        raise BodyError("a line is too long or cut off") from None
    if len(line) > _LONGEST_LINE:
        raise BodyError("a line is too long")
    return line


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, size: int, count: Counter
) -> None:
    while size:
        data = await source.read(min(size, CHUNK))
        if not data:
            raise BodyError("the body is cut off")
        count(len(data))
        size -= len(data)
        target.write(data)
        await target.drain()


async def _pump(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    count: Counter,
    *,
    pass_end: bool = True,
) -> None:
    while data := await source.read(CHUNK):
        count(len(data))
        target.write(data)
        await target.drain()
    if pass_end:
        with contextlib.suppress(OSError):  # it has been closed altogether
            target.write_eof()


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """All of them; when one fails the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancelled(*tasks)


async def _cancelled(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
