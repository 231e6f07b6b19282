"""Who started a container, so that what a dead engine left behind can be told from the rest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["engine_mark", "is_alive", "owner_mark"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/etc/machine-id")
_PROCESSES = Path("/proc/self/ns/pid")
_START_FIELD = 19
"""Of /proc/PID/stat, counted after the program's name."""


def owner_mark() -> str:
    """This user, on this machine, among the processes that can be looked up by number from here."""
    space = os.readlink(_PROCESSES) if _PROCESSES.is_symlink() else ""  # noqa: PTH115
    machine = f"{os.uname().nodename} {_text(_MACHINE)} {space}"
    return f"{os.getuid()}-{hashlib.sha256(machine.encode()).hexdigest()[:16]}"


def engine_mark() -> str:
    """This process, told from all others, also those that get its number later."""
    return f"{os.getpid()}.{_start(os.getpid())}.{_boot()}"


def is_alive(mark: str) -> bool:
    """Whether the process of an `engine_mark` still runs. What is no such mark does not."""
    number, _, rest = mark.partition(".")
    start, _, boot = rest.partition(".")
    if not number.isdigit() or boot != _boot():
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    return start == _start(int(number))


def _boot() -> str:
    return _text(_BOOT).replace("-", "")[:16]


def _start(pid: int) -> str:
    """When the process started, in the kernel's ticks; empty where there is no /proc."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[_START_FIELD] if len(fields) > _START_FIELD else ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
