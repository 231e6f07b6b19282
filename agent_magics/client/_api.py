"""Requests and streams to one server: what client and sessions are made of."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from agent_magics.wire import MODEL_ENVIRON

from ._connection import Connection, Connector
from ._errors import (
    BadRequest,
    ConnectionFailed,
    NotFound,
    ProtocolError,
    SessionNotFound,
    error_from_response,
)
from ._protocol import json_body, session_path
from ._sse import SSE_HEADERS
from ._stream import StreamPolicy

if TYPE_CHECKING:
    import httpx

__all__ = ["Api"]

_SAFE_TO_REPEAT = ("GET", "PUT", "DELETE")

_ABORT_TIMEOUT = 60.0
"""An abort is answered when the turn is over: its commands are ended first."""


class Api:
    """
    The server behind `connector`. `timeout` is in seconds, for connecting and for each answer.

    With `forward_credentials` the keys of model providers go along with each prompt.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        timeout: float,
        policy: StreamPolicy,
        forward_credentials: bool,
    ) -> None:
        self.policy = policy
        self._connector = connector
        self._timeout = timeout
        self._forward_credentials = forward_credentials

    @property
    def is_embedded(self) -> bool:
        """Whether the server is this user's own engine, on this machine."""
        return self._connector.embedded

    async def aclose(self) -> None:
        await self._connector.aclose()

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
        content: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        missing: type[NotFound] = NotFound,
        timeout: float | None = None,
    ) -> httpx.Response:
        """
        One request, its whole answer. `timeout` in seconds instead of the client's; `content` may
        be what makes a stream of it, for each try anew.

        A request that cannot have been carried out is repeated when an embedded engine was gone
        and came back. Raises `ApiError`, or `ConnectionFailed` when it may have been carried out.
        """

        async def send(http: httpx.AsyncClient) -> httpx.Response:
            request = _built(
                http,
                method,
                path,
                params=params,
                json=json,
                content=content() if callable(content) else content,
                headers=headers,
                timeout=timeout or self._timeout,
            )
            return await http.send(request)

        return await self._checked(send, method, missing)

    async def open_stream(
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

        timeout = httpx.Timeout(self._timeout, read=self.policy.heartbeat)

        async def send(http: httpx.AsyncClient) -> httpx.Response:
            request = _built(
                http,
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
        return await self.open_stream("GET", path, headers=headers, missing=SessionNotFound)

    async def abort(
        self,
        session_id: str,
        body: Mapping[str, Any] | None = None,
        *,
        missing: type[NotFound] = SessionNotFound,
    ) -> bool:
        """
        Stop the session's turn; false when there is none. Returns when it is over.

        A `messageID` in `body` means the turn that this prompt started and no other.
        """
        answer = await self.post_json(
            session_path(session_id, "abort"), body or {}, missing=missing, timeout=_ABORT_TIMEOUT
        )
        return bool(answer)

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


def _built(http: httpx.AsyncClient, method: str, path: str, **what: Any) -> httpx.Request:
    try:
        if params := what.pop("params", None):  # names of files that are no UTF-8 go as bytes
            path += "?" + urlencode(params, quote_via=quote, errors="surrogateescape")
        return http.build_request(method, path, **what)
    except (TypeError, ValueError) as error:  # no JSON, or no text: half a surrogate pair
        raise BadRequest(f"This can't be sent: {error}.") from error


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
