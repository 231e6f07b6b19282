"""Connections that do not get on are ended; those that do are not, however long they last."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from agent_magics.engine._access import Access
from agent_magics.engine._guard import ConnectionLimits, Guard

TOKEN = "token-of-the-test"
AUTHORIZED = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
HEALTH = b"GET /global/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 30
NEVER = 1000.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[bytes], Awaitable[Connection]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An upload that counts, a stream that waits for its end, an answer without end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/upload":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await send({"type": "http.response.body", "body": str(size).encode()})
    elif scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
        await _left(receive)
    elif scope["path"] == "/endless":
        leaving = asyncio.create_task(_left(receive))
        while not leaving.done():
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await asyncio.sleep(0)
    elif scope["path"] == "/large":
        await send({"type": "http.response.body", "body": bytes(64 << 20)})
    else:
        await send({"type": "http.response.body", "body": b"healthy"})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Served:
    """A guarded server on a socket of its own."""

    def __init__(self, guard: Guard, listener: socket.socket) -> None:
        self.guard = guard
        self._listener = listener
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, text: bytes = b"") -> Connection:
        address = self._listener.getsockname()
        if isinstance(address, str):
            reader, writer = await asyncio.open_unix_connection(address, limit=1 << 10)
        else:
            reader, writer = await asyncio.open_connection(*address[:2], limit=1 << 10)
        self._writers.append(writer)
        writer.write(text)
        return reader, writer

    async def health(self) -> bytes:
        reader, _ = await self.connect(HEALTH)
        async with asyncio.timeout(PATIENCE):
            return await reader.readuntil(b"healthy")

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def served(listener: socket.socket, **limits: float) -> AsyncIterator[Served]:
    most = {"head": NEVER, "body": NEVER, "answer": NEVER} | limits
    guard = Guard(ConnectionLimits(**most))  # type: ignore[arg-type]
    config = uvicorn.Config(
        Access(app, token=TOKEN),
        backlog=guard.accepted_at_once,
        http=guard.protocol(),
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    guarding = asyncio.create_task(guard.run())
    running = Served(guard, listener)
    try:
        while not server.started:
            await asyncio.sleep(0.002)
        listener.listen(2048)
        yield running
    finally:
        running.close()
        server.should_exit = True
        await serving
        guarding.cancel()
        listener.close()


@pytest.fixture
def listener() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(128)
    return made


@pytest.fixture
def unix_listener(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(tmp_path / "s"))
    made.listen(128)
    return made


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection."""
    text = b""
    async with asyncio.timeout(PATIENCE):
        try:
            while data := await reader.read(1 << 16):
                text += data
        except OSError:
            pass
    return text


HALVES = {
    "nothing": b"",
    "half a line": b"GET /se",
    "half a head": b"GET /session HTTP/1.1\r\nHost: localhost\r\nX",
    "half a token": f"GET /session HTTP/1.1\r\n{AUTHORIZED[:-10]}".encode(),
    "half a body": b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nhalf",
    "half a body that waits": b"POST /upload HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 99\r\nExpect: 100-continue\r\n\r\n",
    "half a chunk": b"POST /upload HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n99\r\nhalf",
    "a whole request, and then nothing": HEALTH,
    "half of the next": HEALTH + b"GET /global/he",
}


@pytest.mark.parametrize("text", HALVES.values(), ids=HALVES.keys())
async def test_half_a_request_ends_after_its_time(listener: socket.socket, text: bytes) -> None:
    async with served(listener, head=0.2) as server:
        reader, _ = await server.connect(text)
        await ended(reader)
        assert b"200" in await server.health()


async def test_a_head_byte_by_byte_ends_after_its_time(listener: socket.socket) -> None:
    async with served(listener, head=0.3) as server:
        reader, writer = await server.connect()

        async def drip() -> None:
            for byte in b"GET / HTTP/1.1\r\nX: " + bytes(b"x" * 100_000):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        await ended(reader)
        dripping.cancel()


async def test_the_rest_of_a_refused_body_ends_after_its_time(listener: socket.socket) -> None:
    """Each piece keeps uvicorn's own clock from running."""
    head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n"
    async with served(listener, head=0.3) as server:
        reader, writer = await server.connect(head)

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert b"401" in await ended(reader)
        dripping.cancel()


