"""
Commands: prompts with a name and arguments.

They come from this package, from the user (configuration and `commands/*.md` beside it) and from
the session's workspace. The user's win over the package's. What stands in the workspace is
anybody's: it is a text for the agent and nothing else, it chooses neither model nor agent, and
where its name is taken it is `workspace/NAME`, which always works.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_magics.sandbox import Sandbox
from agent_magics.wire import CommandJSON

from ._builtin_commands import BUILTIN
from ._errors import BadRequest, CommandNotFound
from ._frontmatter import FrontMatterError, parse_markdown
from ._sessions import WORKSPACE
from ._templates import placeholders

if TYPE_CHECKING:
    from ._config_tables import CommandConfig
    from ._log import EventLog

__all__ = ["Command", "CommandBook", "announce_command"]

_log = logging.getLogger(__name__)

WORKSPACE_FOLDERS = (
    f"{WORKSPACE}/.agent-magics/commands",
    f"{WORKSPACE}/.opencode/command",
    f"{WORKSPACE}/.opencode/commands",
)
_PREFIX = "workspace/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(?:/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}){0,3}")
_LARGEST_FILE = 64 << 10
_MOST_FILES = 200


@dataclass(frozen=True)
class Command:
    """`origin`: builtin, user or workspace. `problem` says why a command can't be used."""

    name: str
    template: str
    description: str = ""
    agent: str | None = None
    model: str | None = None
    origin: str = "builtin"
    problem: str = ""

    def to_json(self) -> CommandJSON:
        data: CommandJSON = {
            "name": self.name,
            "description": self.description,
            "source": "command",
            "origin": self.origin,
            "template": self.template,
            "hints": [f"${name}" for name in placeholders(self.template)],
        }
        if self.agent:
            data["agent"] = self.agent
        if self.model:
            data["model"] = self.model
        return data


class CommandBook:
    """`configured` are the configuration's; `folder` has the user's files and may be missing."""

    def __init__(
        self,
        configured: Mapping[str, CommandConfig] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._configured = configured or {}
        self._folder = folder

    async def all(self, sandbox: Sandbox | None = None) -> list[Command]:
        """Every command that can be used, by name; with a `sandbox` also its workspace's."""
        found = await self._find(sandbox)
        return [found[name] for name in sorted(found) if not found[name].problem]

    async def get(self, name: str, sandbox: Sandbox) -> Command:
        """Raises CommandNotFound, and BadRequest for one whose file is broken."""
        found = await self._find(sandbox)
        command = found.get(name)
        if command is None and name.startswith(_PREFIX):
            other = found.get(name.removeprefix(_PREFIX))
            command = other if other and other.origin == "workspace" else None
        if command is None:
            raise CommandNotFound(
                f"There is no command {name}. There is: {', '.join(sorted(found))}.",
                command=name,
                commands=sorted(found),
            )
        if command.problem:
            raise BadRequest(f"The command {name} can't be used: {command.problem}.", command=name)
        return command

    async def _find(self, sandbox: Sandbox | None) -> dict[str, Command]:
        found = {name: Command(name, *texts) for name, texts in BUILTIN.items()}
        for command in self._user_commands():
            if command.problem:
                _log.warning("the command %s can't be used: %s", command.name, command.problem)
            found[command.name] = command
        if sandbox is not None:
            for command in await _workspace_commands(sandbox):
                taken = command.name in found
                name = _PREFIX + command.name if taken else command.name
                found.setdefault(name, replace(command, name=name))
        return found

    def _user_commands(self) -> Iterator[Command]:
        if self._folder is not None and self._folder.is_dir():
            for path in sorted(self._folder.rglob("*.md"))[:_MOST_FILES]:
                name = path.relative_to(self._folder).as_posix().removesuffix(".md")
                try:
                    data = path.read_bytes()
                except OSError as error:
                    yield Command(name, "", origin="user", problem=str(error))
                else:
                    yield _parsed(name, data, "user")
        for name, config in self._configured.items():
            yield Command(
                name, config.template, config.description, config.agent, config.model, "user"
            )


def announce_command(
    log: EventLog, session_id: str, message_id: str, command: Mapping[str, Any] | None
) -> None:
    """Say that a prompt was made from a command, if it was."""
    if command is not None:
        executed = {"sessionID": session_id, "messageID": message_id, **command}
        log.publish(session_id, "command.executed", executed)


def _parsed(name: str, data: bytes, origin: str) -> Command:
    """The command of a Markdown file."""
    try:
        if len(data) > _LARGEST_FILE:
            raise FrontMatterError(f"its file is larger than {_LARGEST_FILE} bytes")
        if not _NAME.fullmatch(name) or name.startswith(_PREFIX):
            raise FrontMatterError("its file's name can't be the name of a command")
        file = parse_markdown(data)
        if not file.text:
            raise FrontMatterError("its file has no text")
    except FrontMatterError as error:
        return Command(name, "", origin=origin, problem=str(error))
    command = Command(name, file.text, file.get("description") or "", origin=origin)
    if origin == "workspace":
        return command
    return replace(command, agent=file.get("agent"), model=file.get("model"))


async def _workspace_commands(sandbox: Sandbox) -> list[Command]:
    """The commands of the workspace's files, which are read inside the container."""
    found: dict[str, str] = {}
    for folder in WORKSPACE_FOLDERS:
        try:
            files = await sandbox.list_files(folder, recursive=True, limit=_MOST_FILES)
        except OSError:
            continue
        for file in files:
            name = file.path.removeprefix(folder + "/").removesuffix(".md")
            if file.kind == "file" and file.path.endswith(".md") and _NAME.fullmatch(name):
                found.setdefault(name, file.path)
    return await asyncio.gather(*(_workspace_command(sandbox, *item) for item in found.items()))


async def _workspace_command(sandbox: Sandbox, name: str, path: str) -> Command:
    try:
        data = await sandbox.read_file(path, max_bytes=_LARGEST_FILE)
    except OSError as error:
        return Command(name, "", origin="workspace", problem=error.strerror or str(error))
    return _parsed(name, data, "workspace")
