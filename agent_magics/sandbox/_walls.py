"""
A control group for a container: the kernel's walls around its memory and its processes.

By a scope of systemd where there is one, else in a part of the version 2 hierarchy that was
delegated to this user. Where neither can be had, totals are watched by the agent program alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ._owner import engine_mark, is_alive
from ._types import MEGABYTE, Limits

__all__ = ["Machine", "Wall", "raise_wall"]

PREFIX = "agent-magics-"
CONTROLLERS = frozenset({"memory", "pids"})
OWN_PROCESSES = 64
"""Of the agent program and bwrap, on top of those that commands may have."""
SLACK = 64 * MEGABYTE
"""On top of the watched limit, so that the heaviest command is ended and not whatever comes by."""
SCOPE_TIMEOUT = 5.0
_POLL = 0.01
_BUSCTL = ("/usr/bin/busctl", "/bin/busctl")


@dataclass(frozen=True)
class Machine:
    """Where things are."""

    groups: Path = Path("/sys/fs/cgroup")
    processes: Path = Path("/proc")
    run: Path = Path("/run")
    busctl: tuple[str, ...] = _BUSCTL


@dataclass(frozen=True)
class Wall:
    """`kind`: "systemd", "cgroup" or ""; then `reason` says why there is none."""

    kind: str
    reason: str = ""
    folder: Path | None = None

    def __str__(self) -> str:
        if not self.kind:
            return f"memory and processes are watched, not walled by the kernel: {self.reason}"
        by = "a scope of systemd" if self.kind == "systemd" else "a control group"
        return f"memory and processes are walled by the kernel, by {by}"

    def remove(self) -> None:
        """After the container has ended. systemd removes its scopes by itself."""
        if self.folder is not None:
            _remove(self.folder)


class _Unavailable(Exception):
    """Why there is no wall of some kind."""


def raise_wall(pid: int, limits: Limits, machine: Machine | None = None) -> Wall:
    """
    Put the process and everything it has started into a control group of its own.

    Before the first command: what that starts is in it from its beginning. May wait for systemd;
    never fails.
    """
    machine = machine or Machine()
    if limits.memory is None and limits.processes is None:
        return Wall("", "neither is limited")
    reasons = []
    for kind in (_scope, _group):
        try:
            return kind(pid, limits, machine)
        except _Unavailable as error:
            reasons.append(str(error))
        except (OSError, ValueError) as error:
            reasons.append(f"{kind.__name__.strip('_')}: {error}")
    return Wall("", "; ".join(reasons))


def _scope(pid: int, limits: Limits, machine: Machine) -> Wall:
    command = _bus(machine)
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(6)}.scope"
    pids = [str(one) for one in _tree(pid, machine)]
    properties = [("PIDs", "au", str(len(pids)), *pids), ("CollectMode", "s", "inactive-or-failed")]
    if limits.memory is not None:
        properties += [
            ("MemoryMax", "t", str(limits.memory + SLACK)),
            ("MemorySwapMax", "t", "0"),
        ]
    if limits.processes is not None:
        properties.append(("TasksMax", "t", str(limits.processes + OWN_PROCESSES)))
    arguments = [part for one in properties for part in one]
    manager = "org.freedesktop.systemd1"
    call = (
        *("call", manager, "/org/freedesktop/systemd1", f"{manager}.Manager"),
        *("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"),
        *(str(len(properties)), *arguments, "0"),
    )
    done = subprocess.run(
        [*command, *call],
        capture_output=True,
        text=True,
        timeout=SCOPE_TIMEOUT + 1,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"XDG_RUNTIME_DIR": str(machine.run / "user" / str(os.geteuid()))},
        cwd="/",
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise _Unavailable(f"systemd refused: {said[-1] if said else 'no message'}")
    deadline = time.monotonic() + SCOPE_TIMEOUT
    while time.monotonic() < deadline:  # it moves the processes after it has answered
        group = _group_of(machine.processes / str(pid))
        if group.endswith(f"/{name}"):
            folder = _mount(machine) / group.lstrip("/")
            if limits.memory is not None and not (folder / "memory.max").exists():
                raise _Unavailable("systemd has no control of memory")
            return Wall("systemd")
        time.sleep(_POLL)
    raise _Unavailable("systemd did not move the container")


def _bus(machine: Machine) -> list[str]:
    """The command that talks to the systemd of this user."""
    program = next((path for path in machine.busctl if Path(path).is_file()), None)
    if program is None or not (machine.run / "systemd" / "system").is_dir():
        raise _Unavailable("there is no systemd")
    if os.geteuid() == 0:
        return [program, "--system", f"--timeout={SCOPE_TIMEOUT:g}"]
    if not (machine.run / "user" / str(os.geteuid()) / "bus").exists():
        raise _Unavailable("the systemd of this user can't be reached")
    return [program, "--user", f"--timeout={SCOPE_TIMEOUT:g}"]


def _group(pid: int, limits: Limits, machine: Machine) -> Wall:
    parent = _delegated(machine)
    _sweep(parent)
    folder = parent / f"{PREFIX}{engine_mark()}-{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        if limits.memory is not None:
            (folder / "memory.max").write_text(str(limits.memory + SLACK))
            with contextlib.suppress(OSError):  # kernels without accounting of swap
                (folder / "memory.swap.max").write_text("0")
        if limits.processes is not None:
            (folder / "pids.max").write_text(str(limits.processes + OWN_PROCESSES))
        for one in _tree(pid, machine):
            (folder / "cgroup.procs").write_text(str(one))
    except OSError:
        _remove(folder)
        raise
    return Wall("cgroup", folder=folder)


def _delegated(machine: Machine) -> Path:
    """The nearest group around this process in which groups with both controllers can be made."""
    mount = _mount(machine)
    own = mount / _group_of(machine.processes / "self").lstrip("/")
    for folder in (own, *own.parents):
        if not folder.is_relative_to(mount):
            break
        needed = (folder / "cgroup.procs", folder / "cgroup.subtree_control")
        if not all(os.access(path, os.W_OK) for path in (folder, *needed)):
            continue
        if not set((folder / "cgroup.controllers").read_text("ascii").split()) >= CONTROLLERS:
            continue
        with contextlib.suppress(OSError):  # processes are in it: then one further up
            if not set(needed[1].read_text("ascii").split()) >= CONTROLLERS:
                needed[1].write_text("+memory +pids")
            return folder
    raise _Unavailable("no control group with memory and pids is delegated to this user")


def _mount(machine: Machine) -> Path:
    for folder in (machine.groups, machine.groups / "unified"):
        if (folder / "cgroup.controllers").is_file():
            return folder
    raise _Unavailable("there are no control groups of version 2")


def _group_of(process: Path) -> str:
    for line in (process / "cgroup").read_text("utf-8", "surrogateescape").splitlines():
        if line.startswith("0::"):
            return line[3:]
    raise _Unavailable("this process is in no control group of version 2")


def _tree(pid: int, machine: Machine) -> Iterator[int]:
    yield pid
    children = machine.processes / str(pid) / "task" / str(pid) / "children"
    for child in children.read_text("ascii").split():
        yield from _tree(int(child), machine)


def _sweep(parent: Path) -> None:
    """Remove the groups of engines that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        mark = folder.name.removeprefix(PREFIX).rpartition("-")[0]
        if folder.is_dir() and not is_alive(mark):
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
            _remove(folder)


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # its last process is just ending: the next start does it
        folder.rmdir()
