"""Files without a session: list them, make sessions of them."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.routing import Route

from agent_magics.wire import RecoverBody, SessionJSON, UnclaimedJSON

from ._body import read_json
from ._operations import operation
from ._requests import Json, engine_of

__all__ = ["routes"]


@operation(UnclaimedJSON)
async def list_all(request: Request) -> Json:
    """Workspaces that belong to no session, and stores that were kept beside the engine's own."""
    unclaimed = engine_of(request).unclaimed
    return Json(await asyncio.to_thread(unclaimed.report, unclaimed.known()))


@operation(SessionJSON, body=RecoverBody, container=True)
async def recover(request: Request) -> Json:
    """Make a session of such a workspace, or repair one whose record is damaged."""
    body = await read_json(request)
    session = await engine_of(request).unclaimed.recover(body.text("name"))
    return Json(session.to_json())


routes = [
    Route("/unclaimed", list_all),
    Route("/unclaimed/recover", recover, methods=["POST"]),
]
