"""The HTTP application: all routes, behind access control and one error handler."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import (
    _routes_artifacts,
    _routes_commands,
    _routes_events,
    _routes_files,
    _routes_info,
    _routes_revert,
    _routes_sessions,
    _routes_turns,
    _routes_unclaimed,
)
from ._access import Access
from ._engine import Engine
from ._errors import ApiError, from_exception
from ._operations import document
from ._presence import Presence
from ._requests import Json

__all__ = ["ROUTES", "AppState", "create_app"]

ROUTES = (
    *_routes_info.routes,
    *_routes_events.routes,
    *_routes_sessions.routes,
    *_routes_turns.routes,
    *_routes_commands.routes,
    *_routes_artifacts.routes,
    *_routes_files.routes,
    *_routes_revert.routes,
    *_routes_unclaimed.routes,
)


@dataclass(frozen=True)
class AppState:
    """What handlers find under `request.app.state.engine_state`."""

    engine: Engine
    presence: Presence


class _Requests:
    """
    Around every request: it holds the engine, and its exceptions are answered with JSON.

    After the headers of a stream only the connection can be cut.
    """

    def __init__(self, app: ASGIApp, presence: Presence) -> None:
        self._app = app
        self._presence = presence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            changing = scope["method"] not in ("GET", "HEAD", "OPTIONS")
            with self._presence.hold(), self._presence.change() if changing else nullcontext():
                await self._app(scope, receive, watch)
        except Exception as error:
            answer = from_exception(error, f"answering {scope['method']} {_route(scope)}")
            if not started:
                response = Json(answer.to_json(), answer.status, answer.headers)
                await response(scope, receive, send)


def _route(scope: Scope) -> str:
    """The path without what the client put into it."""
    return getattr(scope.get("route"), "path", None) or "an unknown path"


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    names = {404: "NotFoundError", 405: "MethodNotAllowedError"}
    messages = {
        404: f"There is no {request.url.path} here.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    answer = ApiError(
        messages.get(error.status_code, error.detail),
        status=error.status_code,
        name=names.get(error.status_code, "BadRequest"),
    )
    headers = dict(error.headers) if error.headers else None
    return Json(answer.to_json(), answer.status, headers)


async def _doc(request: Request) -> Response:
    return Json(document(ROUTES))


def create_app(
    engine: Engine,
    presence: Presence,
    *,
    token: str,
    private: bool = True,
    hosts: Iterable[str] = (),
) -> ASGIApp:
    """The ASGI application of an engine. See `Access` for `private` and `hosts`."""
    app = Starlette(
        routes=[*ROUTES, Route("/doc", _doc)],
        middleware=[Middleware(_Requests, presence)],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    app.state.engine_state = AppState(engine, presence)
    return Access(app, token=token, private=private, hosts=hosts)
