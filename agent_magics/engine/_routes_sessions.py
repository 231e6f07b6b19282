"""Sessions: create, list, read, change, delete; todos, metrics, rules."""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from ._agent_config import agent_settings
from ._body import Body, query_flag, query_int, read_json
from ._engine import NewSession
from ._requests import Json, engine_of, session_of
from .models import ProviderAuth

__all__ = ["routes"]

_LATEST_TIME = 1e15
_PROVIDERS = ("auto", "bubblewrap", "local")


async def create(request: Request) -> Json:
    body = await read_json(request, optional=True)
    wanted = NewSession(
        title=body.optional_text("title"),
        parent_id=body.optional_text("parentID"),
        model=_model(body),
        sandbox=body.choice("sandbox", *_PROVIDERS) if body.has("sandbox") else "auto",
        python=_python(body),
        rules=[_rule(Body(r, f"permission[{i}]")) for i, r in enumerate(body.items("permission"))],
        metadata=metadata.data if (metadata := body.object("metadata")) else None,
        agent=body.optional_text("agent"),
        agent_config=agent_settings(body),
    )
    engine = engine_of(request)
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


async def list_all(request: Request) -> Json:
    limit = query_int(request.query_params, "limit")
    search = request.query_params.get("search", "").lower()
    roots = query_flag(request.query_params, "roots")
    found = [
        s
        for s in engine_of(request).sessions
        if search in s.title.lower() and not (roots and s.parent_id)
    ]
    found.sort(key=lambda s: s.updated, reverse=True)
    return Json([s.to_json() for s in found[:limit]])


async def get(request: Request) -> Json:
    return Json(session_of(request).to_json())


async def update(request: Request) -> Json:
    session, body = session_of(request), await read_json(request)
    time = body.object("time")
    archived = None if time is None else time.number("archived", least=0, most=_LATEST_TIME)
    await engine_of(request).update_session(
        session,
        title=body.optional_text("title"),
        archived=None if archived is None else int(archived),
    )
    return Json(session.to_json())


async def delete(request: Request) -> Json:
    await engine_of(request).delete_session(session_of(request))
    return Json(True)


async def children(request: Request) -> Json:
    session = session_of(request)
    return Json([s.to_json() for s in engine_of(request).sessions.children(session.id)])


async def status(request: Request) -> Json:
    return Json(engine_of(request).status())


async def todo(request: Request) -> Json:
    return Json(session_of(request).todos)


async def metrics(request: Request) -> Json:
    """Those of the session itself; its sub-agents' stand below `children`."""
    session = session_of(request)
    data = session.metrics()
    data["children"] = [
        {**child.metrics(), "title": child.title, "agent": child.agent}
        for child in engine_of(request).sessions.descendants(session.id)
    ]
    return Json(data)


async def rules(request: Request) -> Json:
    """The standing answers of the session and its sub-agents."""
    return Json(engine_of(request).permissions.standing(session_of(request)))


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
