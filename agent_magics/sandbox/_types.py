"""What users of the sandbox hold: limits, results, the caller's Python."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ExecResult", "FileStat", "Limits", "ProviderReport", "PythonEnv"]

MEGABYTE = 1 << 20
GIGABYTE = 1 << 30


def machine_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_share() -> int:
    machine = machine_memory()
    return min(max(machine // 4, 2 * GIGABYTE), 4 * GIGABYTE, machine * 6 // 10)


def _processes_share() -> int:
    return max(512, 16 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Limits:
    """
    What a container may use. Sizes in bytes; None: no limit.

    Per process the kernel enforces them. Totals are watched several times a second: they stop what
    runs away, a fast writer may overshoot by what it does in between.
    """

    memory: int | None = field(default_factory=_memory_share)
    """All processes together; the heaviest command is killed. Default: a quarter of the machine,
    but 2 to 4 GB, and never more than 60 %: many sessions may share it, few use all they may."""
    process_memory: int | None = field(default_factory=_memory_share)
    """Data of one process; allocating more fails (in Python: MemoryError)."""
    processes: int | None = field(default_factory=_processes_share)
    """Processes and threads at a time. Default: 512, more on machines with many processors, for
    numerical libraries start a thread on each."""
    background: int = 64
    """Processes a finished command may leave behind; if there are more, all of them are killed."""
    file_size: int | None = 2 * GIGABYTE
    """One file."""
    disk: int | None = 5 * GIGABYTE
    """The session's files together; running commands are killed."""
    shared_memory: int = 256 * MEGABYTE
    """/dev/shm."""
    open_files: int = 4096
    """Open files of one process."""
    cpu_seconds: int | None = None
    """Processor time of one process."""
    output: int = 8 * MEGABYTE
    """What is kept of each output stream of a command."""
    timeout: float = 120.0
    """Seconds of a command for which nothing else was asked."""
    longest_timeout: float = 24 * 3600.0
    """Seconds that may be asked for at most."""


@dataclass(frozen=True)
class ExecResult:
    """
    How a command ended.

    `stdout` and `stderr` have at most `max_output` bytes each, plus one line that says how many
    bytes were left out in the middle when there were more (`truncated`).
    `exit_code`: 124 after a timeout, 128+n after signal n, 126 when it could not be started.
    `killed_by`: "timeout", "interrupted", "memory", "processes", "disk" or None.
    `duration` in seconds.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    timed_out: bool
    truncated: bool
    killed_by: str | None
    duration: float


@dataclass(frozen=True)
class FileStat:
    """
    An entry of a directory. `kind`: file, directory, link or other; `size` in bytes; `mtime` in ms.

    A name that is no UTF-8 is decoded as `os.fsdecode` does it, so that it can be opened again.
    """

    path: str
    kind: str
    size: int
    mtime: int


@dataclass(frozen=True)
class ProviderReport:
    """
    Whether a provider works here; if not, why (`reason`) and what to do (`next_step`).

    `note` says what else is worth knowing, such as a program that was passed over.
    """

    name: str
    works: bool
    reason: str
    next_step: str
    note: str = ""


@dataclass(frozen=True)
class PythonEnv:
    """
    The Python that commands shall find, and the directories it consists of.

    They become readable inside, at the same absolute path, and nothing else of the host does.
    """

    executable: str
    prefixes: tuple[str, ...]

    @classmethod
    def current(cls) -> PythonEnv:
        """The interpreter this code runs in."""
        found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
        found += [path for path in sys.path if is_site_directory(path)]
        user_site = site.getusersitepackages()
        if Path(user_site).is_dir():
            found.append(user_site)
        return cls(sys.executable, tuple(dict.fromkeys(path for path in found if path)))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PythonEnv:
        """Of `{"executable": str, "prefixes": [str]}`; ValueError when it is not that."""
        executable, prefixes = value.get("executable"), value.get("prefixes", [])
        if not isinstance(executable, str) or not isinstance(prefixes, list | tuple):
            raise ValueError("a Python is described by its executable and a list of prefixes")
        if not all(isinstance(path, str) for path in prefixes):
            raise ValueError("the prefixes of a Python must be strings")
        if any(not path.startswith("/") or "\0" in path for path in [executable, *prefixes]):
            raise ValueError("the paths of a Python must be absolute")
        return cls(executable, tuple(prefixes))


def is_site_directory(path: str) -> bool:
    """A directory of installed packages, by its name."""
    return path.rstrip("/").endswith(("/site-packages", "/dist-packages"))
