"""The tables of the configuration file that add to the agent: `[commands.NAME]`, `[mcp.NAME]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import Reader

__all__ = ["CommandConfig", "McpConfig", "read_commands", "read_mcp"]

_SERVER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_COMMAND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class CommandConfig:
    """A command of the configuration file; see `_templates` for the template's placeholders."""

    template: str
    description: str = ""
    agent: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class McpConfig:
    """
    An MCP server: a `command` to run on this machine, or a `url`.

    `${NAME}` in values of `env` and `headers` means the engine's environment variable. `tools`
    are the tools that the agent gets; None: all of them.
    """

    command: tuple[str, ...] = ()
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    enabled: bool = True
    tools: tuple[str, ...] | None = None


def read_mcp(reader: Reader, data: Mapping[str, Any]) -> dict[str, McpConfig]:
    """The tables `[mcp.NAME]`. Raises ConfigError."""
    found = {}
    for name, value in reader.table(data.get("mcp", {}), "mcp").items():
        if not _SERVER_NAME.fullmatch(name):
            raise reader.error(f"mcp.{name}", "use small letters, digits and '-'; at most 32.")
        found[name] = _mcp_server(reader, reader.table(value, f"mcp.{name}"), f"mcp.{name}.")
    return found


def _mcp_server(reader: Reader, table: Mapping[str, Any], prefix: str) -> McpConfig:
    reader.only(table, prefix, ("command", "args", "env", "url", "headers", "enabled", "tools"))
    command, url = reader.text(table, "command", prefix), reader.url(table, "url", prefix)
    if (command is None) == (url is None):
        raise reader.error(prefix.rstrip("."), "needs either `command` or `url`.")
    for key in ("headers",) if command else ("args", "env"):
        if key in table:
            kind = "command" if command else "url"
            raise reader.error(prefix + key, f"has no meaning beside `{kind}`.")
    enabled = table.get("enabled", True)
    if not isinstance(enabled, bool):
        raise reader.error(prefix + "enabled", "must be true or false.")
    return McpConfig(
        command=(command, *reader.texts(table, "args", prefix)) if command else (),
        url=url,
        env=_texts_by_name(reader, table, "env", prefix),
        headers=_texts_by_name(reader, table, "headers", prefix),
        enabled=enabled,
        tools=reader.texts(table, "tools", prefix) if "tools" in table else None,
    )


def _texts_by_name(
    reader: Reader, table: Mapping[str, Any], key: str, prefix: str
) -> dict[str, str]:
    values = reader.table(table.get(key, {}), prefix + key)
    if not all(isinstance(value, str) for value in values.values()):
        raise reader.error(prefix + key, "must have texts as values.")
    return values


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
