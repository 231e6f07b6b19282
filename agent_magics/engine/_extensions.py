"""What the user adds to the agent: commands, skills and MCP servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ._commands import CommandBook
from ._config import EngineConfig
from ._mcp import McpServers
from ._skills import SkillBook

__all__ = ["Extensions"]


@dataclass(frozen=True)
class Extensions:
    """By default only what comes with this package."""

    commands: CommandBook = field(default_factory=CommandBook)
    skills: SkillBook = field(default_factory=SkillBook)
    mcp: McpServers = field(default_factory=McpServers)

    @classmethod
    def of_config(
        cls, config: EngineConfig, folder: Path, environ: Mapping[str, str], log_dir: Path
    ) -> Extensions:
        """What the configuration names, and what stands beside it in `folder`."""
        return cls(
            CommandBook(config.commands, folder / "commands"),
            SkillBook(folder / "skills"),
            McpServers(config.mcp, environ, log_dir),
        )
