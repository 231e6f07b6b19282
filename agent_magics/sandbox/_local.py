"""No container at all: commands run as the user, with everything the user may do."""

from __future__ import annotations

import asyncio
import os
import posixpath
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._agent import BOOTSTRAP
from ._environ import SYSTEM_PATH, command_environ
from ._errors import SandboxUnavailable
from ._leftovers import MARKER, end_leftovers
from ._provider import agent_config, prepare_directories
from ._types import Limits, PythonEnv

__all__ = ["Local"]

PUBLIC = "/workspace"


class Local:
    """
    A session on the bare machine; only ever by explicit choice, `isolated` is False.

    There is no /workspace on the machine. Where this package takes or gives a path (cwd, files),
    /workspace and what lies below it mean the session's own directory; the text of a command is
    left as it is, there the current directory or $HOME lead to it. Other absolute paths are the
    machine's. Limits per process and timeouts hold; processes that leave their session by a double
    fork, or outlive an agent program that was killed, are found on Linux only.
    """

    name = "local"
    isolated = False

    def __init__(self, root: Path, python: PythonEnv, limits: Limits) -> None:
        self._root = root.absolute()
        self._python = python
        self._limits = limits
        self.workspace = str(self._root / "workspace")
        self._tmp = str(self._root / "tmp")
        self.environ: Mapping[str, str] = command_environ(
            python,
            workspace=self.workspace,
            tmp=self._tmp,
            extra_path=os.environ.get("PATH", SYSTEM_PATH),
            shared=True,
        ) | {MARKER: str(self._root)}

    def inner(self, path: str) -> str:
        whole = posixpath.normpath(posixpath.join(PUBLIC, path))
        if whole == PUBLIC or whole.startswith(f"{PUBLIC}/"):
            return self.workspace + whole[len(PUBLIC) :]
        return whole

    def outer(self, path: str) -> str:
        if path == self.workspace or path.startswith(f"{self.workspace}/"):
            return PUBLIC + path[len(self.workspace) :]
        return path

    async def clear(self, *, files: bool) -> None:
        """Nothing: it ends with its first process, and files are in the session's directory."""

    def config(self) -> dict[str, Any]:
        return agent_config(self._limits, workspace=self.workspace, tmp=self._tmp, isolated=False)

    def complaint(self, message: str) -> SandboxUnavailable:
        return SandboxUnavailable(
            f"The session's agent program did not start: {message.strip() or 'no message'}.",
            f"Check that {self._python.executable} runs.",
        )

    async def spawn(self, stderr: int) -> asyncio.subprocess.Process:
        try:
            await asyncio.to_thread(end_leftovers, self._root)
            prepare_directories(self._root)
            return await asyncio.create_subprocess_exec(
                *(self._python.executable, "-I", "-S", "-c", BOOTSTRAP),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={MARKER: str(self._root)},
                cwd=self.workspace,
                start_new_session=True,
                limit=1 << 21,
            )
        except OSError as error:
            raise SandboxUnavailable(
                f"The session can't be started: {error}.",
                f"Check {self._python.executable} and the directory {self._root}.",
            ) from error
