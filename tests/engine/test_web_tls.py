"""Fetching over real connections: certificates, redirects to https, servers that are no help."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import socketserver
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.engine._web import FetchError, Page, WebFetcher
from tests.support.tls import Authority

PUBLIC = "93.184.216.34"
HOST = "good.example"
BOMB = gzip.compress(b"\0" * (64 << 20), 1)
_EXPIRED = ("20200101000000Z", "20210101000000Z")
_NOT_YET = ("20980101000000Z", "20990101000000Z")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Loopback(httpx.AsyncHTTPTransport):
    """The real transport, but the public address leads to this machine's ports."""

    def __init__(self, trusted: ssl.SSLContext, ports: dict[str, int]) -> None:
        super().__init__(verify=trusted)
        self._ports = ports

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == PUBLIC
        port = self._ports[request.url.scheme]
        request.url = request.url.copy_with(host="127.0.0.1", port=port)
        return await super().handle_async_request(request)


class Site:
    """What is served at `ports`, by scheme; `asked` has the request lines and Host headers."""

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self.asked: list[tuple[str, str]] = []
        self.ports: dict[str, int] = {}
        self._trusted = trusted

    async def fetch(self, url: str, timeout: float = 30) -> Page:
        async def resolve(host: str, port: int) -> list[str]:
            return [PUBLIC]

        fetcher = WebFetcher(resolve, lambda: Loopback(self._trusted, self.ports))
        return await fetcher.fetch(url, timeout)

    def answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += (data := connection.recv(65536))
            if not data or not head.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
        first, *lines = head.decode("ascii").split("\r\n")
        (host,) = (line[6:] for line in lines if line.lower().startswith("host: "))
        path = first.split()[1]
        self.asked.append((path, host))
        for piece in _ANSWERS[path]:
            connection.sendall(piece)
        if path == "/hang":
            connection.recv(1)  # until the client goes


class Server(socketserver.ThreadingTCPServer):
    """On this machine; waits at its end for all who answer."""

    def __init__(self, there: Site, certificate: ssl.SSLContext | None) -> None:
        self._site = there
        self._certificate = certificate
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(30)
        with suppress(OSError):  # the client goes away, which is what some tests are about
            if self._certificate is not None:
                request = self._certificate.wrap_socket(request, server_side=True)
            with request:
                self._site.answer(request)


def _ok(body: bytes, *headers: str) -> list[bytes]:
    lines = ("HTTP/1.1 200 OK", "Content-Type: text/plain", f"Content-Length: {len(body)}")
    return ["\r\n".join([*lines, *headers, "", ""]).encode(), body]


class _Endless:
    def __iter__(self) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
        while True:
            yield b"x" * 65536


_ANSWERS = {
    "/": _ok(b"hello"),
    "/hang": [],
    "/half": [_ok(b"hello")[0], b"he"],
    "/endless": _Endless(),
    "/bomb": _ok(BOMB, "Content-Encoding: gzip"),
    "/up": [f"HTTP/1.1 301 x\r\nLocation: https://{HOST}/\r\nContent-Length: 0\r\n\r\n".encode()],
    "/down": [f"HTTP/1.1 301 x\r\nLocation: http://{HOST}/\r\nContent-Length: 0\r\n\r\n".encode()],
}


@contextmanager
def site(authority: Authority, certificate: ssl.SSLContext) -> Iterator[Site]:
    there = Site(authority.client())
    with Server(there, None) as plain, Server(there, certificate) as secure:
        servers = {"http": plain, "https": secure}
        threads = [threading.Thread(target=s.serve_forever, args=(0.05,)) for s in servers.values()]
        for thread in threads:
            thread.start()
        try:
            there.ports = {scheme: s.server_address[1] for scheme, s in servers.items()}
            yield there
        finally:
            for server in servers.values():
                server.shutdown()
            for thread in threads:
                thread.join()


async def test_a_good_certificate(authority: Authority) -> None:
    with site(authority, authority.certify(HOST)) as there:
        page = await there.fetch(f"https://{HOST}/")
        assert (page.data, page.url) == (b"hello", f"https://{HOST}/")
        assert there.asked == [("/", HOST)]


