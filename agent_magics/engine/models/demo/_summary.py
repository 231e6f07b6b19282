"""What the demo model makes of a conversation: a list, by rule."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ._small import LABEL
from ._steps import Step
from ._text import cell

__all__ = ["summary"]

_MOST_PROMPTS = 30
_PATHS = ("filePath", "path")


def summary(transcript: str) -> Step | None:
    """
    What was asked, with which tools it was worked on, which files were in play.

    None for a text that is no conversation, one JSON object per line.
    """
    entries = [entry for line in transcript.splitlines() if (entry := _entry(line))]
    if not entries:
        return None
    prompts = [cell(str(entry["user"])) for entry in entries if "user" in entry]
    tools = Counter(str(entry["call"]) for entry in entries if "call" in entry)
    paths = {str(path): None for entry in entries if (path := _path(entry))}
    earlier = [
        str(entry["summary"]).removeprefix(LABEL).strip() for entry in entries if "summary" in entry
    ]
    pieces = [LABEL, *earlier, "The user asked for:"]
    pieces[-1] += "".join(f"\n- {prompt}" for prompt in prompts[-_MOST_PROMPTS:])
    if tools:
        calls = ", ".join(f"{name} ({count})" for name, count in tools.items())
        pieces.append(f"Tools that were called: {calls}")
    if paths:
        pieces.append(f"Files that were named: {', '.join(map(cell, paths))}")
    return Step("\n\n".join(pieces))


def _entry(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _path(entry: dict[str, Any]) -> str | None:
    arguments = entry.get("arguments")
    if not isinstance(arguments, dict):
        return None
    return next((arguments[key] for key in _PATHS if isinstance(arguments.get(key), str)), None)
