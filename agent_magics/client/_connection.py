"""The connection to a server: made at first use, renewed when an embedded engine was replaced."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._daemon import run_in_daemon_thread
from ._endpoint import Endpoint, Health
from ._errors import (
    AuthError,
    ConnectionFailed,
    EngineNotResponding,
    EngineStartError,
    ProtocolError,
)
from ._launch import EngineLauncher, check_protocol, is_alive

if TYPE_CHECKING:
    import httpx

__all__ = ["Connection", "Connector", "EmbeddedConnector", "UrlConnector"]

_LEASE_TRIES = 5
_CONNECT_TRIES = 3
_MARGIN = 1.0
"""Seconds for the launcher to say by itself that the time is up."""


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    endpoint: Endpoint
    http: httpx.AsyncClient
    health: Health

    @property
    def is_numbered(self) -> bool:
        """Ours: events have numbers and turns have ends. False for a plain opencode server."""
        return bool(self.health.engine)


class _Attempts:
    """
    Attempts to connect, one after the other. One that fails answers all who waited for it.

    Else each of them would start an engine that can't start, and the last would wait for all.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = 0
        self._failed: tuple[int, float, ConnectionFailed] | None = None

    @contextlib.asynccontextmanager
    async def next(self, limit: float) -> AsyncIterator[None]:
        """For an attempt of `limit` seconds. Raises what one that ran or began meanwhile raised."""
        known = self._begun - self._lock.locked()
        async with self._lock:
            if self._failed is not None:
                number, tried, error = self._failed
                if number > known and tried >= limit:
                    raise copy.copy(error) from error
            self._begun += 1
            self._failed = None
            try:
                yield
            except ConnectionFailed as error:
                self._failed = (self._begun, limit, error)
                raise


class Connector:
    """Keeps one `Connection`. Used from one event loop."""

    embedded = False

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self._current: Connection | None = None
        self._attempts = _Attempts()
        self._closed = False

    async def get(self) -> Connection:
        """The connection. Raises `ConnectionFailed`, `ProtocolError` or `AuthError`."""
        if self._current is not None:
            return self._current
        async with self._attempts.next(self.timeout):
            if self._closed:
                raise ConnectionFailed("The client is closed.")
            if self._current is None:
                self._current = await self._connect()
            return self._current

    async def renew(self, stale: Connection, within: float | None = None) -> Connection:
        """
        The connection to use after `stale` failed; the same one when nothing changed.

        `within` is in seconds, instead of the client's timeout.
        """
        return stale

    async def is_silent(self, connection: Connection, seconds: float) -> bool:
        """
        After so many seconds without an answer: whether to go on waiting, because the server is
        there and says nothing at all. Whoever waits is told so.
        """
        return False

    def no_answer(self, connection: Connection, seconds: float) -> ConnectionFailed:
        """The error for a request that has been waiting for so many seconds."""
        return ConnectionFailed(
            f"The server at {connection.endpoint.url} has not answered for {seconds:.3g} s."
        )

    async def aclose(self) -> None:
        self._closed = True
        current, self._current = self._current, None
        if current is not None:
            await current.http.aclose()

    async def _connect(self) -> Connection:
        raise NotImplementedError


