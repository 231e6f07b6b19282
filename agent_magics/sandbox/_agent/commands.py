"""Commands: start, capture, drain, end."""

from __future__ import annotations

import os
import signal
import time

from .capture import Capture
from .files import unnamed_file, write_all
from .processes import command_line, descendants, kill_tree, parents, signal_all
from .protocol import CHUNK, DATA, DONE, EXIT, FAIL, STDERR, STDOUT
from .supervisor import STATUS, supervise
from .watchdog import Watchdog, heaviest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .outlet import Outlet

READ_SIZE = 1 << 16
DRAIN = 1.0
"""Seconds to wait for the end of the output once the command and all its children are gone."""
DRAIN_BACKGROUND = 0.05
"""The same while children live on: they hold the pipes open, the end may never come."""
KILL_POLL = 0.01
INTERRUPT_GRACE = 0.3
"""Seconds between SIGINT and SIGTERM."""
BUSY_CHECK = 0.1
IDLE_CHECK = 1.0
MOST_LINES, LONGEST_LINE = 50, 200
"""Of what is said about processes in the background."""


class Job:
    """A command that runs, or that ended and left processes behind."""

    def __init__(self, number: int, supervisor: int, status: int, limit: int) -> None:
        self.number = number
        self.supervisor: int | None = supervisor  # None: reaped, its number may be another's now
        self.status: int | None = status
        self.captures = {STDOUT: Capture(limit), STDERR: Capture(limit)}
        self.pipes: dict[int, int] = {}
        self.code: int | None = None
        self.background = 0
        self.killed_by: str | None = None
        self.insist: tuple[float, float] | None = None  # Ctrl-C: from when on, with what grace
        self.terminate_at: float | None = None  # it was interrupted; then it is asked to end
        self.kill_at: float | None = None  # it was asked to end; from then on it is made to
        self.finish_at: float | None = None  # it ended; from then on its output is not awaited
        self.reported = False

    def tree(self) -> list[int]:
        return [] if self.supervisor is None else descendants(self.supervisor)

    def ended(self, code: int, drain: float) -> None:
        if self.code is None:
            self.code = code
            self.finish_at = time.monotonic() + drain


