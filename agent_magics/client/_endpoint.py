"""Where a server is, and the httpx clients that talk to it."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_magics.wire import is_loopback

if TYPE_CHECKING:
    import httpx

__all__ = ["Endpoint", "Health"]

_UDS_BASE = "http://agent"


@dataclass(frozen=True, slots=True)
class Health:
    """
    What a server says about itself.

    `engine` is empty for a plain opencode server, which has no numbered events and none of the
    paths that are ours; `protocol` is 0 then.
    """

    healthy: bool
    version: str = ""
    engine: str = ""
    protocol: int = 0

    @classmethod
    def from_json(cls, data: Any) -> Health:
        """Raises `ValueError` for something that is no health answer."""
        if not isinstance(data, dict) or "healthy" not in data:
            raise ValueError("no health answer")
        return cls(
            healthy=bool(data["healthy"]),
            version=str(data.get("version") or ""),
            engine=str(data.get("engine") or ""),
            protocol=int(data.get("protocol") or 0),
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The address of a server: a Unix socket (`uds`) or a `url`, and its token.

    `pid` is the process of an embedded engine. Two endpoints are equal when they lead to the same
    running server.
    """

    url: str = _UDS_BASE
    uds: str | None = None
    token: str | None = None
    pid: int | None = None
    basic: bool = False
    """Send the token as the password of HTTP Basic, which is what opencode wants."""

    def __repr__(self) -> str:
        where = f"uds={self.uds!r}" if self.uds else f"url={self.url!r}"
        return f"Endpoint({where})"

    def with_basic(self) -> Endpoint:
        return replace(self, basic=True)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every request to it carries."""
        if not self.token:
            return {}
        if self.basic:
            pair = base64.b64encode(f"opencode:{self.token}".encode()).decode("ascii")
            return {"Authorization": f"Basic {pair}"}
        return {"Authorization": f"Bearer {self.token}"}

    def async_client(
        self, *, timeout: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> httpx.AsyncClient:
        """
        A client for this endpoint. `timeout` in seconds, for connecting and for each read.

        Without TLS no certificates are loaded, and no proxy is asked for sockets and loopback.
        """
        import httpx

        local = self.uds is not None or is_loopback(httpx.URL(self.url).host)
        if transport is None and local:
            transport = httpx.AsyncHTTPTransport(uds=self.uds, verify=self._tls, limits=_limits())
        return httpx.AsyncClient(
            base_url=self.url,
            headers=self.headers,
            transport=transport,
            timeout=timeout,
            verify=self._tls,
            limits=_limits(),
            trust_env=not local,
        )

    def get_health(self, *, timeout: float) -> Health:
        """
        Ask the server at the Unix socket how it is, waiting `timeout` seconds for each step.

        Raises `OSError` or `http.client.HTTPException` when there is no answer, `ValueError` for
        a strange one.
        """
        import http.client

        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connected:
            connected.settimeout(timeout)
            connected.connect(self.uds or "")
            connection = http.client.HTTPConnection("agent")
            connection.sock = connected
            connection.request("GET", "/global/health", headers=self.headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(f"the health page answered {response.status}")
            return Health.from_json(json.load(response))

    @property
    def _tls(self) -> bool:
        return self.uds is None and self.url.startswith("https:")


def _limits() -> httpx.Limits:
    """As many connections as there are turns: each holds one for its events."""
    import httpx

    return httpx.Limits(max_connections=None, max_keepalive_connections=8)
