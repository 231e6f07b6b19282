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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_magics.wire import PROTOCOL

from ._endpoint import Endpoint, Health
from ._errors import EngineStartError, ProtocolMismatch
from ._state_dir import EngineFile, StateDir

__all__ = ["EngineLauncher", "check_protocol", "ensure_engine"]

_MODULE = "agent_magics.engine"
_LOG_LIMIT = 4 * 1024 * 1024
_LOG_TAIL_LINES = 12
_LAST_WORDS = "agent-magics engine: "
"""How the engine begins the sentence with which it gives up."""
_END_PATIENCE = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
"""How to end a hung engine: which signal, and the seconds that it gets."""


def ensure_engine(state_dir: Path | str | None = None) -> Endpoint:
    """
    The address of the embedded engine, which is started when it does not run.

    Raises `EngineStartError` or `ProtocolMismatch`.
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
    `hang_timeout` for a running one to answer before it is taken for dead.
    """

    state: StateDir
    command: Sequence[str] = (sys.executable, "-m", _MODULE)
    environ: Mapping[str, str] | None = None
    start_timeout: float = 60.0
    hang_timeout: float = 15.0
    probe_timeout: float = 2.0

    def ensure(self) -> Endpoint:
        """
        Find or start the engine. Blocks; any number of processes and threads may call it at once.

        Raises `EngineStartError` or `ProtocolMismatch`.
        """
        self.state.prepare()
        if found := self._find(self.probe_timeout):
            return found
        with self._locked():
            if found := self._find(self.probe_timeout) or self._wait_for_silent_engine():
                return found
            return self._start()

    def _find(self, timeout: float) -> Endpoint | None:
        engine = self.state.read()
        if engine is None or not _is_alive(engine.pid):
            return None
        return self._probe(engine, timeout)

    def _probe(self, engine: EngineFile, timeout: float) -> Endpoint | None:
        import http.client

        endpoint = self.state.endpoint(engine)
        try:
            health = endpoint.get_health(timeout=timeout)
        except (OSError, http.client.HTTPException, ValueError):
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

    def _wait_for_silent_engine(self) -> Endpoint | None:
        """
        With the lock held: there is a process that does not answer.

        It may be about to leave, or too busy; only when it stays silent is it ended.
        """
        deadline = time.monotonic() + self.hang_timeout
        while (engine := self.state.read()) and self._is_engine(engine.pid):
            if found := self._probe(engine, self.probe_timeout):
                return found
            if time.monotonic() > deadline:
                self._kill(engine.pid)
                return None
            time.sleep(0.05)
        return None

    def _is_engine(self, pid: int) -> bool:
        """Whether `pid` is an engine of this directory, not a process that got its old number."""
        if not _is_alive(pid):
            return False
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self.state.path) in arguments

    def _kill(self, pid: int) -> None:
        for number, patience in _END_PATIENCE:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if not self._is_engine(pid):
                    return
                time.sleep(0.02)
        raise EngineStartError(f"The engine (process {pid}) does not answer and cannot be ended.")

    def _start(self) -> Endpoint:
        offset = self._rotate_log()
        read_end, write_end = os.pipe()
        try:
            try:
                process = self._spawn(write_end)
            finally:
                os.close(write_end)
            self._wait_until_ready(read_end, process, offset)
        finally:
            os.close(read_end)
        engine = self.state.read()
        found = self._probe(engine, self.start_timeout) if engine else None
        if found is None:
            raise EngineStartError("The engine started but does not answer." + self._tail(offset))
        return found

    def _spawn(self, ready_fd: int) -> subprocess.Popen[bytes]:
        environ = dict(os.environ if self.environ is None else self.environ)
        if root := _source_root():
            environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environ.get("PYTHONPATH"))))
        arguments = ["--state-dir", str(self.state.path), "--ready-fd", str(ready_fd)]
        log = os.open(self.state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
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
            os.close(log)
        threading.Thread(target=process.wait, name="agent-magics-reaper", daemon=True).start()
        return process

    def _wait_until_ready(
        self, read_end: int, process: subprocess.Popen[bytes], offset: int
    ) -> None:
        poll = select.poll()
        poll.register(read_end, select.POLLIN)
        if not poll.poll(self.start_timeout * 1000):
            process.kill()
            reason = f"The engine was not ready after {self.start_timeout:g} s."
        elif os.read(read_end, 1):
            return
        else:
            reason = "The engine ended while it started."
            if said := self._last_words(offset):
                raise EngineStartError(f"The engine can't start: {said}")
        raise EngineStartError(reason + self._tail(offset))

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
        try:
            size = self.state.log.stat().st_size
        except OSError:
            return 0
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
    def _locked(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError as error:
            raise EngineStartError(
                "The embedded engine needs a POSIX system; run `agent-magics serve` elsewhere and "
                "pass its URL."
            ) from error
        handle = os.open(self.state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _is_alive(pid: int) -> bool:
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
