"""The tables of the configuration file that add to the agent: `[commands.NAME]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import Reader

__all__ = ["CommandConfig", "read_commands"]

_COMMAND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class CommandConfig:
    """A command of the configuration file; see `_templates` for the template's placeholders."""

    template: str
    description: str = ""
    agent: str | None = None
    model: str | None = None


def read_commands(reader: Reader, data: Mapping[str, Any]) -> dict[str, CommandConfig]:
    """The tables `[commands.NAME]`. Raises ConfigError."""
    found = {}
    for name, value in reader.table(data.get("commands", {}), "commands").items():
        prefix = f"commands.{name}."
        if not _COMMAND_NAME.fullmatch(name):
            raise reader.error(f"commands.{name}", "use letters, digits, '-', '_' and '.'.")
        table = reader.table(value, f"commands.{name}")
        reader.only(table, prefix, ("template", "description", "agent", "model"))
        template = reader.text(table, "template", prefix)
        if template is None:
            raise reader.error(prefix + "template", "is missing.")
        found[name] = CommandConfig(
            template,
            reader.text(table, "description", prefix) or "",
            reader.text(table, "agent", prefix),
            reader.text(table, "model", prefix),
        )
    return found
