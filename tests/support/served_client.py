"""Our own client on an engine in the test's loop, over a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from agent_magics.client import AsyncClient, Client
from tests.support.engine_harness import TOKEN, Harness, served


@asynccontextmanager
async def clients_of(
    harness: Harness, directory: Path
) -> AsyncIterator[tuple[AsyncClient, Client]]:
    """Both faces. Calls of the sync one belong into a thread: the server runs in this loop."""

    def transport() -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(uds=str(directory / "test.sock"))

    async with served(harness, directory):
        client = Client("http://agent", token=TOKEN, transport=transport())
        async with AsyncClient("http://agent", token=TOKEN, transport=transport()) as other:
            try:
                yield other, client
            finally:
                client.close()
