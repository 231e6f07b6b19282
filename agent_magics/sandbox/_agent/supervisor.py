"""One supervisor process per command: it adopts whatever the command leaves behind."""

# plain os.path: importing pathlib would add a third to the start-up time
# ruff: noqa: PTH123

from __future__ import annotations

import os
import signal
import struct
import time

from .processes import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    descendants,
    kill_tree,
    prctl,
    signal_all,
)
from .quotas import set_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

STATUS = struct.Struct(">iI")
"""What a supervisor reports once: the command's exit code (negative: signal), processes left."""

LONGEST_NAP = 2.0
MOST_DESCRIPTORS = 1 << 13
"""Descriptors this program may have open; each command takes three."""
CANNOT_START = 126


def supervise(
    request: dict[str, Any],
    config: dict[str, Any],
    streams: tuple[int, int, int],
    status: int,
) -> NoReturn:
    """
    Run the command, report its end on `status`, stay until its last descendant is gone.

    SIGINT is blocked when this begins, until somebody is there to take it.
    """
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    close_all_but([0, 1, 2, *streams, status])
    command = _Foreground()
    try:
        main = os.fork()
    except OSError as error:
        _complain(streams[2], error)
        os.write(status, STATUS.pack(CANNOT_START, 0))
        os._exit(0)
    if main == 0:
        os.close(status)
        _execute(request, config, streams)
    command.begin(main)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for fd in streams:
        os.close(fd)
    while True:
        pid, code = os.waitpid(-1, 0)
        if pid == main:
            command.end()
            break
    left = len(descendants(os.getpid()))
    os.write(status, STATUS.pack(os.waitstatus_to_exitcode(code), left))
    _guard_leftovers(config["background"])
    os._exit(0)


class _Foreground:
    """Hands SIGINT on to the process group of the command in front, as a terminal does."""

    def __init__(self) -> None:
        self._main = 0
        self._interrupted = False
        signal.signal(signal.SIGINT, self._interrupt)

    def begin(self, main: int) -> None:
        self._main = main
        if self._interrupted:
            self._pass_on()

    def end(self) -> None:
        """Its number may be another's from now on."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True
        if self._main:
            self._pass_on()

    def _pass_on(self) -> None:
        try:
            os.killpg(self._main, signal.SIGINT)
        except OSError:  # not yet a group of its own
            signal_all([self._main], signal.SIGINT)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    start = 0
    for fd in [*sorted(set(keep)), MOST_DESCRIPTORS]:
        if start < fd:  # an empty range is taken for "everything" by some Pythons
            os.closerange(start, fd)
        start = fd + 1


def _guard_leftovers(most: int) -> None:
    """Reap until nothing is left. Servers may stay; a growing crowd may not."""
    nap = 0.05
    while True:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if len(descendants(os.getpid())) > most:
            kill_tree(os.getpid())
        if reaped == 0:
            time.sleep(nap)
            nap = min(LONGEST_NAP, nap * 1.5)


def _execute(
    request: dict[str, Any], config: dict[str, Any], streams: tuple[int, int, int]
) -> NoReturn:
    """Become the command; what prevents it is said on its stderr, with exit code 126."""
    stdin, stdout, stderr = streams
    try:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        close_all_but([0, 1, 2])
        _prefer_as_oom_victim()
        set_limits(config["rlimits"])
        os.chdir(request["cwd"])
        os.execve("/bin/bash", ["bash", "-c", request["command"]], request["env"])
    except (OSError, ValueError) as error:
        _complain(2, error)
    finally:
        os._exit(CANNOT_START)


def _complain(fd: int, error: Exception) -> None:
    os.write(fd, f"sandbox: cannot start command: {error}\n".encode(errors="replace"))


def _prefer_as_oom_victim() -> None:
    """When the machine runs out of memory the kernel shall take commands, not the notebook."""
    prctl(PR_SET_DUMPABLE, 1)  # else this file is not ours; the command's exec would do the same
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")
    except OSError:
        return
