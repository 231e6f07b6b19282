"""
Find the user's embedded engine, or start it.

One engine serves all kernels of a user. It is a detached process: it survives an interrupt and a
restart of the kernel that started it, and leaves on its own when the last client is gone. A lock
that the operating system drops with its holder makes sure that only one is started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_magics.wire import PROTOCOL

from ._endpoint import Endpoint, Health
from ._errors import ConnectionFailed, EngineNotResponding, EngineStartError, ProtocolMismatch
from ._state_dir import EngineFile, StateDir

__all__ = ["EngineLauncher", "check_protocol", "ensure_engine", "is_alive"]

_MODULE = "agent_magics.engine"
_LOG_LIMIT = 4 * 1024 * 1024
_LOG_TAIL_LINES = 12
_LAST_WORDS = "agent-magics engine: "
"""How the engine begins the sentence with which it gives up."""
_END_PATIENCE = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
"""How to end a hung engine: which signal, and the seconds that it gets."""
_PAUSE = 0.05
_SLICE = 0.2
_TELL_AFTER = 3.0
"""Seconds of silence after which a patient caller is told."""
_SLOW_START = 15.0
"""The same while an engine starts."""


def ensure_engine(state_dir: Path | str | None = None) -> Endpoint:
    """
    The address of the embedded engine, which is started when it does not run.

    Raises `EngineStartError`, `EngineNotResponding` or `ProtocolMismatch`.
    """
    directory = StateDir(Path(state_dir).absolute()) if state_dir else StateDir.default()
    return EngineLauncher(directory).ensure()


def check_protocol(health: Health) -> None:
    """Raise `ProtocolMismatch` for a server that this client does not understand."""
    if health.protocol > PROTOCOL:
        raise ProtocolMismatch(
            f"The server (version {health.version}) speaks protocol {health.protocol}, this client "
            f"only {PROTOCOL}: upgrade agent-magics here (pip install -U agent-magics)."
        )


@dataclass(frozen=True, slots=True)
class EngineLauncher:
    """
    `command` is the start of the engine's command line, this interpreter with the engine's module
    by default. Times are in seconds: `start_timeout` for a new engine to be ready,
    `hang_timeout` for a running one to answer, before it is replaced if it has nothing to do: one
    that has turns is only replaced when its process is dead. `probe_timeout` is for one question.
    """

    state: StateDir
    command: Sequence[str] = (sys.executable, "-m", _MODULE)
    environ: Mapping[str, str] | None = None
    start_timeout: float = 60.0
    hang_timeout: float = 15.0
    probe_timeout: float = 2.0

    def ensure(
        self,
        timeout: float | None = None,
        *,
        on_silent: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Endpoint:
        """
        Find or start the engine. Blocks; any number of processes and threads may call it at once.

        `timeout` is in seconds, for all of it; `start_timeout` when it is not given. With
        `on_silent` there is no such end while a process runs that does not answer: `on_silent` is
        called with a sentence that says so. Ends soon after `cancelled` was set.

        Raises `EngineStartError`, `EngineNotResponding` or `ProtocolMismatch`.
        """
        wait = _Wait(timeout or self.start_timeout, on_silent, cancelled or threading.Event())
        self.state.prepare()
        silent: EngineFile | None = None
        since = 0.0
        while True:
            if (engine := self._running()) is None:
                with self._locked(wait):
                    if self._running() is None:
                        return self._start(wait)
            elif found := self._probe(engine, min(self.probe_timeout, wait.remaining)):
                return found
            elif engine != silent:
                silent, since = engine, time.monotonic()
            elif time.monotonic() - since > self.hang_timeout and self.state.is_idle(engine):
                with self._locked(wait):
                    if self._running() == engine and not self._probe(engine, self.probe_timeout):
                        self._replace(engine)
            else:
                wait.bear(EngineNotResponding.after(wait.waited, engine.pid))

    def answers(self, endpoint: Endpoint) -> bool:
        """Whether the engine there is well. Blocks for `probe_timeout` seconds at most."""
        try:
            return endpoint.get_health(timeout=self.probe_timeout).healthy
        except (OSError, ValueError):
            return False

    def _running(self) -> EngineFile | None:
        """What the directory says of its engine, if its process still runs."""
        engine = self.state.read()
        return engine if engine is not None and self._is_engine(engine) else None

    def _probe(self, engine: EngineFile, timeout: float) -> Endpoint | None:
        endpoint = self.state.endpoint(engine)
        try:
            health = endpoint.get_health(timeout=timeout)
        except (OSError, ValueError):
            return None
        if not health.healthy:
            return None
        check_protocol(health)
        if health.protocol < PROTOCOL:
            raise ProtocolMismatch(
                f"An older engine (version {health.version}, process {engine.pid}) still runs: "
                "close the notebooks that use it, or end that process, and try again."
            )
        return endpoint

    def _is_engine(self, engine: EngineFile) -> bool:
        """Whether this process is the engine, not one that got its old number."""
        if not is_alive(engine.pid):
            return False
        if engine.birth:
            return _birth(engine.pid) == engine.birth
        try:
            arguments = Path(f"/proc/{engine.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self.state.path) in arguments

    def _replace(self, engine: EngineFile) -> None:
        """With the lock held: end an engine that is silent and has nothing to do."""
        for number, patience in _END_PATIENCE:
            if not self.state.is_idle(engine):
                return  # it has woken up, and has something to do
            with contextlib.suppress(ProcessLookupError):
                os.kill(engine.pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self._running() != engine:
                    return
                time.sleep(0.02)
        raise EngineNotResponding(
            f"The engine (process {engine.pid}) does not answer and cannot be ended.", engine.pid
        )

    def _start(self, wait: _Wait) -> Endpoint:
        offset = self._rotate_log()
        read_end, write_end = os.pipe()
        try:
            try:
                process = self._spawn(write_end)
            finally:
                os.close(write_end)
            self._wait_until_ready(read_end, process, offset, wait)
        finally:
            os.close(read_end)
        engine = self.state.read()
        found = self._probe(engine, max(wait.remaining, self.probe_timeout)) if engine else None
        if found is None:
            raise EngineStartError("The engine started but does not answer." + self._tail(offset))
        return found

    def _spawn(self, ready_fd: int) -> subprocess.Popen[bytes]:
        environ = dict(os.environ if self.environ is None else self.environ)
        if root := _source_root():
            environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environ.get("PYTHONPATH"))))
        arguments = ["--state-dir", str(self.state.path), "--ready-fd", str(ready_fd)]
        log = None
        try:
            log = os.open(self.state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            process = subprocess.Popen(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_fd],
                start_new_session=True,
                cwd="/",
                env=environ,
            )
        except OSError as error:
            raise EngineStartError(f"The engine could not be started: {error}") from error
        finally:
            if log is not None:
                os.close(log)
        threading.Thread(target=process.wait, name="agent-magics-reaper", daemon=True).start()
        return process

    def _wait_until_ready(
        self, read_end: int, process: subprocess.Popen[bytes], offset: int, wait: _Wait
    ) -> None:
        poll = select.poll()
        poll.register(read_end, select.POLLIN)
        deadline = time.monotonic() + self.start_timeout
        while not poll.poll(_SLICE * 1000):
            if time.monotonic() > deadline:
                self._give_up(process, offset)
            wait.bear(
                EngineStartError(
                    f"The engine (process {process.pid}) is still starting after "
                    f"{wait.waited:.3g} s: try again later, or end it: kill -9 {process.pid}"
                ),
                _SLOW_START,
            )
        if not os.read(read_end, 1):
            if said := self._last_words(offset):
                raise EngineStartError(f"The engine can't start: {said}")
            raise EngineStartError("The engine ended while it started." + self._tail(offset))

    def _give_up(self, process: subprocess.Popen[bytes], offset: int) -> None:
        """End what has not even announced itself; an engine is left to its recovery."""
        engine = self.state.read()
        if engine is None or engine.pid != process.pid:
            process.kill()
        raise EngineStartError(
            f"The engine was not ready after {self.start_timeout:g} s." + self._tail(offset)
        )

    def _last_words(self, offset: int) -> str:
        """The one sentence with which the engine gave up, if it did."""
        try:
            with self.state.log.open("rb") as log:
                log.seek(offset)
                lines = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        last = lines[-1] if lines else ""
        return last.removeprefix(_LAST_WORDS) if last.startswith(_LAST_WORDS) else ""

    def _rotate_log(self) -> int:
        """Keep the log small; the number of bytes that are in it already."""
        with contextlib.suppress(OSError):
            size = self.state.log.stat().st_size
            if size <= _LOG_LIMIT:
                return size
            self.state.log.replace(self.state.log.with_suffix(".log.1"))
        return 0

    def _tail(self, offset: int) -> str:
        try:
            with self.state.log.open("rb") as log:
                log.seek(offset)
                text = log.read().decode("utf-8", "replace")
        except OSError:
            text = ""
        lines = text.strip().splitlines()[-_LOG_TAIL_LINES:]
        where = f" Its log is {self.state.log}"
        return where + (":\n" + "\n".join(lines) if lines else " (empty).")

    @contextlib.contextmanager
    def _locked(self, wait: _Wait) -> Iterator[None]:
        try:
            import fcntl
        except ImportError as error:
            raise EngineStartError(
                "The embedded engine needs a POSIX system; run `agent-magics serve` elsewhere and "
                "pass its URL."
            ) from error
        try:
            handle = os.open(self.state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineStartError(f"The engine could not be started: {error}") from error
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    wait.bear(
                        EngineStartError(
                            "Another process has been starting the engine for "
                            f"{wait.waited:.3g} s: try again later."
                        )
                    )
            yield
        finally:
            os.close(handle)


class _Wait:
    """How long one caller of `ensure()` waits, and who is told."""

    def __init__(
        self, timeout: float, on_silent: Callable[[str], None] | None, cancelled: threading.Event
    ) -> None:
        self._began = time.monotonic()
        self._timeout = timeout
        self._on_silent = on_silent
        self._cancelled = cancelled
        self._told = False

    @property
    def waited(self) -> float:
        return time.monotonic() - self._began

    @property
    def remaining(self) -> float:
        """Seconds until the time is up; never nothing, one look is always taken."""
        patient = self._on_silent is not None
        return self._timeout if patient else max(0.05, self._timeout - self.waited)

    def bear(self, error: ConnectionFailed, quiet: float | None = None) -> None:
        """Wait a little longer for what `error` says, or raise it; tell it once after `quiet` s."""
        if self._cancelled.is_set():
            raise ConnectionFailed("The call was cancelled.")
        if self._on_silent is None:
            if self.waited >= self._timeout:
                raise error
        elif not self._told and self.waited > (quiet or _TELL_AFTER):
            self._told = True
            self._on_silent(str(error))
        time.sleep(_PAUSE)


def _birth(pid: int) -> int:
    """When a process began, in ticks of the kernel's clock; 0 when that is not known."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    try:
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]
    except OSError:
        return True
    return not after_name.startswith(b" Z")


def _source_root() -> str | None:
    """The directory to import this package from when it runs from a source tree."""
    root = Path(__file__).resolve().parents[2]
    installed = {"site-packages", "dist-packages"} & set(root.parts)
    return None if installed else str(root)
