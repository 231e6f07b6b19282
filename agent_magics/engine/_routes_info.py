"""What the engine is and what it offers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from agent_magics import __version__
from agent_magics.wire import PROTOCOL

from ._ids import now_ms
from ._requests import Json, engine_of
from ._sessions import WORKSPACE

__all__ = ["routes"]


async def health(request: Request) -> Json:
    return Json(
        {"healthy": True, "version": __version__, "engine": "agent-magics", "protocol": PROTOCOL}
    )


async def config(request: Request) -> Json:
    return Json({"model": engine_of(request).registry.default()})


def _defaults(providers: list[dict[str, Any]]) -> dict[str, str]:
    return {p["id"]: next(iter(p["models"])) for p in providers if p.get("models")}


async def config_providers(request: Request) -> Json:
    providers = engine_of(request).registry.providers()
    return Json({"providers": providers, "default": _defaults(providers)})


async def provider(request: Request) -> Json:
    providers = engine_of(request).registry.providers()
    return Json(
        {
            "all": providers,
            "default": _defaults(providers),
            "connected": [p["id"] for p in providers],
        }
    )


async def agent(request: Request) -> Json:
    build = {
        "name": "build",
        "description": "Works in the session's container with the tools that its rules permit.",
        "mode": "primary",
        "native": True,
        "permission": [asdict(rule) for rule in engine_of(request).permissions.rules],
        "options": {},
    }
    return Json([build])


async def mcp(request: Request) -> Json:
    """The MCP servers of the configuration and how they stand."""
    servers = engine_of(request).mcp
    return Json(servers.status() if servers else {})


async def path(request: Request) -> Json:
    return Json(
        {
            "home": str(Path.home()),
            "state": str(engine_of(request).store.path.parent),
            "config": str(Path.home() / ".config" / "agent-magics"),
            "worktree": "/",
            "directory": WORKSPACE,
        }
    )


async def project(request: Request) -> Json:
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
