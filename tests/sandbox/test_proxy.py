"""The proxy with real connections: what passes, what is refused, what hostile programs try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_magics.sandbox import _proxy
from tests.support.processes import eventually
from tests.support.proxied import PATIENCE, SERVER, Proxied, proxied, read_head, server


@pytest.fixture
async def stand() -> AsyncIterator[Proxied]:
    async with proxied() as stand:
        yield stand


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write(b"|end")


class Recording:
    """A server that keeps what it gets and answers once it has `length` bytes of body."""

    def __init__(self, length: int = 0) -> None:
        self.head = b""
        self.body = b""
        self._length = length

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await read_head(reader)
        if self._length:
            self.body = await reader.readexactly(self._length)
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


async def test_a_plain_request(stand: Proxied) -> None:
    seen = Recording()
    async with server(seen) as port:
        answer = await stand.exchange(
            f"GET http://Data.Example.org:{port}/x HTTP/1.1\r\nHost: other\r\n"
            "Proxy-Connection: keep-alive\r\nA: b\r\n\r\n".encode()
        )
    assert answer.startswith(b"HTTP/1.1 204 ")
    expected = (
        f"GET /x HTTP/1.1\r\nHost: data.example.org:{port}\r\nA: b\r\nConnection: close\r\n\r\n"
    )
    assert seen.head.decode() == expected
    assert stand.asked == [("data.example.org", port)]
    assert stand.traffic.allowed == 1 and stand.traffic.refused == 0
    assert stand.traffic.sent == len(seen.head) and stand.traffic.received == len(answer)


async def test_bodies_by_length_and_in_chunks(stand: Proxied) -> None:
    seen = Recording(10)
    async with server(seen) as port:
        start = f"POST http://data.example.org:{port}/ HTTP/1.1\r\n"
        await stand.exchange(f"{start}Content-Length: 10\r\n\r\n0123456789".encode())
        assert seen.body == b"0123456789" and b"Content-Length: 10\r\n" in seen.head
    seen = Recording(len(b"a\r\n0123456789\r\n0\r\n\r\n"))
    async with server(seen) as port:
        start = f"POST http://data.example.org:{port}/ HTTP/1.1\r\n"
        body = "00A;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
        await stand.exchange(f"{start}Transfer-Encoding: chunked\r\n\r\n{body}".encode())
        assert seen.body == b"a\r\n0123456789\r\n0\r\n\r\n"


async def test_nothing_after_the_request_is_passed_on(stand: Proxied) -> None:
    """A second request on the same connection could name another host."""
    got = bytearray()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await read_head(reader))
        got.extend(await reader.readexactly(2))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.write_eof()
        got.extend(await reader.read(-1))

    async with server(take) as port:
        start = f"POST http://data.example.org:{port}/ HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"
        answer = await stand.exchange(f"{start}GET /admin HTTP/1.1\r\nHost: evil\r\n\r\n".encode())
        await eventually(lambda: got.endswith(b"ab"), PATIENCE)
    assert answer == b"HTTP/1.1 200 OK\r\n\r\n"
    assert b"evil" not in got and b"admin" not in got


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"5\r\nhelloX\r\n", b"5" * 20 + b"\r\n", b"\r\n", b"5 5\r\n", b"-1\r\n"]
)
async def test_broken_chunks_break_the_connection(stand: Proxied, body: bytes) -> None:
    got = bytearray()
    ended = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                got.extend(data)
        finally:
            ended.set()

    async with server(take) as port:
        start = f"POST http://data.example.org:{port}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        reader, writer = await stand.connect()
        writer.write(start.encode() + b"\r\n" + body + b"0\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
            assert await ending(reader) == b""
    assert got.count(b"\r\n\r\n") == 1  # the head's; the body has no end


async def ending(reader: asyncio.StreamReader) -> bytes:
    """The rest of what comes, however the connection ends."""
    try:
        return await reader.read(-1)
    except ConnectionResetError:
        return b""


async def test_a_tunnel_both_ways_and_half_closed(stand: Proxied) -> None:
    async with server(echo) as port, stand.tunnel(f"data.example.org:{port}") as (reader, writer):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read(-1) == b"|end"
    assert stand.traffic.sent == 3 and stand.traffic.received == 7


async def test_the_server_waits_for_a_program_that_does_not_read(stand: Proxied) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        for _ in range(400):
            writer.write(bytes(1 << 16))
            await writer.drain()
            written += 1 << 16

    async with server(flood) as port, stand.tunnel(f"data.example.org:{port}") as (reader, writer):
        writer.transport.pause_reading()
        before = -1
        while before != written or not written:  # until it stands still
            before = written
            await asyncio.sleep(0.1)
        assert written < 400 << 16
        writer.transport.resume_reading()
        async with asyncio.timeout(PATIENCE):
            received = 0
            while data := await reader.read(1 << 16):
                received += len(data)
        assert received == 400 << 16


async def test_a_refused_host_is_told_why(stand: Proxied) -> None:
    stand.refused["data.example.org"] = "data.example.org:80 is not allowed here. Ask the user."
    answer = await stand.exchange(b"GET http://data.example.org/ HTTP/1.1\r\n\r\n")
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith(
        "HTTP/1.1 403 Forbidden by agent-magics: data.example.org:80 is not allowed here\r\n"
    )
    assert body == "agent-magics: data.example.org:80 is not allowed here. Ask the user.\n"
    assert stand.looked_up == [] and stand.traffic.refused == 1


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "[fd00:ec2::254]"),
        *("10.0.0.1", "192.168.0.1", "0.0.0.0", "[::]", "localhost", "a.localhost", "127.0.0.3"),
    ],
)
async def test_addresses_of_this_machine_are_not_even_asked_about(
    stand: Proxied, host: str
) -> None:
    answer = await stand.exchange(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ") and b"`private`" in answer
    assert stand.asked == [] and stand.looked_up == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["93.184.216.34", "10.0.0.1"],
        [SERVER, "127.0.0.1"],
        ["fe80::1%eth0"],
    ],
)
async def test_names_that_lead_to_private_addresses(stand: Proxied, addresses: list[str]) -> None:
    stand.names["rebound.example.org"] = addresses
    answer = await stand.exchange(b"CONNECT rebound.example.org:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ") and b"private network" in answer
    assert stand.looked_up == ["rebound.example.org"]


async def test_hosts_that_are_not_there(stand: Proxied) -> None:
    answer = await stand.exchange(b"CONNECT no.example.org:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    async with server() as port:
        pass
    answer = await stand.exchange(f"CONNECT data.example.org:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 504 ")


async def test_a_program_that_goes_away_withdraws_its_question(stand: Proxied) -> None:
    _, writer = await stand.connect()
    writer.write(b"CONNECT slow.example.org:443 HTTP/1.1\r\n\r\n")
    await eventually(lambda: bool(stand.asked), PATIENCE)
    writer.close()
    async with asyncio.timeout(PATIENCE):
        await stand.withdrawn.wait()
    assert stand.looked_up == []


async def test_what_comes_too_early_is_kept(stand: Proxied) -> None:
    async with server(echo) as port:
        reader, writer = await stand.connect()
        writer.write(f"CONNECT slow.example.org:{port} HTTP/1.1\r\n\r\nearly".encode())
        await eventually(lambda: bool(stand.asked), PATIENCE)
        stand.answer.set()
        async with asyncio.timeout(PATIENCE):
            await read_head(reader)
            assert await reader.readexactly(5) == b"early"
        writer.close()


async def test_a_head_that_never_ends() -> None:
    async with proxied(head_timeout=0.2) as stand:
        assert (await stand.exchange(b"GET http://data.example")).startswith(b"HTTP/1.1 408 ")
        assert stand.asked == []


async def test_a_head_that_is_too_long(stand: Proxied) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (i, b"x" * 1000) for i in range(40))
    answer = await stand.exchange(b"GET http://data.example.org/ HTTP/1.1\r\n" + lines)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_idle_connections_end() -> None:
    async with (
        proxied(idle=0.2) as stand,
        server(echo) as port,
        stand.tunnel(f"data.example.org:{port}") as (reader, _),
        asyncio.timeout(PATIENCE),
    ):
        assert await ending(reader) == b""


async def test_more_connections_than_there_are_places_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_proxy, "MOST_CONNECTIONS", 2)
    async with proxied() as stand, server() as port:
        request = f"GET http://data.example.org:{port}/ HTTP/1.1\r\n\r\n".encode()
        silent = [await stand.connect() for _ in range(2)]
        waiting = asyncio.create_task(stand.exchange(request))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done and stand.asked == []
        silent[0][1].close()
        assert (await waiting).endswith(b"hello")
        silent[1][1].close()


async def test_closing_ends_everything() -> None:
    async with server(echo) as port:
        async with proxied() as stand:
            reader, writer = await stand.connect()
            writer.write(f"CONNECT data.example.org:{port} HTTP/1.1\r\n\r\n".encode())
            await read_head(reader)
        async with asyncio.timeout(PATIENCE):
            assert await ending(reader) == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await stand.connect()


async def test_a_slow_program_gets_what_was_left_when_the_server_closed() -> None:
    body = bytes(56 << 10)
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        writer.write_eof()
        await reader.read(-1)  # until the proxy is through with us
        ended.set()

    async with proxied(buffer=4096) as stand, server(answer) as port, asyncio.timeout(PATIENCE):
        reader, writer = await stand.connect(buffer=4096)
        writer.transport.pause_reading()
        writer.write(f"GET http://data.example.org:{port}/ HTTP/1.1\r\n\r\n".encode())
        await ended.wait()
        writer.transport.resume_reading()
        assert (await reader.read(-1)).endswith(body)


async def test_closing_does_not_wait_for_a_program_that_does_not_read() -> None:
    full = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(bytes(6 << 20))
        full.set()

    async with server(flood) as port, asyncio.timeout(PATIENCE), proxied() as stand:
        _, writer = await stand.connect()
        writer.transport.pause_reading()
        writer.write(f"GET http://data.example.org:{port}/ HTTP/1.1\r\n\r\n".encode())
        await full.wait()
        await eventually(lambda: stand.traffic.received > 1 << 18, PATIENCE)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    b"GET http://data.example.org/ HTTP/1.1\r\n",
                    b"CONNECT data.example.org:1 HTTP/1",
                ),
                *(b"POST http://no.example.org/ HTTP/1.1\r\n", b".1\r\n", b"\r\n", b"\r\n\r\n"),
                *(
                    b"Content-Length: 9\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"\0\xff",
                    b"x" * 99,
                ),
            ]
        ),
        max_size=8,
    )
)
def test_any_bytes_get_an_answer_or_an_end(pieces: list[bytes]) -> None:
    async def attempt() -> None:
        async with proxied(head_timeout=5) as stand:
            stand.names.clear()
            reader, writer = await stand.connect()
            writer.write(b"".join(pieces))
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                answer = await ending(reader)
            writer.close()
            assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
            # and the next one is served as ever
            answer = await stand.exchange(b"CONNECT no.example.org:1 HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 502 ")

    asyncio.run(attempt())
