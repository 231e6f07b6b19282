"""
Attacks on `agent-magics serve` from its port, at real size, by somebody without the token.

    python -m tests.support.flood

While each lasts, health must answer, a request with the token must be served, and a lease that was
there before must stay. Prints one line for each, and N of M.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

DESCRIPTORS = 1024
"""As a login shell has them."""
SIZE = 3000
PATIENCE = 30.0
"""Seconds in which a request must be answered, on a busy machine."""

HALF = b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nX-Half:"
HEALTH = b"GET /global/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
TEXTS = {
    "connections that say nothing": b"",
    "half a head": HALF,
    "half a body": HALF + b" no\r\n\r\n{",
    "a body that waits to be asked for": HALF + b" no\r\nExpect: 100-continue\r\n\r\n",
    "half a chunk": b"POST /session HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n99\r\nx",
    "idle after a request": HEALTH,
    "a wrong token": b"GET /session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
    "many requests at once": HEALTH * 50,
    "no HTTP": b"\x16\x03\x01" + bytes(500),
    "a head without end": b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000,
}


class Flood:
    """Connections of an attacker."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._open: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def connect(self, text: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                _, writer = await asyncio.open_connection(*self._where, limit=1)
            self._open.append(writer)
            writer.write(text)

    async def many(self, text: bytes, number: int = SIZE) -> None:
        for _ in range(number // 100):
            await asyncio.gather(*(self.connect(text) for _ in range(100)))

    async def drip(self, text: bytes, number: int = 600) -> None:
        """All of them get one byte more, for ever."""
        await self.many(text, number)

        async def go_on() -> None:
            while True:
                for writer in self._open:
                    if not writer.is_closing():
                        writer.write(b"x")
                await asyncio.sleep(0.2)

        self.tasks.append(asyncio.create_task(go_on()))

    async def again_and_again(self, text: bytes) -> None:
        async def go_on() -> None:
            while True:
                await self.connect(text)
                if len(self._open) > 500:
                    self._open.pop(0).transport.abort()

        self.tasks += [asyncio.create_task(go_on()) for _ in range(50)]
        await asyncio.sleep(1)

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        for writer in self._open:
            writer.transport.abort()


Attack = Callable[[Flood], Awaitable[None]]

ATTACKS: dict[str, Attack] = {
    **{name: (lambda flood, text=text: flood.many(text)) for name, text in TEXTS.items()},  # type: ignore[misc]
    "heads byte by byte": lambda flood: flood.drip(HALF),
    "bodies byte by byte": lambda flood: flood.drip(HALF + b" no\r\n\r\n{"),
    "new connections all the time": lambda flood: flood.again_and_again(HALF),
    "answers that are not read": lambda flood: flood.many(HEALTH * 2000, 300),
}


async def request(host: str, port: int, path: str, token: str = "") -> float:
    """Seconds until it was answered."""
    began = time.monotonic()
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{head}\r\n".encode())
        line = await reader.readline()
    writer.close()
    if b"200" not in line:
        raise OSError(f"{path}: {line!r}")
    return time.monotonic() - began


async def attack(host: str, port: int, token: str) -> int:
    """How many were withstood."""
    await request(host, port, "/global/health")  # it has started
    lease, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"GET /lease HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    await lease.readuntil(b"lease")
    good = 0
    for name, begin in ATTACKS.items():
        flood = Flood(host, port)
        slowest, problem = 0.0, ""
        try:
            await begin(flood)
            for _ in range(20):
                slowest = max(slowest, await request(host, port, "/global/health"))
                slowest = max(slowest, await request(host, port, "/session", token))
            assert not lease.at_eof() and lease.exception() is None, "the lease was lost"
        except (OSError, TimeoutError, AssertionError) as error:
            problem = f"{type(error).__name__} {error}"
        flood.end()
        good += not problem
        print(f"{'held' if not problem else 'BAD '} {name}: {problem or f'{slowest:.2f} s'}")
    return good


def main() -> int:
    """Start an engine, attack it, end it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (16000, 16000))
    with tempfile.TemporaryDirectory() as folder:
        engine = subprocess.Popen(
            [
                *(sys.executable, "-m", "agent_magics.engine", "--port", "0"),
                *("--state-dir", f"{folder}/state", "--data-dir", f"{folder}/data"),
            ],
            env={**os.environ, "AGENT_MAGICS_TOKEN": "token", "HOME": folder},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)
            ),
        )
        try:
            assert engine.stdout is not None
            where = urlsplit(json.loads(engine.stdout.readline())["url"])
            assert where.hostname and where.port
            good = asyncio.run(attack(where.hostname, where.port, "token"))
        finally:
            engine.kill()
            engine.wait()
    print(f"{good} of {len(ATTACKS)} attacks on the port were withstood")
    return 0 if good == len(ATTACKS) else 1


if __name__ == "__main__":
    sys.exit(main())
