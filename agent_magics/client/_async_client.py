"""The client's core: requests, streams and sessions over one server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agent_magics.wire import MODEL_ENVIRON, SessionInfo

from ._async_session import AsyncSessionHandle
from ._connection import Connection, Connector, EmbeddedConnector, UrlConnector
from ._endpoint import Endpoint, Health
from ._errors import (
    ConnectionFailed,
    NotFound,
    ProtocolError,
    SessionNotFound,
    error_from_response,
)
from ._inputs import model_reference
from ._launch import EngineLauncher
from ._protocol import as_mapping, json_body, parse, session_path, status_name
from ._python import current_python
from ._sse import SSE_HEADERS
from ._state_dir import StateDir
from ._stream import StreamPolicy

if TYPE_CHECKING:
    import httpx

    from ._python import PythonChoice

__all__ = ["AsyncClient"]

_SAFE_TO_REPEAT = ("GET", "PUT", "DELETE")


class AsyncClient:
    """
    A client of an agent server. Use one per event loop; `async with` or `aclose()` ends it.

    `url` is a server's address and `token` its token; without a `url` the user's own embedded
    engine is found or started at first use, in `state_dir` if given. `timeout` is in seconds, for
    connecting and for each answer. `transport` replaces the network, for tests.

    Keys of model providers that stand in this process's environment go along with each prompt to
    the embedded engine, and to a `url` only with `forward_credentials=True`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        state_dir: Path | str | None = None,
        timeout: float = 30.0,
        forward_credentials: bool | None = None,
        launcher: EngineLauncher | None = None,
        policy: StreamPolicy | None = None,
    ) -> None:
        self.policy = policy or StreamPolicy()
        self.timeout = timeout
        self._connector = _connector(url, token, transport, state_dir, timeout, launcher)
        if forward_credentials is None:
            forward_credentials = self._connector.embedded
        self._forward_credentials = forward_credentials

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Turns go on in the server. Harmless when repeated."""
        await self._connector.aclose()

    # -- what users call -------------------------------------------------------------------------

    async def health(self) -> Health:
        """Raises `ConnectionFailed` when there is no server and none can be started."""
        data = await self.get_json("/global/health")
        return parse(Health.from_json, data)

    async def providers(self) -> Mapping[str, Any]:
        """Providers and models as the server lists them, and its default."""
        return as_mapping(await self.get_json("/config/providers"))

    async def create_session(
        self,
        title: str | None = None,
        *,
        model: str | None = None,
        sandbox: str | None = None,
        permission: Sequence[Mapping[str, str]] | None = None,
        python: PythonChoice = "current",
    ) -> AsyncSessionHandle:
        """
        A new session with its own container.

        `model` is `provider/model-id`, `sandbox` a provider of containers ("auto" by default),
        `permission` rules `{permission, pattern, action}`, later ones win. `python` is the
        interpreter that commands in the container shall find: this one for an embedded engine,
        `None` for the server's choice, or `{executable, prefixes}`.

        Raises `SandboxUnavailable`, `ModelNotFound`, `BadRequest`.
        """
        connection = await self.connection()
        body: dict[str, Any] = {"title": title, "sandbox": sandbox}
        if permission is not None:
            body["permission"] = [dict(rule) for rule in permission]
        if model is not None:
            body["model"] = model_reference(model, key="id")
        if python == "current":
            body["python"] = current_python() if self._connector.embedded else None
        elif python is not None:
            body["python"] = dict(python)
        if not connection.is_numbered:
            body = {name: body.get(name) for name in ("title", "permission")}
        wanted = {name: value for name, value in body.items() if value is not None}
        data = as_mapping(await self.post_json("/session", wanted))
        return AsyncSessionHandle(self, parse(SessionInfo.from_json, data).id)

    def session(self, id: str) -> AsyncSessionHandle:
        """A handle on an existing session. Asks nobody: an unknown id shows at the first call."""
        return AsyncSessionHandle(self, id)

    async def list_sessions(self) -> list[SessionInfo]:
        sessions, statuses = await asyncio.gather(
            self.get_json("/session"), self.get_json("/session/status")
        )
        return parse(
            lambda: [SessionInfo.from_json(s, status_name(statuses, s["id"])) for s in sessions]
        )

    # -- what sessions build on ------------------------------------------------------------------

    async def connection(self) -> Connection:
        return await self._connector.get()

    async def require_engine(self, what: str) -> None:
        """Raise `ProtocolError` for a server that lacks what only our engine has."""
        if not (await self.connection()).is_numbered:
            raise ProtocolError(f"This server is no agent-magics engine; it has no {what}.")

    def credentials(self) -> dict[str, str]:
        """The variables that go along with a prompt."""
        if not self._forward_credentials:
            return {}
        return {name: os.environ[name] for name in sorted(MODEL_ENVIRON) if os.environ.get(name)}

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        missing: type[NotFound] = NotFound,
    ) -> Any:
        return json_body(await self.request("GET", path, params=params, missing=missing))

    async def post_json(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        method: str = "POST",
        missing: type[NotFound] = NotFound,
        timeout: float | None = None,
    ) -> Any:
        response = await self.request(method, path, json=body, missing=missing, timeout=timeout)
        return json_body(response) if response.content else None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        missing: type[NotFound] = NotFound,
        timeout: float | None = None,
    ) -> httpx.Response:
        """
        One request, its whole answer. `timeout` in seconds instead of the client's.

        A request that cannot have been carried out is repeated when an embedded engine was gone
        and came back. Raises `ApiError`, or `ConnectionFailed` when it may have been carried out.
        """

        async def send(http: httpx.AsyncClient) -> httpx.Response:
            request = http.build_request(
                method,
                path,
                params=params,
                json=json,
                content=content,
                timeout=timeout or self.timeout,
            )
            return await http.send(request)

        return await self._checked(send, method, missing)

    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        missing: type[NotFound] = NotFound,
    ) -> httpx.Response:
        """
        Like `request()`, with the answer still to be read and closed.

        Reading it raises `httpx.ReadTimeout` after `policy.heartbeat` seconds of silence.
        """
        import httpx

        timeout = httpx.Timeout(self.timeout, read=self.policy.heartbeat)

        async def send(http: httpx.AsyncClient) -> httpx.Response:
            request = http.build_request(
                method,
                path,
                params=params,
                json=json,
                headers={**SSE_HEADERS, **(headers or {})},
                timeout=timeout,
            )
            return await http.send(request, stream=True)

        return await self._checked(send, method, missing)

    async def open_events(
        self, session_id: str, last_event_id: str | None = None, again: bool = False
    ) -> httpx.Response:
        """The session's event stream after `last_event_id`, or from now on."""
        connection = await self.connection()
        if again:
            connection = await self._connector.renew(connection)
        path = session_path(session_id, "event") if connection.is_numbered else "/event"
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        return await self.stream("GET", path, headers=headers, missing=SessionNotFound)

    async def _checked(
        self,
        send: Callable[[httpx.AsyncClient], Any],
        method: str,
        missing: type[NotFound],
    ) -> httpx.Response:
        connection = await self.connection()
        for attempt in range(2):
            response, failure = await _attempt(send, connection)
            if response is not None and response.is_success:
                return response
            if attempt == 0 and _is_worth_repeating(response, failure, method):
                renewed = await self._connector.renew(connection)
                if renewed is not connection or (failure and self._connector.embedded):
                    connection = renewed
                    continue
            break
        if response is not None:
            raise error_from_response(response, missing=missing)
        reason = str(failure) or type(failure).__name__
        raise ConnectionFailed(f"The server does not answer: {reason}") from failure


