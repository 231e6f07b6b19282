"""The command lines of podman and docker: run them, and remove what dead engines left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Mapping

from ._owner import engine_mark, is_alive, owner_mark
from ._programs import safe_path

__all__ = ["Cli", "labels"]

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for a call that changes or lists containers."""
OWNER, ENGINE = "agent-magics.owner", "agent-magics.engine"
_PASSED = ("HOME", "LANG", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "TMPDIR", "USER")
_PASSED_BEGINNINGS = ("CONTAINER", "DBUS_", "DOCKER_", "REGISTRY_", "STORAGE_", "XDG_")


def labels() -> dict[str, str]:
    """Of every container of this engine."""
    return {OWNER: owner_mark(), ENGINE: engine_mark()}


class Cli:
    """One of the two programs. `name` is "podman" or "docker", `program` its path."""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.program = program
        self.environ = _environ(os.environ)

    async def call(self, *arguments: str) -> str | None:
        """What it prints; None when it fails or takes too long."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(self.program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environ,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.info("%s: %s", self.name, error.strerror)
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                said, complaint = await process.communicate()
        except TimeoutError:
            log.info("%s %s takes too long", self.name, arguments[0])
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            text = complaint.decode("utf-8", "replace").strip()
            log.info("%s %s: %s", self.name, arguments[0], text[-300:])
            return None
        return said.decode("utf-8", "replace")

    async def remove(self, name: str) -> bool:
        """End and remove a container; True when it is not there any more."""
        listed = await self.call("ps", "--all", "--quiet", "--filter", f"name=^{name}$")
        if listed is None:
            return False
        return not listed.strip() or await self.call("rm", "--force", name) is not None

    async def sweep(self) -> None:
        """Remove containers whose engine has died; those of engines that live stay."""
        mine = f"label={OWNER}={owner_mark()}"
        listed = await self.call("ps", "--all", "--quiet", "--filter", mine)
        if not listed:
            return
        template = f'{{{{.Id}}}} {{{{index .Config.Labels "{ENGINE}"}}}}'
        shown = await self.call("inspect", "--format", template, *listed.split())
        for line in (shown or "").splitlines():
            number, _, mark = line.partition(" ")
            if not is_alive(mark.strip()):
                log.info("removing a container that was left behind: %s", number[:12])
                await self.call("rm", "--force", number)


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What these programs need of ours; keys of model providers are not among it."""
    passed = {
        name: value
        for name, value in environ.items()
        if name in _PASSED or name.startswith(_PASSED_BEGINNINGS)
    }
    return {**passed, "PATH": safe_path(environ.get("PATH"))}  # they find others on it
