"""
The proxy behind a container's way out: HTTP/1.1, `CONNECT` and plain requests.

Everything that comes in is hostile. One request per connection; time, sizes and connections are
bounded; what is refused gets an answer that says why. A host is asked about by its name first, so
that nothing is looked up that is not permitted, then looked up once: every address it has must be
one that may be reached, and the connection goes to such an address and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ._addresses import Openings
from ._hosts import Target
from ._incoming import Incoming, Source
from ._relay import CHUNK, BodyError, Idle, relay_body, relay_response, splice
from ._request_head import LONGEST_HEAD, Head, HeadError, parse_head

__all__ = ["Proxy", "Traffic"]

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
"""Of one container at a time; more of them wait."""
HEAD_TIMEOUT = 15.0
"""Seconds for a request's head to arrive."""
CONNECT_TIMEOUT = 10.0
MOST_ADDRESSES = 4
LINGER = 2.0
"""Seconds that a refused program gets to read why."""
MOST_IGNORED = 1 << 20
PACE = 0.002
"""Seconds between two connections of a container, so that none of them can keep us busy."""
RECOVERY = 0.2
"""Seconds of rest when the process has no descriptors left."""

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


@dataclass
class Traffic:
    """What went through: connections that were allowed and refused, bytes sent and received."""

    allowed: int = 0
    refused: int = 0
    sent: int = 0
    received: int = 0


class _Refusal(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Gone(Exception):
    """The program inside closed the connection."""


class _Reader(asyncio.StreamReader):
    """Tells when the other side has closed, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=LONGEST_HEAD)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()


class Proxy:
    """Serves what one source gives, on one event loop."""

    def __init__(
        self,
        permit: Callable[[str, int], Awaitable[str]],
        resolve: Callable[[str, int], Awaitable[list[str]]],
        openings: Openings,
        traffic: Traffic,
        *,
        head_timeout: float = HEAD_TIMEOUT,
        idle: float = 600.0,
    ) -> None:
        self._permit = permit
        self._resolve = resolve
        self._openings = openings
        self._traffic = traffic
        self._head_timeout = head_timeout
        self._idle = idle
        self._slots = asyncio.Semaphore(MOST_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unserved: set[Incoming] = set()  # their tasks have not begun
        self._source: Source | None = None

    def serve(self, source: Source) -> None:
        """From now on until `close`."""
        self._source = source
        self._start(self._accept(source))

    async def close(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._unserved:
            connection.close()
        if self._source is not None:
            self._source.close()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection to the network broke: %s", type(error).__name__)

    async def _accept(self, source: Source) -> None:
        while True:
            await self._slots.acquire()
            try:
                connection = await source.accept()
            except OSError:  # it was gone again already, or there are no descriptors
                self._slots.release()
                await asyncio.sleep(RECOVERY)
            else:
                self._unserved.add(connection)
                self._start(self._serve(connection))
                await asyncio.sleep(PACE)

    async def _serve(self, connection: Incoming) -> None:
        loop = asyncio.get_running_loop()
        self._unserved.discard(connection)
        reader = _Reader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            try:
                transport = await connection.connect(protocol)
            except OSError:  # it is gone again already
                return
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                with contextlib.suppress(OSError, _Gone):
                    await self._answer(reader, writer)
                await _close(writer, self._idle)
            finally:
                transport.abort()
        finally:
            self._slots.release()

    async def _answer(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await self._head(reader)
            upstream = await self._open(head.target, reader)
        except _Refusal as refusal:
            self._traffic.refused += 1
            writer.write(_refused(refusal))
            await _linger(reader, writer)
            return
        self._traffic.allowed += 1
        try:
            async with Idle(self._idle) as idle:
                await self._exchange(head, (reader, writer), upstream, idle)
            await _close(upstream[1], self._idle)
        except (BodyError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            upstream[1].transport.abort()

    async def _exchange(
        self,
        head: Head,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        idle: Idle,
    ) -> None:
        def sent(size: int) -> None:
            self._traffic.sent += size
            idle.moved()

        def received(size: int) -> None:
            self._traffic.received += size
            idle.moved()

        if head.is_tunnel:
            client[1].write(_ESTABLISHED)
            await splice(client, server, sent, received)
            return
        request = head.encode()
        server[1].write(request)
        sent(len(request))
        body = relay_body(client[0], server[1], head.length, sent)
        await relay_response(body, server[0], client[1], received)

    async def _head(self, reader: _Reader) -> Head:
        try:
            async with asyncio.timeout(self._head_timeout):
                data = await reader.readuntil(b"\r\n\r\n")
            return parse_head(data[:-4])
        except HeadError as error:
            raise _Refusal(error.status, str(error)) from None
        except asyncio.LimitOverrunError:
            raise _Refusal(431, "The request's head is too long.") from None
        except TimeoutError:
            raise _Refusal(408, "The request's head did not arrive in time.") from None
        except asyncio.IncompleteReadError:
            raise _Gone from None

    async def _open(
        self, target: Target, reader: _Reader
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the host, if it is permitted."""
        if _is_hopeless(target) and not self._may_reach(target.host, [target.host]):
            raise _private(target)
        if reason := await self._permission(target, reader):
            raise _Refusal(403, reason)
        try:
            addresses = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError, TimeoutError):
            addresses = []
        if not addresses:
            raise _Refusal(502, f"The host {target.host} can't be found.")
        if not self._may_reach(target.host, addresses):
            raise _private(target)
        for address in addresses[:MOST_ADDRESSES]:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(address, target.port)
        raise _Refusal(504, f"{target.site} does not answer.")

    def _may_reach(self, host: str, addresses: list[str]) -> bool:
        return all(self._openings.admits(host, address) for address in addresses)

    async def _permission(self, target: Target, reader: _Reader) -> str:
        """Empty when it is given. The question ends with the connection."""
        asking = asyncio.ensure_future(self._permit(target.host, target.port))
        leaving = asyncio.ensure_future(reader.ended.wait())
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise _Gone
            return asking.result()
        finally:
            leaving.cancel()
            asking.cancel()
            await asyncio.wait({asking, leaving})


def _is_hopeless(target: Target) -> bool:
    """Whether it is clear before anybody is asked where this host is."""
    return target.is_address or target.host.rpartition(".")[2] == "localhost"


def _private(target: Target) -> _Refusal:
    return _Refusal(
        403,
        f"{target.site} is an address of this machine or of a private network. Such hosts are "
        "refused unless the user names them under `private` in [network] of the configuration.",
    )


def _refused(refusal: _Refusal) -> bytes:
    """An answer with the reason in its first line, too: of a tunnel, programs show no more."""
    body = f"agent-magics: {refusal}\n".encode("ascii", "replace")
    phrase = _PHRASES[refusal.status]
    if refusal.status == 403:
        phrase = f"{phrase} by agent-magics: {refusal}".partition(". ")[0]
    head = (
        f"HTTP/1.1 {refusal.status} {' '.join(phrase.split())}\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        f"Content-Length: {len(body)}\r\n"
        "X-Refused-By: agent-magics\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii", "replace") + body


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the program read the answer: closing on what it still sends would destroy it."""
    writer.write_eof()
    left = MOST_IGNORED
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while left > 0 and (data := await reader.read(CHUNK)):
                left -= len(data)


async def _close(writer: asyncio.StreamWriter, patience: float) -> None:
    """Close when what is left has been sent, or after so many seconds."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience):
            await writer.wait_closed()