async def _attempt(
    send: Callable[[httpx.AsyncClient], Any], connection: Connection
) -> tuple[httpx.Response | None, httpx.TransportError | None]:
    import httpx

    try:
        response: httpx.Response = await send(connection.http)
        if not response.is_success and not response.is_closed:
            try:
                await response.aread()
            finally:
                await response.aclose()
    except httpx.TransportError as error:
        return None, error
    except RuntimeError as error:
        # The connection was replaced by another task between get() and send().
        if not connection.http.is_closed:
            raise
        return None, httpx.ConnectError(str(error))
    return response, None


def _is_worth_repeating(
    response: httpx.Response | None, failure: Exception | None, method: str
) -> bool:
    """Whether an embedded engine may have been replaced and did not carry out the request."""
    import httpx

    if response is not None:
        return response.status_code == 401
    return isinstance(failure, httpx.ConnectError) or method in _SAFE_TO_REPEAT


def _connector(
    url: str | None,
    token: str | None,
    transport: httpx.AsyncBaseTransport | None,
    state_dir: Path | str | None,
    timeout: float,
    launcher: EngineLauncher | None,
) -> Connector:
    if url is not None or transport is not None:
        endpoint = Endpoint(url=(url or "http://agent").rstrip("/"), token=token)
        return UrlConnector(endpoint, timeout=timeout, transport=transport)
    if launcher is None:
        directory = StateDir(Path(state_dir).absolute()) if state_dir else StateDir.default()
        launcher = EngineLauncher(directory)
    return EmbeddedConnector(launcher, timeout=timeout)
