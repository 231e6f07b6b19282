"""Fetching from the web: no way to an address that is not public, whatever the name says."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agent_magics.engine import _web
from agent_magics.engine._web import FetchError, WebFetcher, resolve_host
from agent_magics.engine._web_url import WebURLError, parse_web_url
from agent_magics.sandbox import is_public
from tests.support.fake_web import FakeWeb, Handler

PUBLIC = "93.184.216.34"
PUBLIC_6 = "2606:2800:220:1:248:1893:25c8:1946"


class Web:
    """Names with their answers one after the other, and one handler for all requests."""

    def __init__(self, handler: Handler, **names: list[list[str]]) -> None:
        self.seen: list[httpx.Request] = []
        self._names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.fetcher = WebFetcher(self._resolve, lambda: FakeWeb(handler, self.seen))

    async def _resolve(self, host: str, port: int) -> list[str]:
        answers = self._names.get(host)
        if answers is None:
            raise OSError("unknown host")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def fetch(self, url: str, timeout: float = 10) -> _web.Page:
        return await self.fetcher.fetch(url, timeout)


def hello(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text="hello")


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.100.100.200", "127.0.0.1", "127.255.0.1", "169.254.169.254"),
        *("172.16.0.1", "192.168.1.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1"),
        *("240.0.0.1", "255.255.255.255", "168.63.129.16", "203.0.113.9", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1"),
        *("2001:db8::1", "3fff::1", "2a00::5efe:10.0.0.1", "100::1", "5f00::1"),
        *("", "localhost", "127.1", "2130706433", "0x7f000001"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", PUBLIC_6, "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://a/b", "file:///etc/passwd", "http://", "http:///x", "//a/b", "data:,x"),
        *("http://user@a/", "http://u:p@a/", "http://a:0/", "http://a:99999/"),
        *("http://[::1", "http://a\n.b/", "javascript:x", "http://a/" + "x" * 9000, "gopher://a"),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(WebURLError):
        parse_web_url(url)


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("http://Example.ORG./a#b", "example.org"),
        ("https://example.org:443/", "example.org"),
        ("https://example.org:8443/", "example.org:8443"),
        ("http://[2001:4860::1]:81/", "[2001:4860::1]:81"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
    ],
)
def test_sites(url: str, site: str) -> None:
    assert parse_web_url(url).site == site


async def test_the_checked_address_is_the_one_that_is_connected_to() -> None:
    web = Web(hello, a_example=[[PUBLIC, PUBLIC_6], ["127.0.0.1"]])
    page = await web.fetch("https://a.example/x?y=1#z")
    assert (page.data, page.mime, page.url) == (b"hello", "text/plain", "https://a.example/x?y=1")
    (request,) = web.seen
    assert str(request.url) == f"https://{PUBLIC}/x?y=1"
    assert request.headers["host"] == "a.example"
    assert request.extensions["sni_hostname"] == "a.example"
    assert "authorization" not in request.headers


async def test_the_next_address_is_tried() -> None:
    def first_is_down(request: httpx.Request) -> httpx.Response:
        if request.url.host == PUBLIC:
            raise httpx.ConnectError("refused")
        return hello(request)

    web = Web(first_is_down, a_example=[[PUBLIC, PUBLIC_6]])
    assert (await web.fetch("http://a.example:81/")).data == b"hello"
    assert web.seen[1].url.host == PUBLIC_6 and web.seen[1].headers["host"] == "a.example:81"
    web = Web(first_is_down, a_example=[[PUBLIC]])
    with pytest.raises(FetchError, match="refused"):
        await web.fetch("http://a.example/")


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::1"], ["::ffff:169.254.169.254"], ["fe80::1%eth0"]],
)
async def test_private_addresses_are_refused(answer: list[str]) -> None:
    web = Web(hello, inside_example=[answer])
    with pytest.raises(FetchError, match=r"inside\.example is refused"):
        await web.fetch("http://inside.example/")
    assert web.seen == []


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost/", "http://127.1/", "http://2130706433/"),
        *("http://0x7f.1/", "http://[::1]/", "http://[::ffff:7f00:1]/", "http://0/"),
        *("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/"),
    ],
)
async def test_every_spelling_of_this_machine_is_refused(url: str) -> None:
    """With the system's resolver; numbers ask no server."""
    fetcher = WebFetcher(resolve_host, lambda: FakeWeb(hello))
    with pytest.raises(FetchError):
        await fetcher.fetch(url, 10)


