"""Prompts, messages, summaries, abort and permission replies."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_magics.wire import (
    AbortBody,
    ErrorJSON,
    LastTurnJSON,
    MessageJSON,
    PermissionAnswerBody,
    PermissionReply,
    PermissionReplyBody,
    PermissionRequestJSON,
    PromptBody,
    SummarizeBody,
    Unattended,
)

from ._attachments import parse_parts
from ._body import Body, query_int, read_json
from ._errors import NotFound
from ._ids import MESSAGE_ID
from ._operations import NUMBER, Query, operation
from ._prompts import Prompt
from ._requests import Json, engine_of, session_of

__all__ = ["routes", "unattended"]

_REPLIES = ("once", "always", "reject")


def _prompt(body: Body) -> Prompt:
    model = body.object("model")
    return Prompt(
        parts=parse_parts(body.items("parts")),
        message_id=body.optional_text("messageID", pattern=MESSAGE_ID),
        model=None if model is None else model.model_name(),
        agent=body.optional_text("agent"),
        unattended=unattended(body),
        environ=body.text_map("environ"),
    )


def unattended(body: Body) -> Unattended:
    """What becomes of permission requests of this turn."""
    if not body.has("onPermission"):
        return "ask"
    return cast(Unattended, body.choice("onPermission", "ask", "once", "reject"))


@operation(body=PromptBody, status=204)
async def prompt_async(request: Request) -> Response:
    """Send a prompt; the turn is followed by events."""
    session = session_of(request)
    prompt = _prompt(await read_json(request))
    await engine_of(request).prompt(session, prompt)
    return Response(status_code=204)


@operation(MessageJSON, body=PromptBody)
async def prompt_and_wait(request: Request) -> Json:
    """Send a prompt and wait for the answer."""
    session, engine = session_of(request), engine_of(request)
    prompt = _prompt(await read_json(request))
    message_id = await engine.prompt(session, prompt)
    answer = await engine.answer(session, message_id)
    if answer is None:
        raise NotFound(f"The session of {message_id} was deleted.", messageID=message_id)
    return Json(answer)


@operation(LastTurnJSON | None)
async def last_turn(request: Request) -> Json:
    """The turn that runs, else the last one; null before the first. For readers who come late."""
    session, engine = session_of(request), engine_of(request)
    found = await engine.log.last_turn(session.id)
    if found is None:
        return Json(None)
    message_id, after = found
    running = session.turn is not None and session.turn.message_id == message_id
    return Json({"messageID": message_id, "after": after, "running": running})


@operation(list[MessageJSON], query=[Query("limit", NUMBER)])
async def list_messages(request: Request) -> Json:
    """Messages in order; with `limit` the last ones."""
    session = session_of(request)
    limit = query_int(request.query_params, "limit")
    return Json(await engine_of(request).messages.history(session.id, limit))


@operation(MessageJSON)
async def get_message(request: Request) -> Json:
    """One message."""
    session = session_of(request)
    message_id = request.path_params["message_id"]
    return Json(await engine_of(request).messages.get(session.id, message_id))


@operation(bool, body=SummarizeBody, optional_body=True, also={502: ErrorJSON})
async def summarize(request: Request) -> Json:
    """
    Replace the conversation, for the model, by a summary that the model writes.

    The answer comes when it is written; false when it was aborted. 502: the model failed.
    """
    session = session_of(request)
    body = await read_json(request, optional=True)
    model = None
    if body.has("providerID") or body.has("modelID"):
        model = body.model_name()
    done = await engine_of(request).summarize(
        session, model=model, auto=body.flag("auto"), environ=body.text_map("environ")
    )
    return Json(done)


@operation(bool, body=AbortBody, optional_body=True)
async def abort(request: Request) -> Json:
    """True once the turn is over, false when none, or not that of `messageID`, was running."""
    session, body = session_of(request), await read_json(request, optional=True)
    return Json(await engine_of(request).abort(session, body.optional_text("messageID")))


@operation(list[PermissionRequestJSON], query=[Query("sessionID")])
async def list_permissions(request: Request) -> Json:
    """Permission requests that wait for an answer."""
    session_id = request.query_params.get("sessionID")
    return Json(engine_of(request).permissions.pending(session_id))


@operation(bool, body=PermissionReplyBody)
async def reply(request: Request) -> Json:
    """Answer a permission request."""
    body = await read_json(request)
    return await _reply(request, body.choice("reply", *_REPLIES), body.optional_text("message"))


@operation(bool, body=PermissionAnswerBody)
async def reply_in_session(request: Request) -> Json:
    """The older way to reply."""
    session, body = session_of(request), await read_json(request)
    return await _reply(request, body.choice("response", *_REPLIES), None, session.id)


async def _reply(
    request: Request, reply: str, message: str | None, session_id: str | None = None
) -> Json:
    engine = engine_of(request)
    engine.permissions.reply(
        request.path_params["request_id"],
        cast(PermissionReply, reply),
        message,
        session_id=session_id,
    )
    await engine.store.flushed()
    return Json(True)


routes = [
    Route("/session/{id}/message", prompt_and_wait, methods=["POST"]),
    Route("/session/{id}/message", list_messages),
    Route("/session/{id}/message/{message_id}", get_message),
    Route("/session/{id}/prompt_async", prompt_async, methods=["POST"]),
    Route("/session/{id}/turn", last_turn),
    Route("/session/{id}/summarize", summarize, methods=["POST"]),
    Route("/session/{id}/abort", abort, methods=["POST"]),
    Route("/session/{id}/permissions/{request_id}", reply_in_session, methods=["POST"]),
    Route("/permission", list_permissions),
    Route("/permission/{request_id}/reply", reply, methods=["POST"]),
]
