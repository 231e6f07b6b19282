"""What all handlers need of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse

from ._sessions import Session
from ._text import dumps

if TYPE_CHECKING:
    from ._engine import Engine
    from ._presence import Presence

__all__ = ["Json", "engine_of", "presence_of", "session_of"]


class Json(JSONResponse):
    """JSON that can always be encoded, whatever text came from models and files."""

    def render(self, content: Any) -> bytes:
        return dumps(content).encode()


def engine_of(request: Request) -> Engine:
    return cast("Engine", request.app.state.engine_state.engine)


def presence_of(request: Request) -> Presence:
    return cast("Presence", request.app.state.engine_state.presence)


def session_of(request: Request) -> Session:
    """The session that the path names. Raises NotFound."""
    return engine_of(request).sessions.visible(request.path_params["id"])