class Commands:
    """All jobs of the container. `tick` drives them; descriptors are served by the outlet."""

    def __init__(self, outlet: Outlet, config: dict[str, Any]) -> None:
        self._out = outlet
        self._config = config
        self._watchdog = Watchdog(config)
        self._jobs: dict[int, Job] = {}
        self._inputs: dict[int, int | None] = {}  # None: spooling failed and was reported
        self._check_at = 0.0

    # what the host asks for

    def stdin(self, number: int, data: bytes) -> None:
        """Spool the input of a command to come: no pipe to feed, no memory held."""
        try:
            if number not in self._inputs:
                self._inputs[number] = unnamed_file(self._config["tmp"])
            spool = self._inputs[number]
            if spool is not None:
                write_all(spool, data)
        except OSError as error:
            self.forget(number)
            self._inputs[number] = None
            self._fail(number, error)

    def forget(self, number: int) -> None:
        """The command this input was meant for will not come."""
        spool = self._inputs.pop(number, None)
        if spool is not None:
            os.close(spool)

    def start(self, number: int, request: dict[str, Any]) -> None:
        if number in self._inputs and self._inputs[number] is None:
            self.forget(number)
            return
        opened: list[int] = []
        # one that comes before the supervisor can take it waits for it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            opened.append(self._open_input(number))
            for _ in range(3):
                opened += os.pipe()
            stdin, out, out_write, err, err_write, status, status_write = opened
            pid = os.fork()
        except OSError as error:
            for fd in opened:
                os.close(fd)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            self._fail(number, error)
            return
        if pid == 0:
            try:
                supervise(request, self._config, (stdin, out_write, err_write), status_write)
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for fd in (stdin, out_write, err_write, status_write):
            os.close(fd)
        job = self._jobs[number] = Job(number, pid, status, request["limit"])
        os.set_blocking(status, False)
        self._out.watch(status, lambda: self._read_status(job))
        self._watch_output(job, out, STDOUT)
        self._watch_output(job, err, STDERR)
        self._check_at = min(self._check_at, time.monotonic() + BUSY_CHECK)

    def kill(self, number: int, grace: float, reason: str) -> None:
        """
        Ask the command's tree to end; after `grace` seconds it is made to.

        What is cancelled is interrupted first, as by Ctrl-C: only the command in front gets that.
        """
        job = self._jobs.get(number)
        if job is None:
            return
        if not job.reported and job.killed_by is None:
            job.killed_by = reason
        job.kill_at = time.monotonic() + grace
        if reason == "cancelled" and job.code is None and job.supervisor is not None:
            signal_all([job.supervisor], signal.SIGINT)  # it hands it on
            job.terminate_at = time.monotonic() + INTERRUPT_GRACE
            job.kill_at += INTERRUPT_GRACE
        else:
            self._terminate(job)

    def interrupt(self, number: int, patience: float, grace: float) -> None:
        """
        Ctrl-C. A command that does not end within `patience` seconds is killed with its tree.

        When it does end, this is an end like any other, and its background lives on.
        """
        job = self._jobs.get(number)
        if job is None or job.code is not None or job.supervisor is None:
            return
        signal_all([job.supervisor], signal.SIGINT)
        if job.insist is None:
            job.insist = (time.monotonic() + patience, grace)

    def _insist(self, job: Job) -> None:
        """It has not ended after Ctrl-C."""
        if job.insist is not None and job.kill_at is None and time.monotonic() >= job.insist[0]:
            self.kill(job.number, job.insist[1], "interrupted")

    def _terminate(self, job: Job) -> None:
        tree = job.tree()
        signal_all(tree, signal.SIGTERM)
        signal_all(tree, signal.SIGCONT)  # a stopped process would sleep through its last chance
        job.terminate_at = None

    def list_jobs(self, number: int) -> None:
        """Send the command lines of what finished commands left running."""
        left = [pid for job in self._jobs.values() if job.reported for pid in job.tree()]
        lines = [command_line(pid)[:LONGEST_LINE] for pid in left[:MOST_LINES]]
        self._out.send_json(DATA, number, [line for line in lines if line])
        self._out.send(DONE, number)

    def kill_all(self) -> None:
        """The host is gone. (The end of a PID 1 ends all others by itself.)"""
        if os.getpid() == 1:
            return
        for job in self._jobs.values():
            self._kill_now(job)

    # the loop

    def timeout(self) -> float | None:
        """Seconds until `tick` is wanted; None: not before something happens."""
        if not self._jobs:
            return None
        now = time.monotonic()
        times = [self._check_at]
        for job in self._jobs.values():
            if job.kill_at is not None:
                times.append(now + KILL_POLL)
            elif job.finish_at is not None and not job.reported:
                times.append(job.finish_at)
            elif job.insist is not None and job.code is None:
                times.append(job.insist[0])
        return max(0.0, min(times) - now)

    def tick(self) -> None:
        self._reap()
        for job in list(self._jobs.values()):
            if job.code is None:
                self._insist(job)
            if job.terminate_at is not None and (
                job.code is not None or time.monotonic() >= job.terminate_at
            ):
                self._terminate(job)
            if job.kill_at is not None and (time.monotonic() >= job.kill_at or not job.tree()):
                self._kill_now(job)
            if job.code is not None and job.kill_at is None and not job.reported:
                late = job.finish_at is not None and time.monotonic() >= job.finish_at
                if late or not job.pipes:
                    self._report(job)
            if job.reported and job.supervisor is None:
                self._drop(job)
        if self._jobs and time.monotonic() >= self._check_at:
            self._check()

    def _check(self) -> None:
        self._collect_orphans()
        reason = self._watchdog.excess()
        living = {job.supervisor: job for job in self._jobs.values() if job.supervisor is not None}
        if reason is not None and living:
            job = living[heaviest(list(living), reason)]
            if not job.reported:
                job.killed_by = reason
            self._kill_now(job)
        busy = any(not job.reported for job in self._jobs.values())
        self._check_at = time.monotonic() + (BUSY_CHECK if busy else IDLE_CHECK)

    def _kill_now(self, job: Job) -> None:
        if job.supervisor is not None:
            kill_tree(job.supervisor)
            self._read_status(job)  # it may have reported an exit code before
            signal_all([job.supervisor], signal.SIGKILL)
        self._collect_orphans()
        job.kill_at = None
        job.ended(-signal.SIGKILL, DRAIN_BACKGROUND)

    def _report(self, job: Job) -> None:
        for fd in list(job.pipes):
            self._read_output(job, fd)
        truncated = any(capture.truncated for capture in job.captures.values())
        for stream, capture in job.captures.items():
            rest = capture.finish()
            for start in range(0, len(rest), CHUNK):
                self._out.send(stream, job.number, rest[start : start + CHUNK])
        job.captures.clear()
        job.reported = True
        result = {
            "code": job.code,
            "killed_by": job.killed_by,
            "truncated": truncated,
            "background": job.background,
        }
        self._out.send_json(EXIT, job.number, result)

    def _drop(self, job: Job) -> None:
        for fd in list(job.pipes):
            self._close_output(job, fd)
        if job.status is not None:
            self._close_status(job, job.status)
        del self._jobs[job.number]

    # processes

    def _reap(self) -> None:
        """Collect ended children: supervisors, and orphans as far as they are ours."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for job in self._jobs.values():
                if job.supervisor == pid:
                    self._read_status(job)
                    job.supervisor = None
                    if job.code is None:  # somebody killed the supervisor
                        self._collect_orphans()
                        job.ended(-signal.SIGKILL, DRAIN_BACKGROUND)

    def _collect_orphans(self) -> None:
        """Kill what lost its supervisor: it belongs to no command any more."""
        known = {job.supervisor for job in self._jobs.values()}
        me = os.getpid()
        lost = [pid for pid, parent in parents().items() if parent == me and pid not in known]
        for pid in lost:
            kill_tree(pid)
        signal_all(lost, signal.SIGKILL)

    # descriptors

    def _open_input(self, number: int) -> int:
        spool = self._inputs.pop(number, None)
        if spool is None:
            return os.open(os.devnull, os.O_RDONLY)
        os.lseek(spool, 0, os.SEEK_SET)
        return spool

    def _watch_output(self, job: Job, fd: int, stream: int) -> None:
        os.set_blocking(fd, False)
        job.pipes[fd] = stream
        self._out.watch(fd, lambda: self._read_output(job, fd), output=True)

    def _read_output(self, job: Job, fd: int) -> None:
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_output(job, fd)
        elif not job.reported:  # what comes later is from the background: drained and dropped
            stream = job.pipes[fd]
            now = job.captures[stream].feed(data)
            if now:
                self._out.send(stream, job.number, now)

    def _close_output(self, job: Job, fd: int) -> None:
        del job.pipes[fd]
        self._out.unwatch(fd)
        os.close(fd)

    def _read_status(self, job: Job) -> None:
        if job.status is None:
            return
        try:
            data = os.read(job.status, STATUS.size)
        except BlockingIOError:
            return
        if len(data) == STATUS.size:
            code, job.background = STATUS.unpack(data)
            job.ended(code, DRAIN_BACKGROUND if job.background else DRAIN)
        elif not data:
            self._close_status(job, job.status)

    def _close_status(self, job: Job, fd: int) -> None:
        job.status = None
        self._out.unwatch(fd)
        os.close(fd)

    def _fail(self, number: int, error: OSError) -> None:
        message = error.strerror or "failed"
        self._out.send_json(FAIL, number, {"errno": error.errno or 0, "message": message})
