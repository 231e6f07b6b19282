"""
The container of each session: made on demand, kept while the session lives.

Sessions of sub-agents work in the container of the session that they belong to.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agent_magics.sandbox import PythonEnv, Sandbox, SandboxError, SandboxGone, SandboxUnavailable

from ._log import EventLog
from ._sessions import Session

__all__ = ["Containers"]

log = logging.getLogger(__name__)

OpenSandbox = Callable[..., Sandbox]
"""Called as `open_sandbox(root, provider=..., python=...)`."""


class Containers:
    """`root` holds one directory per session. All methods run on the engine's loop."""

    def __init__(
        self, root: Path, open_sandbox: OpenSandbox, log: EventLog, provider: str = "auto"
    ) -> None:
        self._root = root
        self._open = open_sandbox
        self._log = log
        self._provider = provider
        self._sandboxes: dict[str, Sandbox] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, session: Session) -> Sandbox:
        """The session's sandbox, started or not. Raises SandboxUnavailable, SandboxGone."""
        if session.ended:
            raise SandboxGone("the session was deleted")
        owner = session.container or session.id
        found = self._sandboxes.get(owner)
        if found is None:
            wanted = self._provider if session.sandbox == "auto" else session.sandbox
            python = session.python and PythonEnv(
                str(session.python["executable"]), tuple(session.python["prefixes"])
            )
            found = self._open(self._root / owner, provider=wanted, python=python or None)
            self._sandboxes[owner] = found
        session.provider, session.isolated = found.provider, found.isolated
        return found

    async def started(self, session: Session) -> Sandbox:
        """The session's sandbox, running. Raises SandboxUnavailable, SandboxGone."""
        sandbox = self.get(session)
        if sandbox.alive:
            return sandbox
        owner = session.container or session.id
        async with self._starting.setdefault(owner, asyncio.Lock()):
            if not sandbox.alive:
                try:
                    await sandbox.start()
                except SandboxUnavailable as error:
                    self._announce(session, "error", error.reason)
                    raise
                session.provider, session.isolated = sandbox.provider, sandbox.isolated
                self._announce(session, "running")
        return sandbox

    async def destroy(self, session: Session) -> None:
        """Stop the session's container and delete its files, unless they are another's."""
        if session.container is not None:
            return
        self._starting.pop(session.id, None)
        sandbox = self._sandboxes.pop(session.id, None)
        if sandbox is not None:
            try:
                await sandbox.destroy()
            except (SandboxError, OSError) as error:
                log.warning("container of %s: %s", session.id, type(error).__name__)
        await asyncio.to_thread(_remove, self._root / session.id)

    async def close(self) -> None:
        """Stop all containers; files stay."""
        sandboxes = list(self._sandboxes.values())
        self._sandboxes.clear()
        results = await asyncio.gather(*(s.stop() for s in sandboxes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                log.warning("stopping a container: %s", type(result).__name__)

    async def sweep(self, living: Iterable[str]) -> None:
        """Delete what deleted sessions left behind."""
        keep = set(living)
        for path in list(self._root.iterdir()):
            if path.name not in keep and path.name.startswith("ses_"):
                await asyncio.to_thread(_remove, path)

    def _announce(self, session: Session, status: str, message: str = "") -> None:
        properties: dict[str, Any] = {"sessionID": session.id, "status": status}
        if message:
            properties["message"] = message
        if session.listed:
            self._log.publish(session.id, "container.status", properties)


def _remove(path: Path) -> None:
    """Remove a tree, also where its owner took away the right to."""
    for _ in range(2):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        for directory in [path, *path.rglob("*")]:
            if directory.is_dir() and not directory.is_symlink():
                directory.chmod(stat.S_IRWXU)
    log.warning("a deleted session's directory could not be removed")