async def test_the_head_of_the_next_request_has_its_time_too(listener: socket.socket) -> None:
    async with served(listener, head=0.2) as server:
        reader, writer = await server.connect(f"GET / HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"healthy")
        writer.write(b"GET / HT")
        await ended(reader)


async def test_a_head_without_end_is_cut(listener: socket.socket) -> None:
    async with served(listener) as server:
        reader, writer = await server.connect(b"GET / HTTP/1.1\r\n")
        for number in range(3000):
            writer.write(b"X-%d: " % number + b"y" * 60 + b"\r\n")
        text = await ended(reader)
        assert b"200" not in text


async def test_a_body_that_stands_still_is_cut(listener: socket.socket) -> None:
    text = f"POST /upload HTTP/1.1\r\n{AUTHORIZED}Content-Length: 9\r\n\r\nhalf".encode()
    async with served(listener, body=0.2) as server:
        reader, _ = await server.connect(text)
        assert b"\r\n\r\n4" not in await ended(reader)


@pytest.mark.parametrize("path", ["/endless", "/large"])
async def test_an_answer_that_is_not_read_is_cut(listener: socket.socket, path: str) -> None:
    async with served(listener, answer=0.3) as server:
        await server.connect(f"GET {path} HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
        await until(lambda: len(server.guard) == 1)
        await until(lambda: len(server.guard) == 0)


async def test_a_stranger_s_answers_that_are_not_read_are_cut(listener: socket.socket) -> None:
    async with served(listener, head=0.3) as server:
        _, writer = await server.connect()
        writer.write(HEALTH * 2000)
        await until(lambda: len(server.guard) == 1)
        await until(lambda: len(server.guard) == 0)


async def test_a_stranger_gets_few_answers_on_a_connection(listener: socket.socket) -> None:
    async with served(listener) as server:
        reader, _ = await server.connect(HEALTH * 100)
        assert (await ended(reader)).count(b"healthy") <= 2
        request = f"GET / HTTP/1.1\r\n{AUTHORIZED}\r\n".encode()
        reader, _ = await server.connect(request * 20)
        async with asyncio.timeout(PATIENCE):
            for _ in range(20):
                await reader.readuntil(b"healthy")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_gets_on_may_last(listener: socket.socket) -> None:
    """A silent stream, a slow upload and a slow reader, several times as long as the limits."""
    async with served(listener, head=0.2, body=0.5, answer=0.5) as server:
        stream, _ = await server.connect(f"GET /stream HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
        upload, writer = await server.connect(
            f"POST /upload HTTP/1.1\r\n{AUTHORIZED}Content-Length: 20\r\n\r\n".encode()
        )
        slow, _ = await server.connect(f"GET /endless HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            await stream.readuntil(b"open")
            for _ in range(20):
                writer.write(b"x")
                await slow.readexactly(1 << 20)
                await asyncio.sleep(0.1)
            await upload.readuntil(b"20")
        assert not stream.at_eof() and not slow.at_eof()
        assert len(server.guard) == 3


async def test_strangers_take_no_places(unix_listener: socket.socket) -> None:
    """Ten times as many as there may be; health, a request and a stream are answered meanwhile."""
    async with served(unix_listener, strangers=32, connections=64) as server:
        stream, _ = await server.connect(f"GET /stream HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            await stream.readuntil(b"open")
        for number in range(320):
            await server.connect(HALVES["half a head"])
            if number % 40 == 0:
                assert b"200" in await server.health()
        await until(lambda: len(server.guard) <= 33)
        reader, _ = await server.connect(f"GET / HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"healthy")
        assert not stream.at_eof()


async def test_idle_connections_with_the_token_make_room(listener: socket.socket) -> None:
    async with served(listener, connections=16) as server:
        for _ in range(40):
            reader, _ = await server.connect(f"GET / HTTP/1.1\r\n{AUTHORIZED}\r\n".encode())
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"healthy")
        assert len(server.guard) <= 16


def test_the_limits_leave_descriptors_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    assert ConnectionLimits.of_process() == ConnectionLimits(strangers=64, connections=128)