@pytest.mark.parametrize(
    ("certificate", "complaint"),
    [
        (lambda a: a.certify("other.example"), "not valid for 'good.example'"),
        (lambda a: a.certify(HOST, _EXPIRED), "certificate has expired"),
        (lambda a: a.certify(HOST, _NOT_YET), "not yet valid"),
        (lambda a: a.self_signed(HOST), "self-signed certificate"),
    ],
    ids=["other host", "expired", "not yet", "self-signed"],
)
async def test_certificates_that_are_refused(
    authority: Authority, certificate: Callable[[Authority], ssl.SSLContext], complaint: str
) -> None:
    with site(authority, certificate(authority)) as there:
        with pytest.raises(FetchError, match="certificate of the server is not valid") as error:
            await there.fetch(f"https://{HOST}/")
        text = str(error.value)
        assert complaint in text and text.endswith("Nothing was read.") and "_ssl.c" not in text
        assert there.asked == []


async def test_an_unknown_authority(authority: Authority, tmp_path: Path) -> None:
    with site(Authority(tmp_path), authority.certify(HOST)) as there:
        with pytest.raises(FetchError, match="unable to get local issuer"):
            await there.fetch(f"https://{HOST}/")
        assert there.asked == []


async def test_from_http_to_https_and_back(authority: Authority) -> None:
    with site(authority, authority.certify(HOST)) as there:
        page = await there.fetch(f"http://{HOST}/up")
        assert (page.data, page.url) == (b"hello", f"https://{HOST}/")
        page = await there.fetch(f"https://{HOST}/down")
        assert (page.data, page.url) == (b"hello", f"http://{HOST}/")
    with site(authority, authority.self_signed(HOST)) as there:
        with pytest.raises(FetchError, match="self-signed"):
            await there.fetch(f"http://{HOST}/up")
        assert there.asked == [("/up", HOST)]


async def test_a_server_that_speaks_no_tls(authority: Authority) -> None:
    with site(authority, authority.certify(HOST)) as there:
        there.ports["https"] = there.ports["http"]
        with pytest.raises(FetchError, match="no TLS connection with the server"):
            await there.fetch(f"https://{HOST}/")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/endless", "The page is larger than 5 MB."),
        ("/bomb", "The page is larger than 5 MB."),
        ("/half", "without sending complete message body"),
    ],
)
async def test_bodies_that_are_refused(authority: Authority, path: str, complaint: str) -> None:
    certificate = authority.certify(HOST)
    with site(authority, certificate) as there, pytest.raises(FetchError, match=complaint):
        await there.fetch(f"https://{HOST}{path}")


async def test_a_server_that_hangs(authority: Authority) -> None:
    certificate, complaint = authority.certify(HOST), r"did not answer in full within 0\.5 s"
    with site(authority, certificate) as there, pytest.raises(FetchError, match=complaint):
        await there.fetch(f"https://{HOST}/hang", timeout=0.5)


@contextmanager
def silence(authority: Authority) -> Iterator[Site]:
    """A port that takes connections and never says a word."""
    there = Site(authority.client())
    with socket.create_server(("127.0.0.1", 0)) as server:
        there.ports["https"] = server.getsockname()[1]
        yield there


async def test_a_server_that_never_begins(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silence(authority) as there:
        monkeypatch.setattr("agent_magics.engine._web._TIMEOUT", httpx.Timeout(None, connect=0.2))
        with pytest.raises(FetchError, match="the server does not answer"):
            await there.fetch(f"https://{HOST}/")


@pytest.mark.parametrize("ending", ["abort", "timeout"])
async def test_given_up_in_the_middle_of_the_handshake(authority: Authority, ending: str) -> None:
    """The connection is closed there and then, and not when the garbage is collected."""
    there = Site(authority.client())
    with (
        warnings.catch_warnings(record=True) as warned,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        warnings.simplefilter("always")
        there.ports["https"] = server.getsockname()[1]
        timeout = 30 if ending == "abort" else 0.3
        fetching = asyncio.create_task(there.fetch(f"https://{HOST}/", timeout))
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            connection.settimeout(30)
            assert await asyncio.to_thread(connection.recv, 1 << 16)  # the client has begun
            if ending == "abort":
                fetching.cancel()
            await asyncio.wait({fetching})
            assert await asyncio.to_thread(connection.recv, 1) == b""
        if ending == "timeout":
            assert isinstance(fetching.exception(), FetchError)
        del fetching
        gc.collect()
    assert [w.message for w in warned if issubclass(w.category, ResourceWarning)] == []
