"""What the way out of a container carries, beside the same download without container and proxy."""

from __future__ import annotations

import asyncio
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agent_magics.sandbox import Network, open_sandbox
from tests.benchmarks.figures import Figure, median
from tests.support.proxied import SERVER

SIZE = 512 << 20
ROUNDS = 5
HOST = "data.example.org"


class _Download(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE >> 20):
            self.wfile.write(bytes(1 << 20))


def measure() -> Iterator[Figure]:
    """Megabytes per second of a download by curl through a tunnel."""
    with socketserver.ThreadingTCPServer((SERVER, 0), _Download) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        through, direct = asyncio.run(_rates(server.server_address[1]))
        server.shutdown()
    yield Figure(
        "download in a container",
        through,
        "MB/s",
        more_is_better=True,
        baseline=direct,
        against="curl on the host",
    )


async def _rates(port: int) -> tuple[float, float]:
    async def permit(host: str, port: int) -> str:
        return ""

    async def resolve(host: str, port: int) -> list[str]:
        return [SERVER]

    async def through() -> None:
        done = await box.run(f"curl -sSp -o /dev/null http://{HOST}:{port}/")
        assert done.exit_code == 0, done

    async def direct() -> None:
        command = ("curl", "-sS", "-o", "/dev/null", f"http://{SERVER}:{port}/")
        assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0

    with tempfile.TemporaryDirectory() as directory:
        box = open_sandbox(
            Path(directory, "session"), network=Network(permit, (SERVER,), resolve=resolve)
        )
        await box.start()
        try:
            rates: dict[str, list[float]] = {"through": [], "direct": []}
            for _ in range(ROUNDS):
                for name, download in (("through", through), ("direct", direct)):
                    start = time.perf_counter()
                    await download()
                    rates[name].append((SIZE >> 20) / (time.perf_counter() - start))
        finally:
            await box.destroy()
    return median(rates["through"]), median(rates["direct"])
