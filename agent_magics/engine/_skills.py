"""
Skills: folders with a SKILL.md, knowledge that the model loads when it needs it.

They stand in `skills/` beside the user's configuration and in the session's workspace. The
workspace's are named `workspace/NAME`, so that they can't stand for one of the user's; loading one
asks by default, because anybody may have written it, and the model is not told what they are
called or for before it asks for the list. Neither kind changes what is permitted: what a skill
tells the model to do goes through the same permissions as everything else.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent_magics.sandbox import Sandbox, SandboxError

from ._frontmatter import FrontMatterError, parse_markdown
from ._sessions import WORKSPACE, Session

if TYPE_CHECKING:
    from ._containers import Containers

__all__ = ["Skill", "SkillBook", "TurnSkills"]

log = logging.getLogger(__name__)

WORKSPACE_SKILLS = f"{WORKSPACE}/.agent-magics/skills"
_COPIES = "/tmp/skills"
_PREFIX = "workspace/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LARGEST_FILE = 64 << 10
_LONGEST_DESCRIPTION = 500
_MOST_SKILLS = 50
_MOST_FILES = 200
_MOST_BYTES = 10 << 20


@dataclass(frozen=True)
class Skill:
    """
    `folder` is where its files are in the container, `source` where on this machine they have to
    be copied from; None for a skill of the workspace.
    """

    name: str
    description: str
    text: str
    folder: str
    source: Path | None = None

    @property
    def is_users(self) -> bool:
        """One of the user's own, not one that lies in the workspace."""
        return self.source is not None

    async def install(self, sandbox: Sandbox) -> list[str]:
        """
        Make the skill's files available in the container. Returns their paths below `folder`.

        Links are left out. Raises OSError when they are too many or too large.
        """
        if self.source is None:
            found = await sandbox.list_files(self.folder, recursive=True, limit=_MOST_FILES)
            paths = [f.path for f in found if f.kind == "file"]
            return [path.removeprefix(self.folder + "/") for path in paths]
        files = _contents(self.source)
        for path, data in files.items():
            await sandbox.write_file(f"{self.folder}/{path}", data)
        return list(files)


class SkillBook:
    """`folder` has the user's skills and may be missing."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    async def all(self, sandbox: Sandbox | None) -> list[Skill]:
        """Every skill that can be loaded; with a running `sandbox` also its workspace's."""
        found = list(self._user_skills())
        if sandbox is not None:
            found += await _workspace_skills(sandbox)
        return found

    def _user_skills(self) -> Iterator[Skill]:
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*/SKILL.md"))[:_MOST_SKILLS]:
            name, folder = path.parent.name, f"{_COPIES}/{path.parent.name}"
            try:
                yield _skill(name, "", path.read_bytes(), folder, path.parent)
            except (FrontMatterError, OSError) as error:
                log.warning("the skill %s can't be used: %s", name, error)


class TurnSkills:
    """The skills of one turn: as they are when first asked for."""

    def __init__(self, book: SkillBook, containers: Containers, session: Session) -> None:
        self._book = book
        self._containers = containers
        self._session = session
        self._found: list[Skill] | None = None

    async def __call__(self) -> list[Skill]:
        if self._found is None:
            try:
                sandbox = await self._containers.started(self._session)
                self._found = await self._book.all(sandbox)
            except SandboxError:  # a tool that needs the container says why
                self._found = await self._book.all(None)
        return self._found


def _skill(name: str, prefix: str, data: bytes, folder: str, source: Path | None) -> Skill:
    """The skill of a SKILL.md in a folder called `name`. Raises FrontMatterError."""
    if len(data) > _LARGEST_FILE:
        raise FrontMatterError(f"its SKILL.md is larger than {_LARGEST_FILE} bytes")
    file = parse_markdown(data)
    chosen, description = file.get("name") or name, file.get("description") or ""
    if not (_NAME.fullmatch(chosen) and _NAME.fullmatch(name)):
        raise FrontMatterError("its name may have letters, digits, '-', '_' and '.'")
    if not description or not file.text:
        raise FrontMatterError("it needs a description in its front matter, and a text")
    return Skill(prefix + chosen, description[:_LONGEST_DESCRIPTION], file.text, folder, source)


async def _workspace_skills(sandbox: Sandbox) -> list[Skill]:
    """The skills of the workspace's files, which are read inside the container."""
    try:
        entries = await sandbox.list_files(WORKSPACE_SKILLS, limit=_MOST_SKILLS)
    except OSError:
        return []
    folders = [entry.path for entry in entries if entry.kind == "directory"]
    found = await asyncio.gather(*(_workspace_skill(sandbox, folder) for folder in folders))
    return [skill for skill in found if skill is not None]


async def _workspace_skill(sandbox: Sandbox, folder: str) -> Skill | None:
    name = folder.rpartition("/")[2]
    try:
        data = await sandbox.read_file(f"{folder}/SKILL.md", max_bytes=_LARGEST_FILE)
        return _skill(name, _PREFIX, data, folder, None)
    except (FrontMatterError, OSError):
        return None  # the agent sees the file and can be asked what is wrong with it


def _contents(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or "__pycache__" in path.parts:
            continue
        size += path.stat().st_size
        if len(files) >= _MOST_FILES or size > _MOST_BYTES:
            limits = f"{_MOST_FILES} files or {_MOST_BYTES >> 20} MB"
            raise OSError(f"the folder of the skill has more than {limits}")
        files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files
