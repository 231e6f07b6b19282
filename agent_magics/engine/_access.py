"""
Who may talk to the engine: a token, and no foreign web page.

Pure ASGI: it never touches the body, so streams and cancellation pass through.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from ._errors import ApiError, Forbidden, Unauthorized
from ._requests import Json

__all__ = ["KNOWN", "Access"]

KNOWN = "agent_magics.known"
"""In the scope of a request that showed the token."""
_OPEN_PATHS = frozenset({"/global/health"})
_LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Access:
    """
    `private` says that only this machine can connect (a Unix socket or a loopback address).

    Then a Host that is a name with a dot can only come from a web page that was made to resolve
    to this machine. On other addresses, `hosts` and literal addresses are accepted.
    """

    def __init__(
        self, app: ASGIApp, *, token: str, private: bool = True, hosts: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._private = private
        self._hosts = _LOCAL_HOSTS | {h.lower() for h in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        error = self._refusal(scope["path"], headers)
        if error is not None:
            response = Json(error.to_json(), error.status, error.headers)
            await response(scope, receive, send)
            return
        if self._has_token(headers.get(b"authorization", "")):
            scope[KNOWN] = True
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: dict[bytes, str]) -> ApiError | None:
        host = headers.get(b"host", "")
        if not self._is_ours(host):
            return Forbidden("The Host header names another machine.")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Forbidden("Requests from web pages are not accepted.")
        if path in _OPEN_PATHS or self._has_token(headers.get(b"authorization", "")):
            return None
        return Unauthorized(
            "The request needs the engine's token: Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": 'Bearer realm="agent-magics"'},
        )

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if not name or name in self._hosts:
            return bool(name)
        if self._private:
            return "." not in name and ":" not in name
        return _is_address(name)

    def _has_token(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        value = value.strip()
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode("latin-1").partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(value.encode("latin-1", "replace"), self._token)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