async def test_nothing_is_connected_to_on_this_machine() -> None:
    """The real transport against a real server that must stay lonely."""
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FetchError, match="refused"):
            await WebFetcher().fetch(f"http://127.0.0.1:{port}/", 10)
    assert connections == 0


async def test_a_name_that_changes_its_answer_at_a_redirect() -> None:
    def redirect(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "/next"})

    web = Web(redirect, a_example=[[PUBLIC], ["169.254.169.254"]])
    with pytest.raises(FetchError, match="refused"):
        await web.fetch("http://a.example/")
    assert len(web.seen) == 1


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/", "//b.example/", "https://a.example:8443/", "http://[::1]/x"],
)
async def test_a_redirect_to_another_site_is_told_not_followed(location: str) -> None:
    web = Web(
        lambda request: httpx.Response(301, headers={"location": location}), a_example=[[PUBLIC]]
    )
    page = await web.fetch("https://a.example/")
    assert page.moved_to is not None and page.data == b""
    assert len(web.seen) == 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://u:p@a.example/"])
async def test_redirects_to_nowhere(location: str) -> None:
    web = Web(
        lambda request: httpx.Response(301, headers={"location": location}), a_example=[[PUBLIC]]
    )
    with pytest.raises(FetchError):
        await web.fetch("https://a.example/")


async def test_redirects_within_the_site() -> None:
    def upgrade(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "http":
            return httpx.Response(308, headers={"location": "https://a.example/y"})
        return hello(request)

    web = Web(upgrade, a_example=[[PUBLIC]])
    assert (await web.fetch("http://a.example/x")).url == "https://a.example/y"
    web = Web(lambda _: httpx.Response(302, headers={"location": "/"}), a_example=[[PUBLIC]])
    with pytest.raises(FetchError, match="redirects more than 5 times"):
        await web.fetch("http://a.example/")
    assert len(web.seen) == 6


async def packed(data: bytes, times: int) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield data


BOMB = gzip.compress(b"\0" * (64 << 20), 1)


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        ({"status_code": 404}, "answered 404 Not Found"),
        ({"status_code": 503, "text": "x"}, "answered 503"),
        ({"content": packed(b"x" * (1 << 20), 1000)}, "larger than 5 MB"),
        ({"content": packed(BOMB, 1), "headers": {"content-encoding": "gzip"}}, "larger than 5 MB"),
        ({"content": packed(b"no gzip", 1), "headers": {"content-encoding": "gzip"}}, "fetched"),
        ({"content": packed(b"x", 1), "headers": {"content-encoding": "br"}}, "packed as br"),
    ],
)
async def test_answers_that_are_refused(response: dict[str, Any], complaint: str) -> None:
    status = {"status_code": 200, **response}
    web = Web(lambda request: httpx.Response(**status), a_example=[[PUBLIC]])
    with pytest.raises(FetchError, match=complaint):
        await web.fetch("http://a.example/")


async def test_packed_pages_and_charsets() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-encoding": "gzip", "content-type": "text/HTML; charset=latin-1"}
        return httpx.Response(200, headers=headers, content=packed(gzip.compress(b"\xe4"), 1))

    page = await Web(answer, a_example=[[PUBLIC]]).fetch("http://a.example/")
    assert (page.data, page.mime, page.charset) == (b"\xe4", "text/html", "latin-1")


async def test_a_page_that_never_ends() -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    web = Web(lambda request: httpx.Response(200, content=drip()), a_example=[[PUBLIC]])
    with pytest.raises(FetchError, match="did not answer in full"):
        await web.fetch("http://a.example/", timeout=0.05)


async def test_an_unknown_host() -> None:
    with pytest.raises(FetchError, match=r"nobody\.example can't be found"):
        await Web(hello).fetch("http://nobody.example/")
