"""Taking back, bringing back, copying, and what turns changed."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_magics.wire import FileDiffJSON, ForkBody, RevertBody, RevertJSON, SessionJSON

from ._body import query_flag, read_json
from ._operations import Query, operation
from ._requests import Json, engine_of, session_of

__all__ = ["routes"]


def _exact(value: Any) -> Response:
    """JSON in ASCII: names of files that are no text survive it."""
    return Response(json.dumps(value), media_type="application/json")


@operation(
    SessionJSON | RevertJSON, body=RevertBody, query=[Query("preview", bool)], container=True
)
async def revert(request: Request) -> Response:
    """
    Take back a turn and all after it, files included, until the next prompt for good.

    The answer is the session, with `reverted` for what was done; with `preview` only what would
    be. Files that somebody else changed since are refused with 409 and listed.
    """
    session, engine = session_of(request), engine_of(request)
    body = await read_json(request)
    message_id = body.text("messageID")
    if body.has("partID"):
        raise body.error("partID", "only whole messages can be reverted")
    if query_flag(request.query_params, "preview"):
        return _exact(await engine.reverts.preview(session, message_id))
    done = await engine.reverts.revert(session, message_id)
    return _exact({**session.to_json(), "reverted": done})


@operation(SessionJSON, container=True)
async def unrevert(request: Request) -> Json:
    """Bring back what was reverted; nothing happens when nothing was."""
    session = session_of(request)
    await engine_of(request).reverts.unrevert(session)
    return Json(session.to_json())


@operation(SessionJSON, body=ForkBody, optional_body=True, container=True)
async def fork(request: Request) -> Response:
    """Copy the session, files included; up to a message when one is named.

    `skipped` are files that could not be copied, and why.
    """
    session = session_of(request)
    message_id = (await read_json(request, optional=True)).optional_text("messageID")
    copy, skipped = await engine_of(request).forks.fork(session, message_id)
    return _exact({**copy.to_json(), "skipped": skipped})


@operation(list[FileDiffJSON], query=[Query("messageID")])
async def diff(request: Request) -> Response:
    """What the turn of this message changed, or all turns together."""
    session = session_of(request)
    message_id = request.query_params.get("messageID") or None
    return _exact(await engine_of(request).reverts.diff(session, message_id))


routes = [
    Route("/session/{id}/revert", revert, methods=["POST"]),
    Route("/session/{id}/unrevert", unrevert, methods=["POST"]),
    Route("/session/{id}/fork", fork, methods=["POST"]),
    Route("/session/{id}/diff", diff),
]
