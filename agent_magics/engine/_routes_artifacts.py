"""Artifacts: the list, and the bytes of each."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_magics.wire import ArtifactJSON

from ._operations import BYTES, operation
from ._requests import Json, engine_of, session_of

__all__ = ["routes"]


@operation(list[ArtifactJSON], container=True)
async def list_all(request: Request) -> Json:
    """What is published and what lies in the folder."""
    return Json(await engine_of(request).artifacts.all(session_of(request)))


@operation(BYTES, container=True)
async def read(request: Request) -> Response:
    """Exact bytes of an artifact."""
    session, key = session_of(request), request.path_params["key"]
    data, media_type = await engine_of(request).artifacts.read(session, key)
    # Never to be run by a browser, whatever the agent published.
    headers = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type=media_type, headers=headers)


routes = [
    Route("/session/{id}/artifact", list_all),
    Route("/session/{id}/artifact/{key:path}", read),
]
