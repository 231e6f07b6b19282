"""Requests and streams to one server: what client and sessions are made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
from ._protocol import json_body, session_path, why_lost
from ._sse import SSE_HEADERS
from ._stream import StreamPolicy

if TYPE_CHECKING:
    import httpx

__all__ = ["Api"]

_SAFE_TO_REPEAT = ("GET", "PUT", "DELETE")

_ABORT_TIMEOUT = 60.0
"""An abort is answered when the turn is over: its commands are ended first."""

_LOOK = 5.0
"""Seconds between two looks at a server that does not answer."""

_LEAST = 1.0
"""Seconds that a request gets after its connection took all the time."""


class Api:
    """
    The server behind `connector`. `timeout` is in seconds, for a request in all: connecting,
    starting an engine, its answer. While an answer or a file is on its way, it is the time in
    which nothing more of it comes.

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
        limit = timeout or self._timeout

        async def send(http: httpx.AsyncClient) -> httpx.Response:
            request = _built(
                http,
                method,
                path,
                params=params,
                json=json,
                content=content() if callable(content) else content,
                headers=headers,
                timeout=None if content is None else limit,
            )
            return await http.send(request, stream=True)

        return await self._checked(send, method, missing, limit, whole=True, sized=content is None)

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

        timeout = httpx.Timeout(None, read=self.policy.heartbeat)

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

        return await self._checked(send, method, missing, self._timeout)

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
        send: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
        method: str,
        missing: type[NotFound],
        limit: float,
        *,
        whole: bool = False,
        sized: bool = True,
    ) -> httpx.Response:
        """
        The answer to what `send` sends, `whole` or still to be read.

        What is not `sized` may take as long as its pieces keep going.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + limit
        connection = await self.connection()
        for attempt in range(2):
            sending = _Sending(send, connection, whole)
            left = max(_LEAST, end - clock())
            response, failure = await self._answered(sending, left if sized else None)
            if response is not None and response.is_success:
                return response
            if attempt == 0 and _is_worth_repeating(response, failure, method):
                renewed = await self._connector.renew(connection, max(_LEAST, end - clock()))
                if renewed is not connection or (failure and self._connector.embedded):
                    connection = renewed
                    continue
            break
        if response is not None:
            raise error_from_response(response, missing=missing)
        reason = why_lost(failure) if failure is not None else "no answer"
        raise ConnectionFailed(f"The server does not answer: {reason}.") from failure

    async def _answered(
        self, sending: _Sending, limit: float | None
    ) -> tuple[httpx.Response | None, httpx.TransportError | None]:
        """What becomes of a request, in `limit` seconds without any progress, unless we wait on."""
        if limit is None:
            return await sending.result()
        clock = asyncio.get_running_loop().time
        task = asyncio.ensure_future(sending.result())
        began = since = clock()
        seen, look = 0, min(limit, _LOOK)
        try:
            while not (await asyncio.wait({task}, timeout=look))[0]:
                if sending.received != seen:
                    seen, since = sending.received, clock()
                elif await self._connector.is_silent(sending.connection, clock() - began):
                    since = clock()
                elif clock() - since >= limit:
                    raise self._connector.no_answer(sending.connection, clock() - since)
                look = min(_LOOK, max(_LEAST / 10, since + limit - clock()))
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


class _Sending:
    """One try of a request."""

    def __init__(
        self,
        send: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
        connection: Connection,
        whole: bool,
    ) -> None:
        self.connection = connection
        self._send = send
        self._whole = whole
        self._response: httpx.Response | None = None

    @property
    def received(self) -> int:
        """Grows while the answer comes."""
        return 0 if self._response is None else 1 + self._response.num_bytes_downloaded

    async def result(self) -> tuple[httpx.Response | None, httpx.TransportError | None]:
        """The answer, or why there is none."""
        import httpx

        try:
            response = self._response = await self._send(self.connection.http)
            if not response.is_closed and (self._whole or not response.is_success):
                try:
                    await response.aread()
                finally:
                    await response.aclose()
        except httpx.TransportError as error:
            return None, error
        except RuntimeError as error:
            # The connection was replaced by another task between get() and send().
            if not self.connection.http.is_closed:
                raise
            return None, httpx.ConnectError(str(error))
        return response, None


def _built(http: httpx.AsyncClient, method: str, path: str, **what: Any) -> httpx.Request:
    try:
        if params := what.pop("params", None):  # names of files that are no UTF-8 go as bytes
            path += "?" + urlencode(params, quote_via=quote, errors="surrogateescape")
        return http.build_request(method, path, **what)
    except (TypeError, ValueError) as error:  # no JSON, or no text: half a surrogate pair
        raise BadRequest(f"This can't be sent: {error}.") from error


def _is_worth_repeating(
    response: httpx.Response | None, failure: Exception | None, method: str
) -> bool:
    """Whether an embedded engine may have been replaced and did not carry out the request."""
    import httpx

    if response is not None:
        return response.status_code == 401
    return isinstance(failure, httpx.ConnectError) or method in _SAFE_TO_REPEAT
