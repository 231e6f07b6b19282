"""What a kind of container has to give; everything else is shared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ._errors import SandboxUnavailable
from ._remote import AgentProcess
from ._types import Limits, machine_memory

__all__ = ["Provider", "agent_config", "most_files", "prepare_directories"]

RESERVE = 512 << 20
"""Free memory in bytes, of a machine that has plenty, below which commands are killed."""

DESCRIPTORS = 16
"""Times as many open files as one process may have, all of a container may have together."""


class Provider(Protocol):
    """
    A kind of container for one session: it starts a process inside, with its stdin and stdout.

    `workspace` is the absolute path of /workspace as processes in the container see it.
    """

    name: str
    isolated: bool
    workspace: str
    environ: Mapping[str, str]

    async def spawn(self, stderr: int) -> AgentProcess:
        """Start the bootstrap of the agent program; raises SandboxUnavailable."""

    def config(self) -> dict[str, Any]:
        """For the agent program."""

    def complaint(self, message: str) -> SandboxUnavailable:
        """Why the agent program did not start, from what was written to stderr."""

    async def clear(self, *, files: bool) -> None:
        """
        Remove what is left of the container, whose agent program has ended or was killed.

        With `files` also the session's, as far as they are not in its directory on this machine.
        """

    def inner(self, path: str) -> str:
        """A path as users write it, as processes in the container see it."""

    def outer(self, path: str) -> str:
        """The reverse of `inner`."""


def agent_config(limits: Limits, *, workspace: str, tmp: str, isolated: bool) -> dict[str, Any]:
    """
    The configuration of the agent program.

    Without isolation the machine's other processes count as well, so nothing is said of processes
    per user.
    """
    rlimits = {
        "data": limits.process_memory,
        "fsize": limits.file_size,
        "nofile": limits.open_files,
        "cpu": limits.cpu_seconds,
        "nproc": limits.processes if isolated else None,
    }
    return {
        "background": limits.background,
        "folders": {"/dev/shm": most_files(limits.shared_memory)} if isolated else {},
        "isolated": isolated,
        "descriptors": DESCRIPTORS * limits.open_files if isolated else None,
        "memory": limits.memory,
        "memory_reserve": min(RESERVE, machine_memory() // 20),
        "processes": limits.processes,
        "rlimits": {name: value for name, value in rlimits.items() if value is not None},
        "tmp": tmp,
        "workspace": workspace,
    }


def most_files(size: int) -> int:
    """Of a directory in memory: each file takes memory of the kernel, which is not counted."""
    return max(1000, size // 2048)


def prepare_directories(root: Path) -> tuple[Path, Path]:
    """Make the session's workspace and tmp, closed to everybody else."""
    for path in (root, root / "workspace", root / "tmp"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root / "workspace", root / "tmp"
