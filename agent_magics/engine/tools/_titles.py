"""One line that says what a tool call is about, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._paths import short_path
from ._output import valid_text

__all__ = ["tool_title"]

MAX_TITLE = 100


def tool_title(tool: str, arguments: Mapping[str, Any]) -> str:
    """The title of a call; never raises, "" when the arguments say nothing."""
    match tool:
        case "bash":
            title = _text(arguments, "description") or _text(arguments, "command")
        case "read" | "write" | "edit":
            path = _text(arguments, "filePath")
            title = short_path(path) if path else ""
        case "artifact":
            path = _text(arguments, "path")
            title = _text(arguments, "key") or (short_path(path) if path else "")
        case "grep" | "glob":
            title = _text(arguments, "pattern")
            if path := _text(arguments, "path"):
                title = f"{title} in {short_path(path)}"
        case "batch":
            title = _batch_title(arguments.get("tool_calls"))
        case "webfetch":
            title = _text(arguments, "url")
        case "mcp":
            title = _text(arguments, "server")
        case "skill":
            title = _text(arguments, "name")
        case "todowrite":
            todos = arguments.get("todos")
            count = len(todos) if isinstance(todos, list) else 0
            title = f"{count} todo{'' if count == 1 else 's'}"
        case "task":
            title = _text(arguments, "description") or _text(arguments, "prompt")
            if agent := _text(arguments, "subagent_type"):
                title = f"{title} (@{agent})"
        case _:
            title = next((v for v in arguments.values() if isinstance(v, str)), "")
    line = valid_text(" ".join(title.split()))
    return line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 1] + "…"


def _batch_title(calls: Any) -> str:
    """`3 calls: read, grep`."""
    if not isinstance(calls, list):
        return ""
    names = dict.fromkeys(str(c.get("tool")) for c in calls if isinstance(c, Mapping))
    return f"{len(calls)} call{'' if len(calls) == 1 else 's'}: {', '.join(names)}"


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""
