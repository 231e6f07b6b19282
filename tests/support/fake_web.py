"""A web without network: its answers are streams, as those of a real transport are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx

Handler = Callable[[httpx.Request], httpx.Response]


class FakeWeb(httpx.AsyncBaseTransport):
    """Answers each request with what `handler` makes of it; `seen` has the requests."""

    def __init__(self, handler: Handler, seen: list[httpx.Request] | None = None) -> None:
        self.seen = [] if seen is None else seen
        self._handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        response = self._handler(request)
        if response.is_stream_consumed:
            content, kind = response.content, response.headers
            return httpx.Response(response.status_code, headers=kind, content=_once(content))
        return response


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
