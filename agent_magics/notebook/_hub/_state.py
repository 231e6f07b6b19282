"""What the JupyterLab extension shows, as JSON. All texts are made visible here, none is HTML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...widgets import always_label, ask_blocks, ask_title, readable, visible

if TYPE_CHECKING:
    from ...wire import (
        Artifact,
        FileEntry,
        Message,
        PermissionRequest,
        SessionInfo,
        SessionMetrics,
        Todo,
    )

__all__ = [
    "HOME",
    "artifact_json",
    "empty_state",
    "history_json",
    "listing_json",
    "metrics_json",
    "permission_json",
    "session_json",
    "sessions_json",
    "status_of",
    "todo_json",
]

HOME = "/workspace"
"""The folder whose listing is part of the state."""

_MOST_FILES = 500
_MOST_SESSIONS = 30
_MOST_TURNS = 40
_WORKING = frozenset({"busy", "compacting", "retry"})


def empty_state() -> dict[str, Any]:
    """The state of a notebook without a session."""
    return {
        "status": "none",
        "session": None,
        "sessions": [],
        "todos": [],
        "metrics": None,
        "history": [],
        "artifacts": [],
        "permissions": [],
        "files": 0,
        "listing": {"entries": [], "more": 0},
        "problem": "",
    }


def status_of(
    info: SessionInfo | None, permissions: Iterable[PermissionRequest], problem: str = ""
) -> str:
    """none, ready, working, waiting (for a person) or error; `problem` is why there is no info."""
    if info is None:
        return "error" if problem else "none"
    if any(True for _ in permissions):
        return "waiting"
    if info.status in _WORKING:
        return "working"
    return "error" if info.status == "error" else "ready"


def session_json(info: SessionInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "title": readable(info.title),
        "model": visible(info.model),
        "agent": visible(info.agent),
        "sandbox": info.sandbox,
        "isolated": info.isolated,
        "updated": info.time_updated,
        "error": readable(info.error.message) if info.error else "",
    }


def sessions_json(sessions: Iterable[SessionInfo], current_id: str) -> list[dict[str, Any]]:
    """The sessions to choose from, latest first; those of sub-agents and of the archive are not."""
    shown = [
        info
        for info in sessions
        if info.id == current_id or not (info.archived or info.parent_id is not None)
    ]
    shown.sort(key=lambda info: info.time_updated, reverse=True)
    return [
        {"id": info.id, "title": readable(info.title), "updated": info.time_updated}
        for info in shown[:_MOST_SESSIONS]
    ]


def todo_json(todo: Todo) -> dict[str, str]:
    return {"content": readable(todo.content), "status": todo.status}


def permission_json(request: PermissionRequest) -> dict[str, Any]:
    """Everything that the permission would allow; nothing is cut."""
    return {
        "id": request.id,
        "title": ask_title(request),
        "blocks": [block._asdict() for block in ask_blocks(request)],
        "always": always_label(request),
    }


def metrics_json(metrics: SessionMetrics) -> dict[str, Any]:
    return {
        "messages": metrics.messages,
        "toolCalls": metrics.tool_calls,
        "tokens": metrics.total_tokens.total,
        "cost": metrics.total_cost,
        "contextUsed": metrics.context_used,
        "contextLimit": metrics.context_limit,
    }


def history_json(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Tokens and cost of each turn, oldest first; `cost` is None where a price is unknown."""
    turns: dict[str, dict[str, Any]] = {}
    for message in messages:
        info = message.info
        if info.role != "assistant":
            continue
        turn = turns.setdefault(info.parent_id or info.id, {"tokens": 0, "cost": 0.0})
        turn["tokens"] += info.tokens.total
        known = turn["cost"] is not None and info.cost is not None
        turn["cost"] = turn["cost"] + info.cost if known else None
    return list(turns.values())[-_MOST_TURNS:]


def listing_json(entries: Iterable[FileEntry]) -> dict[str, Any]:
    """Folders first; `more` says how many are left out of a very long one."""
    found = sorted(entries, key=lambda entry: (entry.kind != "directory", entry.path))
    shown = [_file_json(entry) for entry in found[:_MOST_FILES]]
    return {"entries": shown, "more": len(found) - len(shown)}


def _file_json(entry: FileEntry) -> dict[str, Any]:
    """`path` is what requests name; `name` is for people."""
    name = visible(entry.path.rstrip("/").rpartition("/")[2])
    return {"path": entry.path, "name": name, "kind": entry.kind, "size": entry.size}


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    return {
        "key": artifact.key,
        "name": visible(artifact.key),
        "description": readable(artifact.description),
        "mime": artifact.mime,
        "size": artifact.size,
    }
