"""What all handlers need of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

from starlette.requests import Request
from starlette.responses import JSONResponse

from ._sessions import Session
from ._text import dumps

if TYPE_CHECKING:
    from ._engine import Engine
    from ._presence import Presence

__all__ = ["Json", "engine_of", "presence_of", "session_of", "while_there"]

T = TypeVar("T")


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


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """
    What `work` returns or raises; when the caller goes away first, it is cancelled: None.

    The body of the request must have been read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_departure(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait({task, gone})


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