class UrlConnector(Connector):
    """A server at a known address, which somebody else keeps alive."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(timeout=timeout)
        self._endpoint = endpoint
        self._transport = transport

    async def _connect(self) -> Connection:
        endpoint = self._endpoint
        http = self._client(endpoint)
        try:
            response = await self._ask(http, endpoint)
            challenge = response.headers.get("www-authenticate", "").lower()
            if response.status_code == 401 and endpoint.token and challenge.startswith("basic"):
                await http.aclose()
                endpoint = endpoint.with_basic()
                http = self._client(endpoint)
                response = await self._ask(http, endpoint)
            health = self._read(response, endpoint)
            check_protocol(health)
        except BaseException:
            await http.aclose()
            raise
        return Connection(endpoint, http, health)

    def _client(self, endpoint: Endpoint) -> httpx.AsyncClient:
        return endpoint.async_client(timeout=self.timeout, transport=self._transport)

    async def _ask(self, http: httpx.AsyncClient, endpoint: Endpoint) -> httpx.Response:
        import httpx

        try:
            async with asyncio.timeout(self.timeout):
                return await http.get("/global/health")
        except TimeoutError as error:
            raise ConnectionFailed(
                f"No agent server at {endpoint.url}: no answer in {self.timeout:.3g} s."
            ) from error
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionFailed(f"No agent server at {endpoint.url}: {reason}") from error

    def _read(self, response: httpx.Response, endpoint: Endpoint) -> Health:
        if response.status_code in (401, 403):
            raise AuthError(
                f"{endpoint.url} does not accept the token.", status=response.status_code
            )
        try:
            if response.is_success:
                return Health.from_json(response.json())
        except ValueError:
            pass
        raise ProtocolError(
            f"{endpoint.url} is no agent server: its health page answered {response.status_code}."
        )


class EmbeddedConnector(Connector):
    """
    The user's own engine, found or started, and kept alive by a lease while we are here.

    The lease is an open request: when this process dies, however it dies, the engine knows.
    """

    embedded = True

    def __init__(
        self,
        launcher: EngineLauncher,
        *,
        timeout: float,
        on_silence: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(timeout=timeout)
        self._launcher = launcher
        self._on_silence = on_silence
        self._silent = False
        self._lease: asyncio.Task[None] | None = None

    async def is_silent(self, connection: Connection, seconds: float) -> bool:
        endpoint = connection.endpoint
        if self._on_silence is None or not is_alive(endpoint.pid or 0):
            return False
        if await run_in_daemon_thread(functools.partial(self._launcher.answers, endpoint)):
            self._tell("")
            return False
        self._tell(str(self.no_answer(connection, seconds)))
        return True

    def no_answer(self, connection: Connection, seconds: float) -> ConnectionFailed:
        return EngineNotResponding.after(seconds, connection.endpoint.pid or 0)

    def _tell(self, text: str) -> None:
        """Once when the engine becomes silent, and once when it is not waited for any more."""
        if self._on_silence is not None and bool(text) != self._silent:
            self._silent = bool(text)
            self._on_silence(text)

    async def _ensure(self, within: float | None = None) -> Endpoint:
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        on_silent = None
        if self._on_silence is not None:

            def on_silent(text: str) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(self._tell, text)

        ensure = functools.partial(
            self._launcher.ensure, within or self.timeout, on_silent=on_silent, cancelled=cancelled
        )
        try:
            return await run_in_daemon_thread(ensure)
        finally:
            cancelled.set()
            self._tell("")  # also when there is none: it is not waited for any more

    async def renew(self, stale: Connection, within: float | None = None) -> Connection:
        async with self._attempts.next(within or self.timeout):
            if self._closed:
                raise ConnectionFailed("The client is closed.")
            if self._current is not None and self._current is not stale:
                return self._current
            endpoint = await self._ensure(within)
            is_held = self._lease is not None and not self._lease.done()
            if endpoint == stale.endpoint and is_held and not stale.http.is_closed:
                return stale
            await self._let_go()
            await stale.http.aclose()
            self._current = None
            self._current = await self._connect(within)
            return self._current

    async def aclose(self) -> None:
        await self._let_go()
        await super().aclose()

    async def _connect(self, within: float | None = None) -> Connection:
        limit = within or self.timeout
        try:
            # The launcher keeps to the limit by itself, and says more when it is reached.
            async with asyncio.timeout(None if self._on_silence else limit + _MARGIN):
                return await self._connected(limit)
        except TimeoutError:
            engine = self._launcher.state.read()
            if engine is None:
                raise EngineStartError(
                    f"The engine is still starting after {limit:.3g} s: try again later."
                ) from None
            raise EngineNotResponding.after(limit, engine.pid) from None

    async def _connected(self, limit: float) -> Connection:
        import httpx

        tries = 0
        while tries < _CONNECT_TRIES:
            endpoint = await self._ensure(limit)
            http = endpoint.async_client(timeout=self.timeout)
            connection = None
            try:
                response = await http.get("/global/health")
                health = Health.from_json(response.raise_for_status().json())
                if await self._take_lease(http):
                    connection = Connection(endpoint, http, health)
                    return connection
            except httpx.TimeoutException:
                continue  # it is looked for anew, and waited for there
            except (httpx.HTTPError, TypeError, ValueError):
                pass
            finally:
                if connection is None:
                    await http.aclose()
            tries += 1
        # It was found healthy each time and left each time before we could hold on to it.
        raise EngineStartError(f"The engine does not stay. Its log is {self._launcher.state.log}.")

    async def _take_lease(self, http: httpx.AsyncClient) -> bool:
        held = asyncio.get_running_loop().create_future()
        self._lease = asyncio.create_task(_hold_lease(http, held), name="agent-magics-lease")
        await asyncio.wait([self._lease, held], return_when=asyncio.FIRST_COMPLETED)
        return held.done()

    async def _let_go(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
            await asyncio.wait([self._lease])
            self._lease = None


async def _hold_lease(http: httpx.AsyncClient, held: asyncio.Future[None]) -> None:
    import httpx

    failures = 0
    while failures < _LEASE_TRIES:
        with contextlib.suppress(httpx.TransportError):
            timeout = httpx.Timeout(10.0, read=None)
            async with http.stream("GET", "/lease", timeout=timeout) as response:
                if not response.is_success:
                    return
                failures = 0
                if not held.done():
                    held.set_result(None)
                async for _ in response.aiter_raw():
                    pass
        if not held.done():
            return
        failures += 1
        await asyncio.sleep(0.1 * 2**failures)
