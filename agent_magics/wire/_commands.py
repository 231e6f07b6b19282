"""Commands: prompts with a name, which `session.run_command()` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Command"]


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command that a session can run.

    `arguments` are the placeholders of its `template`: "$ARGUMENTS", "$1", "$path" ...
    `origin`: builtin, user, or workspace for one that stands in the session's files.
    """

    name: str
    template: str
    description: str = ""
    arguments: tuple[str, ...] = ()
    origin: str = ""
    agent: str = ""
    model: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Command:
        return cls(
            name=str(data["name"]),
            template=str(data.get("template") or ""),
            description=str(data.get("description") or ""),
            arguments=tuple(str(hint) for hint in data.get("hints") or ()),
            origin=str(data.get("origin") or ""),
            agent=str(data.get("agent") or ""),
            model=str(data.get("model") or ""),
        )
