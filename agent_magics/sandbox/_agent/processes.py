"""Processes inside the container: who descends from whom, what they use, how to end them."""

# plain os.path: importing pathlib would add a third to the start-up time
# ruff: noqa: PTH112, PTH116, PTH123, PTH208

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36

KILL_DEADLINE = 1.5
"""Seconds that `kill_tree` chases processes which fork faster than they are killed."""


def prctl(option: int, value: int) -> bool:
    """Set an attribute of this process; False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes
    except ImportError:
        return False
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def parents() -> dict[int, int]:
    """Every living process and its parent; zombies are left out."""
    if not os.path.isdir("/proc/self"):
        return _parents_from_ps()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            # the command's name may hold anything, even ") "
            fields = line[line.rindex(b")") + 2 :].split()
            if fields[0] not in b"ZX":
                found[int(name)] = int(fields[1])
    return found


def _parents_from_ps() -> dict[int, int]:
    import subprocess

    out = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,stat="], capture_output=True, check=False
    ).stdout
    rows = [line.split() for line in out.splitlines()]
    return {int(r[0]): int(r[1]) for r in rows if len(r) > 2 and not r[2].startswith(b"Z")}


def descendants(root: int) -> list[int]:
    """All living processes below `root`, without `root` itself."""
    if _childless(root):
        return []
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _childless(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return not file.read(1)
    except OSError:  # not Linux, or a kernel without this file: the long way
        return False


def command_line(pid: int) -> str:
    """What a process was started with; empty where that can't be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            found = file.read(4096)
    except OSError:
        return ""
    return found.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def open_files(pids: Iterable[int]) -> int:
    """Descriptors of these processes; 0 where the kernel does not count them (before 6.2)."""
    total = 0
    for pid in pids:
        try:
            total += os.stat(f"/proc/{pid}/fd").st_size
        except OSError:
            continue
    return total


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def kill_tree(root: int) -> None:
    """
    Kill everything below `root`: stop first, so that nothing forks behind our back, then kill.

    As PID 1 the last resort is to leave: the kernel then ends the whole container at once.
    """
    deadline = time.monotonic() + KILL_DEADLINE
    while time.monotonic() < deadline:
        seen: set[int] = set()
        while time.monotonic() < deadline:
            new = [pid for pid in descendants(root) if pid not in seen]
            if not new:
                break
            signal_all(new, signal.SIGSTOP)
            seen.update(new)
        if not seen:
            return
        signal_all(seen, signal.SIGKILL)
        time.sleep(0.002)
    if os.getpid() == 1:
        os._exit(99)


def resident(pids: Iterable[int]) -> int:
    """
    Memory in bytes that these processes hold: anonymous, shared and swapped out.

    Quick and too high for processes that share memory; `proportional` is exact and slow.
    """
    return sum(_resident(pid) for pid in pids)


def proportional(pids: Iterable[int]) -> int:
    """Memory in bytes of these processes, with shared pages counted once."""
    total = 0
    for pid in pids:
        used = _kilobytes(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))
        total += _resident(pid) if used is None else used
    return total


def _resident(pid: int) -> int:
    names = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
    return _kilobytes(f"/proc/{pid}/status", names) or 0


def _kilobytes(path: str, names: tuple[bytes, ...]) -> int | None:
    """Sum of the named `Name:  123 kB` lines of a file, in bytes; None where it can't be read."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith(names)) << 10


def available_memory() -> int | None:
    """Memory in bytes that the machine can still give out."""
    return _kilobytes("/proc/meminfo", (b"MemAvailable:",))


def system_v_memory() -> int:
    """Bytes in System V shared memory of this IPC namespace: it belongs to no process."""
    return sum(int(row[14]) + int(row[15]) for row in _segments())


def release_system_v_memory() -> None:
    """Remove the segments that no process is attached to."""
    import ctypes

    for row in _segments():
        if row[6] == b"0":
            ctypes.CDLL(None).shmctl(int(row[1]), 0, None)


def _segments() -> list[list[bytes]]:
    try:
        with open("/proc/sysvipc/shm", "rb") as file:
            rows = [line.split() for line in file.read().splitlines()[1:]]
    except OSError:
        return []
    return [row for row in rows if len(row) > 15]
