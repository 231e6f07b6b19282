"""Commands: what there is, and running one as a turn."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_magics.wire import CommandBody, CommandJSON, MessageJSON

from ._attachments import parse_parts
from ._body import Body, read_json
from ._errors import NotFound
from ._ids import MESSAGE_ID
from ._operations import Query, operation
from ._prompts import Prompt
from ._requests import Json, engine_of, session_of
from ._routes_turns import unattended
from ._sessions import Session
from ._templates import check_arguments, expand

__all__ = ["routes"]


@operation(list[CommandJSON], query=[Query("sessionID")], container=True)
async def list_all(request: Request) -> Json:
    """The commands; with `sessionID` those of that session's workspace too."""
    engine, sandbox = engine_of(request), None
    if session_id := request.query_params.get("sessionID"):
        sandbox = await engine.containers.started(engine.sessions.visible(session_id))
    return Json([command.to_json() for command in await engine.extensions.commands.all(sandbox)])


@operation(MessageJSON, body=CommandBody, container=True)
async def run(request: Request) -> Json:
    """Run a command; the answer is there when its turn is over."""
    session, engine = session_of(request), engine_of(request)
    prompt = await _prompt(request, session)
    message_id = await engine.prompt(session, prompt)
    answer = await engine.answer(session, message_id)
    if answer is None:
        raise NotFound(f"The session of {message_id} was deleted.", messageID=message_id)
    return Json(answer)


@operation(body=CommandBody, status=204, container=True)
async def run_async(request: Request) -> Response:
    """Run a command; the answer is there when its turn has begun."""
    session = session_of(request)
    await engine_of(request).prompt(session, await _prompt(request, session))
    return Response(status_code=204)


async def _prompt(request: Request, session: Session) -> Prompt:
    body, engine = await read_json(request), engine_of(request)
    name, arguments = body.text("command"), check_arguments(body.data.get("arguments"))
    sandbox = await engine.containers.started(session)
    command = await engine.extensions.commands.get(name, sandbox)
    text = expand(name, command.template, arguments)
    return Prompt(
        parts=parse_parts([{"type": "text", "text": text}, *body.items("parts")]),
        message_id=body.optional_text("messageID", pattern=MESSAGE_ID),
        model=_model(body) or command.model,
        agent=body.optional_text("agent") or command.agent,
        unattended=unattended(body),
        environ=body.text_map("environ"),
        command={"name": name, "arguments": arguments},
    )


def _model(body: Body) -> str | None:
    """`provider/model-id`, as a text or as an object."""
    if isinstance(body.data.get("model"), dict):
        return Body(body.data["model"], "model").model_name()
    return body.optional_text("model")


routes = [
    Route("/command", list_all),
    Route("/session/{id}/command", run, methods=["POST"]),
    Route("/session/{id}/command_async", run_async, methods=["POST"]),
]
