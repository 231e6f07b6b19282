"""What the engine is and what it offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from agent_magics import __version__
from agent_magics.wire import PROTOCOL, HealthJSON, McpStatusJSON

from ._ids import now_ms
from ._operations import operation
from ._requests import Json, engine_of
from ._sessions import WORKSPACE

__all__ = ["routes"]


@operation(HealthJSON, public=True)
async def health(request: Request) -> Json:
    """Whether the server is there; needs no token."""
    return Json(
        {"healthy": True, "version": __version__, "engine": "agent-magics", "protocol": PROTOCOL}
    )


@operation(dict[str, Any])
async def config(request: Request) -> Json:
    """The configuration that counts: the model of sessions that choose none."""
    return Json({"model": engine_of(request).registry.default()})


def _defaults(providers: list[dict[str, Any]]) -> dict[str, str]:
    return {p["id"]: next(iter(p["models"])) for p in providers if p.get("models")}


@operation(dict[str, Any])
async def config_providers(request: Request) -> Json:
    """Providers with their models, and the first model of each."""
    providers = engine_of(request).registry.providers()
    return Json({"providers": providers, "default": _defaults(providers)})


@operation(dict[str, Any])
async def provider(request: Request) -> Json:
    """Providers, all of which are connected."""
    providers = engine_of(request).registry.providers()
    return Json(
        {
            "all": providers,
            "default": _defaults(providers),
            "connected": [p["id"] for p in providers],
        }
    )


@operation(list[dict[str, Any]])
async def agent(request: Request) -> Json:
    """Agents with their rules."""
    engine = engine_of(request)
    return Json([agent.to_json(engine.permissions.rules) for agent in engine.agents])


@operation(dict[str, McpStatusJSON])
async def mcp(request: Request) -> Json:
    """The MCP servers of the configuration and how they stand."""
    return Json(engine_of(request).extensions.mcp.status())


@operation(dict[str, str])
async def path(request: Request) -> Json:
    """Where things are."""
    return Json(
        {
            "home": str(Path.home()),
            "state": str(engine_of(request).store.path.parent),
            "config": str(Path.home() / ".config" / "agent-magics"),
            "worktree": "/",
            "directory": WORKSPACE,
        }
    )


@operation(dict[str, Any])
async def project(request: Request) -> Json:
    """The one project."""
    time = {"created": engine_of(request).started, "updated": now_ms()}
    return Json({"id": "global", "worktree": "/", "time": time, "sandboxes": []})


routes = [
    Route("/global/health", health),
    Route("/config", config),
    Route("/config/providers", config_providers),
    Route("/provider", provider),
    Route("/agent", agent),
    Route("/mcp", mcp),
    Route("/path", path),
    Route("/project/current", project),
]
