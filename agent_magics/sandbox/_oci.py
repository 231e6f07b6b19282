"""Containers of podman and docker, by their command lines; no Python package is needed."""

from __future__ import annotations

import asyncio
import logging
import os
import posixpath
import re
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._agent import BOOTSTRAP
from ._environ import command_environ
from ._errors import SandboxUnavailable
from ._mounts import PathRefused, python_mounts, without_links
from ._network import NetworkLink
from ._oci_cli import Cli, labels
from ._oci_explain import explain, not_installed
from ._options import OciOptions
from ._programs import find_program
from ._provider import agent_config, prepare_directories
from ._trees import adopt_tree
from ._types import Limits, PythonEnv
from ._uids import session_uid

__all__ = ["Oci"]

IMAGE_PYTHON = PythonEnv("/usr/local/bin/python3", ())
"""Where images have it is their affair: PATH finds it."""
OWN_PROCESSES = 64
"""Processes of the agent program, on top of those that commands may have."""

NOT_STARTED = 125
"""Exit code of `run` when it is podman or docker that failed."""

log = logging.getLogger(__name__)

_swept: set[str] = set()


class Oci:
    """
    A container of one session: `podman run` or `docker run` with the agent program as its PID 1.

    The container ends with its stdin, that is with the engine, whatever ends that; `--rm` removes
    it then. The session's directory on this machine is its /workspace, so files outlive it.
    Everything in it runs as an ordinary user without privileges: as a throw-away one where the
    engine is root, else as the engine's.
    """

    isolated = True
    workspace = "/workspace"

    def __init__(
        self,
        name: str,
        root: Path,
        python: PythonEnv,
        limits: Limits,
        options: OciOptions,
        link: NetworkLink | None = None,
    ) -> None:
        self.name = name
        self._root = root
        self._limits = limits
        self._options = options
        self._link = link
        self._host_python = python if options.python == "host" else None
        self._throw_away = False
        self._cli: Cli | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._names: set[str] = set()
        self.environ: Mapping[str, str] = command_environ(
            self._host_python or IMAGE_PYTHON,
            workspace=self.workspace,
            tmp="/tmp",
            extra_path="/usr/games",
        )

    def inner(self, path: str) -> str:
        return posixpath.join(self.workspace, path)

    def outer(self, path: str) -> str:
        return path

    def config(self) -> dict[str, Any]:
        config = agent_config(self._limits, workspace=self.workspace, tmp="/tmp", isolated=True)
        if not self._throw_away:  # the kernel would count the user's other processes as well
            config["rlimits"].pop("nproc", None)
        if self._link is not None:
            config["network"] = self._link.config()
        return config

    def complaint(self, message: str) -> SandboxUnavailable:
        executable = self._host_python.executable if self._host_python else None
        return explain(message, self.name, self._options.image, executable)

    async def spawn(self, stderr: int) -> asyncio.subprocess.Process:
        found = await asyncio.to_thread(find_program, self.name)
        if found.path is None:
            raise not_installed(self.name, found.note)
        program = str(found.path)
        cli = self._cli = Cli(self.name, program)
        if program not in _swept:
            _swept.add(program)
            await cli.sweep()
        plan = await asyncio.to_thread(self._prepare)
        user = await self._user(plan)
        name = f"agent-magics-{_plain(self._root.name)}-{secrets.token_hex(4)}"
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(program, *self._arguments(name, user, plan)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=cli.environ,
                cwd="/",
                start_new_session=True,
                limit=1 << 21,
            )
        except OSError as error:
            raise SandboxUnavailable(f"{program} can't be run: {error}.", "Check it.") from error
        self._names.add(name)
        return self._process

    async def clear(self, *, files: bool) -> None:
        """Files are in the session's directory, and are not this provider's to remove."""
        code = None if self._process is None else self._process.returncode
        if code == 0:  # it ended, and has removed its container
            self._names.clear()
        for name in list(self._names):
            if self._cli is not None and await self._cli.remove(name):
                self._names.discard(name)
            elif code != NOT_STARTED:
                log.warning("the container %s may still be there: see %s ps", name, self.name)

    def _prepare(self) -> _Plan:
        """What may take a while: the session's directories and the user they belong to."""
        if ":" in str(self._root):
            raise SandboxUnavailable(
                f"{self.name} can't mount a directory with a colon in its name: {self._root}.",
                "Keep the sessions elsewhere: set AGENT_MAGICS_DATA_DIR.",
            )
        try:
            workspace, _ = prepare_directories(self._root)
            uid = None
            if os.geteuid() == 0:
                owner = workspace.stat().st_uid
                uid = session_uid(owner)
                if uid is not None and owner != uid:
                    adopt_tree(workspace, uid)
        except OSError as error:
            raise SandboxUnavailable(
                f"The session can't be prepared: {error}.",
                f"Check the owner of {self._root}, and that the disk is not full.",
            ) from error
        self._throw_away = uid is not None
        return _Plan(workspace, uid, self._python_volumes())

    async def _user(self, plan: _Plan) -> list[str]:
        """Who everything in the container is."""
        if os.geteuid() == 0:
            number = plan.uid or 0
            return ["--user", f"{number}:{number}"]
        me = f"{os.geteuid()}:{os.getegid()}"
        if self.name == "podman":
            return ["--userns", "keep-id", "--user", me]
        assert self._cli is not None
        options = await self._cli.call("info", "--format", "{{json .SecurityOptions}}")
        if "name=rootless" in (options or ""):  # root in there is this user, nobody else is
            return ["--user", "0:0"]
        return ["--user", me]

    def _arguments(self, name: str, user: list[str], plan: _Plan) -> list[str]:
        options, limits = self._options, self._limits
        executable = self._host_python.executable if self._host_python else "python3"
        return [
            *("run", "--interactive", "--rm", "--pull", "never", "--name", name),
            *(part for pair in labels().items() for part in ("--label", "=".join(pair))),
            *("--hostname", "agent", "--network", "none", "--ipc", "private"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", *user),
            *("--read-only", "--volume", f"{plan.workspace}:{self.workspace}:Z", *plan.python),
            *("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={options.tmp_size}"),
            *("--shm-size", str(limits.shared_memory), *self._cgroup_limits()),
            *("--log-driver", "none", "--no-healthcheck", "--stop-timeout", "1"),
            *(_PODMAN_ONLY if self.name == "podman" else ()),
            *options.arguments,
            *("--workdir", self.workspace, "--entrypoint", executable, options.image),
            *("-I", "-S", "-c", BOOTSTRAP),
        ]

    def _cgroup_limits(self) -> list[str]:
        if not self._options.cgroup_limits:
            return []
        arguments = []
        if self._limits.memory is not None:
            arguments += ["--memory", str(self._limits.memory)]
        if self._limits.processes is not None:
            arguments += ["--pids-limit", str(self._limits.processes + OWN_PROCESSES)]
        return arguments

    def _python_volumes(self) -> list[str]:
        """The notebook's Python, read-only at its own paths; what links there leads to, as well."""
        if self._host_python is None:
            return []
        try:
            mounts = python_mounts(self._host_python, self._root, own_system=False)
        except PathRefused:
            raise self.complaint("it lies where the image has files of its own") from None
        volumes: list[str] = []
        for number, mount in enumerate(without_links(mounts)):
            if mount.kind in ("cover", "hide-directory"):
                volumes += ["--tmpfs", f"{mount.path}:ro,size=64k,mode=755"]
                continue
            source = os.devnull if mount.kind == "hide-file" else mount.source
            if mount.kind == "text":
                source = self._text_file(f"shown-{number}", mount.content)
            volumes += ["--volume", f"{source}:{mount.path}:ro"]
        return volumes

    def _text_file(self, name: str, content: bytes) -> str:
        path = self._root / name
        path.write_bytes(content)
        path.chmod(0o644)
        return str(path)


_PODMAN_ONLY = (
    *("--http-proxy=false", "--read-only-tmpfs=false", "--systemd=false"),
    *("--image-volume", "ignore"),
)


@dataclass(frozen=True)
class _Plan:
    workspace: Path
    uid: int | None
    python: list[str]


def _plain(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")[:40] or "session"
