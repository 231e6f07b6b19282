"""Paths of the HTTP API, and reading its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ._errors import ProtocolError

if TYPE_CHECKING:
    import httpx

__all__ = [
    "api_path",
    "as_mapping",
    "json_body",
    "parse",
    "session_path",
    "status_name",
    "why_lost",
]

T = TypeVar("T")


def api_path(*segments: str) -> str:
    """The path of these segments; nothing in one of them can lead elsewhere."""
    quoted = (quote(segment, safe="") for segment in segments)
    return "".join("/" + (q.replace(".", "%2E") if q in (".", "..") else q) for q in quoted)


def session_path(session_id: str, *rest: str) -> str:
    return api_path("session", session_id, *rest)


def status_name(statuses: Mapping[str, Any], session_id: str) -> str:
    """`SessionInfo.status` from the answer of `/session/status`, which lists what is not idle."""
    name = str((statuses.get(session_id) or {}).get("type") or "idle")
    return "busy" if name == "retry" else name


def parse(build: Callable[..., T], *data: Any) -> T:
    """`build(*data)`, with `ProtocolError` for data that breaks the protocol."""
    try:
        return build(*data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"an answer that makes no sense: {error!r}") from error


def json_body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        kind = response.headers.get("content-type", "no type")
        raise ProtocolError(
            f"{response.request.url.path} answered {kind} instead of JSON; "
            "is this server an agent-magics engine?"
        ) from error


def why_lost(error: Exception) -> str:
    """Why a connection that had been made brought no whole answer, without a library's words."""
    import httpx

    if isinstance(error, httpx.ConnectError):
        return str(error) or "no connection can be made"
    if isinstance(error, httpx.TimeoutException):
        return "nothing came in time"
    if isinstance(error, httpx.RemoteProtocolError):
        return "it closed the connection"
    return "the connection broke"


def as_mapping(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ProtocolError("an answer that is no JSON object")
    return data
