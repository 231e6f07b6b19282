"""Sessions: create, list, read, change, delete; todos, metrics, rules."""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from agent_magics.sandbox import PROVIDERS, HostError, checked_pattern
from agent_magics.wire import (
    MetricsJSON,
    NewSessionBody,
    PermissionRuleJSON,
    SessionChangeBody,
    SessionJSON,
    TodoJSON,
)

from ._agent_config import agent_settings
from ._body import Body, query_flag, query_int, read_json
from ._container_limits import limits_of_body
from ._operations import NUMBER, Query, operation
from ._prompts import NewSession
from ._requests import Json, engine_of, session_of
from .models import ProviderAuth

__all__ = ["routes"]

_LATEST_TIME = 1e15


@operation(SessionJSON, body=NewSessionBody, optional_body=True, container=True)
async def create(request: Request) -> Json:
    """A new session with its own container."""
    body, engine = await read_json(request, optional=True), engine_of(request)
    wanted = NewSession(
        title=body.optional_text("title"),
        parent_id=body.optional_text("parentID"),
        model=_model(body),
        sandbox=body.choice("sandbox", *PROVIDERS) if body.has("sandbox") else "auto",
        network=_network(body),
        python=_python(body),
        rules=[_rule(Body(r, f"permission[{i}]")) for i, r in enumerate(body.items("permission"))],
        metadata=metadata.data if (metadata := body.object("metadata")) else None,
        agent=body.optional_text("agent"),
        agent_config=agent_settings(body),
        bounds=limits_of_body(body, engine.containers.limits),
    )
    of_agent = (wanted.agent_config or {}).get("model")
    for model in (wanted.model_name, of_agent):
        if model is not None:
            with contextlib.suppress(ProviderAuth):  # the key may come with the prompt
                engine.registry.resolve(model)
    return Json((await engine.create_session(wanted)).to_json())


def _model(body: Body) -> dict[str, str] | None:
    model = body.object("model")
    if model is None:
        return None
    return {"providerID": model.text("providerID"), "id": model.text("id")}


def _network(body: Body) -> bool | tuple[str, ...] | None:
    """True, false, or a list of hosts."""
    if not isinstance(body.data.get("network"), list):
        return body.flag("network") if body.has("network") else None
    try:
        return tuple(checked_pattern(text) for text in body.texts("network"))
    except HostError as error:
        raise body.error("network", str(error)) from None


def _python(body: Body) -> dict[str, Any] | None:
    python = body.object("python")
    if python is None:
        return None
    executable, prefixes = python.text("executable"), python.texts("prefixes")
    if not all(path.startswith("/") and "\0" not in path for path in (executable, *prefixes)):
        raise body.error("python", "paths must be absolute")
    return {"executable": executable, "prefixes": prefixes}


def _rule(body: Body) -> dict[str, str]:
    return {
        "permission": body.text("permission"),
        "pattern": body.text("pattern"),
        "action": body.choice("action", "allow", "ask", "deny"),
    }


@operation(list[SessionJSON], query=[Query("limit", NUMBER), Query("search"), Query("roots", bool)])
async def list_all(request: Request) -> Json:
    """Sessions, the latest first; without sub-agents of turns that are reverted."""
    limit = query_int(request.query_params, "limit")
    search = request.query_params.get("search", "").lower()
    roots = query_flag(request.query_params, "roots")
    sessions = engine_of(request).sessions
    found = [
        s
        for s in sessions
        if search in s.title.lower() and not (roots and s.parent_id) and not sessions.is_hidden(s)
    ]
    found.sort(key=lambda s: s.updated, reverse=True)
    return Json([s.to_json() for s in found[:limit]])


@operation(SessionJSON)
async def get(request: Request) -> Json:
    """A session."""
    return Json(session_of(request).to_json())


@operation(SessionJSON, body=SessionChangeBody)
async def update(request: Request) -> Json:
    """Change the title, archive or bring back."""
    session, body = session_of(request), await read_json(request)
    time = body.object("time")
    archived = None if time is None else time.number("archived", least=0, most=_LATEST_TIME)
    await engine_of(request).update_session(
        session,
        title=body.optional_text("title"),
        archived=None if archived is None else int(archived),
    )
    return Json(session.to_json())


@operation(bool)
async def delete(request: Request) -> Json:
    """End a session: its messages, container and files are gone."""
    await engine_of(request).delete_session(session_of(request))
    return Json(True)


@operation(list[SessionJSON])
async def children(request: Request) -> Json:
    """Sessions that this one started; without those of turns that are reverted."""
    found = engine_of(request).sessions.children(session_of(request).id)
    return Json([s.to_json() for s in found if not s.hidden])


@operation(dict[str, dict[str, Any]])
async def status(request: Request) -> Json:
    """Status of the sessions that are not idle."""
    return Json(engine_of(request).status())


@operation(list[TodoJSON])
async def todo(request: Request) -> Json:
    """The agent's todo list."""
    return Json(session_of(request).todos)


@operation(MetricsJSON)
async def metrics(request: Request) -> Json:
    """
    Those of the session itself; its sub-agents' stand below `children`.

    What was spent stays spent: a revert changes no counter but `messages` and `context`, and
    sub-agents whose turns are reverted go on counting. Those that were deleted stand in a last
    entry together, whose `sessionID` is empty.
    """
    session = session_of(request)
    data = session.metrics()
    data["children"] = [
        {**child.metrics(), "title": child.title, "agent": child.agent}
        for child in engine_of(request).sessions.descendants(session.id)
    ]
    if (gone := session.metrics_of_gone()) is not None:
        data["children"].append({**gone, "title": "Deleted sub-agents", "agent": ""})
    return Json(data)


@operation(list[PermissionRuleJSON])
async def rules(request: Request) -> Json:
    """The standing answers of the session and its sub-agents."""
    return Json(engine_of(request).permissions.standing(session_of(request)))


@operation(list[PermissionRuleJSON], query=[Query("id"), Query("permission"), Query("pattern")])
async def forget_rules(request: Request) -> Json:
    """The one with this `id`, or those with this `permission` and `pattern`, or all of them."""
    session, query, engine = session_of(request), request.query_params, engine_of(request)
    if "id" in query:
        engine.permissions.withdraw(session, query["id"])
    else:
        engine.permissions.forget_rules(session, query.get("permission"), query.get("pattern"))
    await engine.store.flushed()
    return Json(engine.permissions.standing(session))


routes = [
    Route("/session", create, methods=["POST"]),
    Route("/session", list_all),
    Route("/session/status", status),
    Route("/session/{id}", get),
    Route("/session/{id}", update, methods=["PATCH"]),
    Route("/session/{id}", delete, methods=["DELETE"]),
    Route("/session/{id}/children", children),
    Route("/session/{id}/todo", todo),
    Route("/session/{id}/metrics", metrics),
    Route("/session/{id}/rule", rules),
    Route("/session/{id}/rule", forget_rules, methods=["DELETE"]),
]
