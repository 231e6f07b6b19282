"""
Fetching from the web, on the model's wish.

The engine runs on the user's machine and sees what the container must not: services on this
machine and in its networks, metadata services of clouds. So every name is resolved once, every
address it has must be public, and the connection goes to exactly such an address, for the first
request and for each redirect. Proxies of the environment are not used: they would resolve the
name again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from agent_magics import __version__
from agent_magics.sandbox import is_public

from ._web_url import WebURL, WebURLError, parse_web_url

__all__ = ["FetchError", "Page", "WebFetcher"]

LARGEST_PAGE = 5 << 20
"""Bytes of a page, unpacked."""
_MOST_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(None, connect=5)
"""Seconds; after that the host's next address gets its chance."""
_HEADERS = {
    "User-Agent": f"agent-magics/{__version__}",
    "Accept": "text/markdown, text/html;q=0.9, text/plain;q=0.8, */*;q=0.5",
    "Accept-Encoding": "gzip",
    "Accept-Language": "en, *;q=0.5",
}

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host. Raises OSError when it has none."""


class FetchError(Exception):
    """The page can't be had; the message says why."""


@dataclass(frozen=True)
class Page:
    """
    What came back. `url` is where it came from after redirects of the same site.

    `moved_to` is where another site was redirected to; that was not fetched.
    """

    url: str
    mime: str = ""
    charset: str | None = None
    data: bytes = b""
    moved_to: str | None = None


async def resolve_host(host: str, port: int) -> list[str]:
    """The system's answer."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class WebFetcher:
    """`resolve` and `transport` stand for the network, in tests."""

    def __init__(
        self,
        resolve: Resolve = resolve_host,
        transport: Callable[[], httpx.AsyncBaseTransport] = httpx.AsyncHTTPTransport,
    ) -> None:
        self._resolve = resolve
        self._transport = transport

    async def fetch(self, url: str, timeout: float) -> Page:
        """`timeout` in seconds, for all of it. Raises FetchError."""
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(parse_web_url(url))
        except TimeoutError:
            raise FetchError(f"{url} did not answer in full within {timeout:g} s.") from None
        except WebURLError as error:
            raise FetchError(str(error)) from None
        except (httpx.HTTPError, httpx.StreamError, zlib.error) as error:
            raise FetchError(f"{url} can't be fetched: {_reason(error)}") from error

    async def _follow(self, target: WebURL) -> Page:
        async with httpx.AsyncClient(
            transport=self._transport(), trust_env=False, timeout=_TIMEOUT, headers=_HEADERS
        ) as client:
            for _ in range(_MOST_REDIRECTS + 1):
                async with self._response(client, target) as response:
                    location = response.headers.get("location")
                    if not (response.has_redirect_location and location):
                        return await _page(target, response)
                moved = target.join(location)
                if moved.site != target.site:
                    return Page(str(target.url), moved_to=str(moved.url))
                target = moved
        raise FetchError(f"{target.url} redirects more than {_MOST_REDIRECTS} times.")

    @asynccontextmanager
    async def _response(
        self, client: httpx.AsyncClient, target: WebURL
    ) -> AsyncIterator[httpx.Response]:
        addresses = await self._addresses(target)
        for number, address in enumerate(addresses, 1):
            request = client.build_request(
                "GET",
                target.url.copy_with(host=address),
                headers={"Host": target.site},
                extensions={} if address == target.host else {"sni_hostname": target.host},
            )
            try:
                response = await _sent(client, request)
                break
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(addresses):
                    raise
        try:
            yield response
        finally:
            await response.aclose()

    async def _addresses(self, target: WebURL) -> list[str]:
        """The addresses of a host; all of them, and they only, may be connected to."""
        try:
            addresses = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise FetchError(f"The host {target.host} can't be found.")
        if not all(is_public(address) for address in addresses):
            raise FetchError(
                f"{target.host} is refused: it is an address of this machine or of a private "
                "network, which can't be fetched."
            )
        return addresses


async def _sent(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The response, whose body is still to be read. After a failure no connection is left open."""
    opened: list[Any] = []

    async def trace(event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(info["return_value"])

    request.extensions["trace"] = trace
    try:
        return await client.send(request, stream=True)
    except BaseException:
        for connection in opened:  # cancelled while it shakes hands, the client forgets it
            await connection.aclose()
        raise


def _reason(error: BaseException) -> str:
    """What went wrong, for a model."""
    if isinstance(error, httpx.TimeoutException):
        return "the server does not answer."
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                "the certificate of the server is not valid, so it may be another server: "
                f"{cause.verify_message.rstrip('.')}. Nothing was read."
            )
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection with the server: {cause.reason or 'it failed'}."
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


async def _page(target: WebURL, response: httpx.Response) -> Page:
    if response.status_code >= 400:
        raise FetchError(
            f"{target.url} answered {response.status_code} {response.reason_phrase}".rstrip() + "."
        )
    mime = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = await _body(response)
    return Page(str(target.url), mime, response.charset_encoding, data)


async def _body(response: httpx.Response) -> bytes:
    """The body, unpacked here: a small packed one may be huge."""
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip", "x-gzip"):
        raise FetchError(f"The page is packed as {packing}, which was not asked for.")
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS) if packing.endswith("gzip") else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        room = LARGEST_PAGE + 1 - len(body)
        body += chunk if unpacker is None else unpacker.decompress(chunk, room)
        if len(body) > LARGEST_PAGE:
            raise FetchError(f"The page is larger than {LARGEST_PAGE >> 20} MB.")
    return bytes(body)
