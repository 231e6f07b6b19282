"""What runs on this machine is reached directly, whatever the environment says of proxies."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_magics.client._endpoint import Endpoint
from agent_magics.engine._config_tables import McpConfig
from agent_magics.engine._mcp import McpServers, McpTools
from agent_magics.engine.models._clients import Access, ClientCache
from agent_magics.wire import is_loopback
from tests.support.tcp_server import TcpServer

ANSWER = b'{"healthy": true, "object": "list", "data": []}'


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + ANSWER)


@asynccontextmanager
async def listening(host: str) -> AsyncIterator[tuple[TcpServer, int]]:
    server = TcpServer(answer)
    port = await server.start(host)
    try:
        yield server, port
    finally:
        await server.stop()


def environs(proxy: str) -> list[dict[str, str]]:
    """Spellings of "use this proxy for everything"."""
    everything = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    lower = {name.lower(): proxy for name in everything}
    return [
        dict.fromkeys(everything, proxy),
        lower,
        {**lower, "no_proxy": "example.org", "NO_PROXY": ""},
        {"all_proxy": proxy, "NO_PROXY": "localhost.example, .127.0.0.1"},
        {"ALL_PROXY": proxy.removeprefix("http://")},
    ]


async def use_openai(base: str) -> None:
    await _list(Access("lab", "openai", f"{base}/v1", "key"))


async def use_anthropic(base: str) -> None:
    await _list(Access("lab", "anthropic", base, "key"))


async def _list(access: Access) -> None:
    cache = ClientCache()
    client = cache.model(access, "m")._provider.client  # type: ignore[attr-defined]
    await client.get("/models", cast_to=object)
    await cache.aclose()


async def use_mcp(base: str) -> None:
    """The server is none of MCP: what counts is that it is asked."""
    servers = McpServers({"x": McpConfig(url=f"{base}/mcp", headers={"a": "b"})}, {}, Path("/none"))
    async with McpTools(servers):
        pass
    await servers.close()


async def use_client(base: str) -> None:
    async with Endpoint(url=base).async_client(timeout=30) as http:
        assert (await http.get("/global/health")).status_code == 200


Use = Callable[[str], Awaitable[None]]


@pytest.mark.parametrize("use", [use_client, use_openai, use_anthropic, use_mcp])
async def test_no_proxy_for_this_machine(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {
        "127.0.0.1": ("127.0.0.1", "localhost"),
        "127.0.0.2": ("127.0.0.2",),
        "::1": ("[::1]",),
    }
    spellings = 5
    if use is not use_client:  # their clients are slow; `test_hosts_that_are_this_machine` for more
        hosts, spellings = {"127.0.0.1": ("localhost",)}, 1
    if use is use_mcp:
        pytest.importorskip("pydantic_ai.mcp", exc_type=ImportError)
    async with listening("127.0.0.1") as (proxy, proxy_port):
        for environ in environs(f"http://127.0.0.1:{proxy_port}")[:spellings]:
            with monkeypatch.context() as patch:
                for name, value in environ.items():
                    patch.setenv(name, value)
                for address, names in hosts.items():
                    async with listening(address) as (server, port):
                        for number, name in enumerate(names, 1):
                            await use(f"http://{name}:{port}")
                            assert server.opened >= number
        assert proxy.opened == 0


@pytest.mark.parametrize("use", [use_client, use_openai, use_anthropic])
async def test_others_are_reached_by_the_proxy(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening("127.0.0.1") as (proxy, port):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        await use("http://models.example.org")
        assert proxy.opened == 1


async def test_a_client_that_is_let_go_closes_its_connections() -> None:
    async with listening("127.0.0.1") as (_, port):
        cache = ClientCache()
        access = Access("lab", "openai", f"http://127.0.0.1:{port}/v1", "key")
        http = cache.model(access, "m")._provider.client._client  # type: ignore[attr-defined]
        closed = asyncio.Event()
        transport = http._transport
        close = transport.aclose

        async def aclose() -> None:
            await close()
            closed.set()

        transport.aclose = aclose
        del cache, http, transport
        gc.collect()
        async with asyncio.timeout(60):
            await closed.wait()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.255.1.2", "127.1", "0x7f.1", "2130706433", "::1", "[::1]", "0.0.0.0"),
        *("localhost", "LOCALHOST.", "a.b.localhost", "::ffff:127.0.0.1", "[::]", "::1%lo"),
        *("http://localhost:8000/v1", "https://[::1]:1/", "http://127.3.0.1", "http://u:p@127.1/"),
    ],
)
def test_hosts_that_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.org", "localhost.example.org", "notlocalhost", "128.0.0.1", "::2", "126.1"),
        *("127.0.0.1.example.org", "http://example.org/localhost", "http://127.0.0.1@example.org/"),
        *("http://[", "10.0.0.1", "fe80::1", "abc", "0x7f.1.example"),
    ],
)
def test_hosts_that_are_others(host: str) -> None:
    assert not is_loopback(host)
