"""The way out by an allow-list: the same for every provider that has one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from agent_magics.sandbox import ExecResult, Network, Sandbox, SandboxGone
from tests.support.proxied import SERVER, read_head, server

HOST = "data.example.org"
PATIENCE = 60.0
SIZE = 12 << 20
FETCH = "import urllib.request as u; print(u.urlopen('http://{}/').read().decode())"
RAW = (
    "import socket\ns = socket.create_connection(('127.0.0.1', 3128))\n"
    "s.sendall(b'GET {} HTTP/1.1\\r\\n\\r\\n')\n"
    "print(s.makefile().read())"
)
TUNNEL = (
    "import hashlib, socket, sys, threading\n"
    "def tunnel(site):\n"
    "    s = socket.create_connection(('127.0.0.1', 3128))\n"
    "    s.sendall(f'CONNECT {{site}} HTTP/1.1\\r\\n\\r\\n'.encode())\n"
    "    head = b''\n"
    "    while not head.endswith(b'\\r\\n\\r\\n'): head += s.recv(1)\n"
    "    assert b' 200 ' in head, head\n"
    "    return s\n"
    "site = '{}'\n"
)


@asynccontextmanager
async def networked(open_box: Callable[..., Sandbox], **more: Any) -> AsyncIterator[Sandbox]:
    """A container that may reach HOST, which is our server."""

    async def permit(host: str, port: int) -> str:
        return "" if host == HOST else f"{host}:{port} is not allowed here. Ask."

    async def resolve(host: str, port: int) -> list[str]:
        return [SERVER]

    box = open_box(network=Network(permit, (SERVER,), {}, resolve), **more)
    await box.start()
    try:
        yield box
    finally:
        await box.destroy()


def text(result: ExecResult) -> str:
    return (result.stdout + result.stderr).decode()


async def python(box: Sandbox, program: str) -> str:
    """What a program prints."""
    return text(await box.run("python3 -", stdin=program.encode(), timeout=PATIENCE))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything back, and then the end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def test_what_is_allowed_and_nothing_else(open_box: Callable[..., Sandbox]) -> None:
    async with networked(open_box) as box, server() as port:
        assert await python(box, FETCH.format(f"{HOST}:{port}")) == "hello\n"
        said = await python(box, FETCH.format(f"evil.example.org:{port}"))
        assert "403: Forbidden by agent-magics: evil.example.org" in said
        for host in ("169.254.169.254", "10.0.0.1", "127.0.0.3", "[fd00:ec2::254]"):
            said = await python(box, RAW.format(f"http://{host}:{port}/"))
            assert "private network" in said, (host, said)
        assert (box.traffic.allowed, box.traffic.refused) == (1, 5)
        direct = "import socket; socket.create_connection(('{}', {}), 5)"
        for host in (SERVER, "192.0.2.1"):
            said = await python(box, direct.format(host, port))
            assert "refused" in said or "unreachable" in said, said
        await box.stop()
        await box.start()
        assert await python(box, FETCH.format(f"{HOST}:{port}")) == "hello\n"
        assert box.traffic.allowed == 2


async def test_much_and_many(open_box: Callable[..., Sandbox]) -> None:
    """
    Byte for byte in both directions, with an end of one that leaves the other open; then more
    connections at once than there may be: the rest waits its turn, nobody is turned away.
    """
    much = TUNNEL + (
        "s, sent, got = tunnel(site), hashlib.sha256(), hashlib.sha256()\n"
        "def send():\n"
        "    for i in range({} >> 16):\n"
        "        data = i.to_bytes(4, 'big') * (1 << 14)\n"
        "        sent.update(data); s.sendall(data)\n"
        "    s.shutdown(socket.SHUT_WR)\n"
        "t = threading.Thread(target=send); t.start()\n"
        "while data := s.recv(1 << 16): got.update(data)\n"
        "t.join()\n"
        "print(sent.hexdigest() == got.hexdigest(), sent.hexdigest())\n"
    )
    expected = hashlib.sha256()
    for i in range(SIZE >> 16):
        expected.update(i.to_bytes(4, "big") * (1 << 14))
    many = (
        "import threading, urllib.request as u\nfound = []\n"
        "def get(): found.append(u.urlopen('http://{}/', timeout=60).read())\n"
        "threads = [threading.Thread(target=get) for _ in range(100)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "print(found.count(b'hello'))\n"
    )
    async with networked(open_box) as box, server(echo) as port, server() as other:
        said = await python(box, much.format(f"{HOST}:{port}", SIZE))
        assert said == f"True {expected.hexdigest()}\n"
        assert box.traffic.sent == box.traffic.received == SIZE
        assert await python(box, many.format(f"{HOST}:{other}")) == "100\n"
        assert box.traffic.allowed == 101


async def test_who_never_reads_holds_up_nobody(open_box: Callable[..., Sandbox]) -> None:
    """The server is held back, commands and other connections go on."""
    taken = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await read_head(reader)
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            taken += 1 << 16

    deaf = TUNNEL + (
        "s = tunnel(site); s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); print('up', flush=True)\n"
        "threading.Event().wait()\n"
    )
    async with networked(open_box) as box, server(flood) as port, server() as other:
        up = asyncio.Event()
        running = asyncio.create_task(
            box.run(
                "python3 -",
                stdin=deaf.format(f"{HOST}:{port}").encode(),
                on_output=lambda stream, data: up.set(),
                timeout=PATIENCE,
            )
        )
        async with asyncio.timeout(PATIENCE):
            await up.wait()
            before = -1
            while before != taken:  # as long as something moves
                before = taken
                assert await python(box, FETCH.format(f"{HOST}:{other}")) == "hello\n"
        assert taken < 64 << 20
        running.cancel()
        await asyncio.wait({running})


async def test_the_end_of_either_side_reaches_the_other(open_box: Callable[..., Sandbox]) -> None:
    reached, ended = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        reached.set()
        try:
            await reader.read(-1)
        finally:
            ended.set()

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.transport.abort()

    hung = TUNNEL + "s = tunnel(site); s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n"
    async with (
        networked(open_box) as box,
        server(hold) as holding,
        server(cut) as cutting,
        asyncio.timeout(PATIENCE),
    ):
        said = await python(box, hung.format(f"{HOST}:{cutting}") + "print(s.recv(1))")
        assert said == "b''\n" or "ConnectionResetError" in said
        left = hung.format(f"{HOST}:{holding}")
        await python(box, left)  # the program goes without a word
        await reached.wait()
        await ended.wait()
        reached.clear()
        ended.clear()
        task = asyncio.create_task(python(box, left + "s.recv(1)"))
        await reached.wait()
        await box.stop()
        await ended.wait()
        with suppress(SandboxGone):  # unless the program saw the end first, and ended as well
            await task
