"""How the engine's HTTP clients reach their servers: by the environment's proxy, or directly."""

from __future__ import annotations

from typing import Any

from agent_magics.wire import is_loopback

__all__ = ["routed"]

_MOST_CONNECTIONS = 1000
_MOST_KEPT = 100
_LOOPBACK = ("all://localhost", "all://*.localhost", "all://127.0.0.1", "all://[::1]")


def routed(library: Any, url: str) -> dict[str, Any]:
    """
    Options of an `AsyncClient` of `library` (httpx, httpx2) for the server at `url`.

    A server on this machine is never reached by a proxy, whatever HTTP_PROXY, ALL_PROXY and
    NO_PROXY say; for others these variables hold, except where one redirects to this machine.
    """
    if not is_loopback(url):
        return {"mounts": dict.fromkeys(_LOOPBACK)}
    limits = library.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_KEPT)
    # with a transport of its own a client reads no proxies; certificates it still does
    return {"transport": library.AsyncHTTPTransport(limits=limits)}
