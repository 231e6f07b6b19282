"""A command in the session's container, its output in the cell as it comes."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from .._errors import TurnInterrupted, describe
from .._frontend import cell_id, current_shell, kernel_of
from .._text import printable
from ._pump import CommPump
from ._wait import waiting_pump

if TYPE_CHECKING:
    from ...client import SessionHandle, ShellStream
    from ...wire import ShellResult

__all__ = ["ShellSettings", "run_shell"]

_SHOWN = 512 << 10  # characters per stream; Jupyter servers drop output above 1 MB/s
_FRAME = 0.1  # seconds
_MOST_STOPS = 2  # the first interrupts, the second kills


@dataclass(frozen=True, slots=True)
class ShellSettings:
    """`timeout` in seconds, `None` for the engine's default; `cwd` defaults to /workspace."""

    timeout: float | None = None
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    stream: str
    text: str


def run_shell(
    acquire: Callable[[], SessionHandle], command: str, settings: ShellSettings
) -> ShellResult:
    """
    Run `command` in the session that `acquire()` returns and print what it prints.

    Stop is Ctrl-C for the command: what it prints until its end is shown, with its exit code. A
    second one kills it, a third one waits for nothing any more.

    Raises `TurnFailed` when it could not be run at all, and `TurnInterrupted` after a Stop. A
    non-zero exit code is shown, not raised.
    """
    shell = current_shell()
    in_page = kernel_of(shell) is not None and bool(cell_id(shell))
    writers = {
        "stdout": _Writer(lambda: sys.stdout, raw=in_page),
        "stderr": _Writer(lambda: sys.stderr, raw=in_page),
    }
    try:
        with waiting_pump() as pump:
            running = _Command(pump, acquire, command, settings)
            result = running.follow(writers)
    except KeyboardInterrupt:
        raise TurnInterrupted("the command was stopped") from None
    for writer in writers.values():
        writer.finish()
    _report(result, settings)
    if running.stops:
        raise TurnInterrupted("the command was stopped")
    return result


class _Command:
    """One command, read on a thread of its own while the cell's thread waits at the pump."""

    def __init__(
        self,
        pump: CommPump,
        acquire: Callable[[], SessionHandle],
        command: str,
        settings: ShellSettings,
    ) -> None:
        self._pump = pump
        self._acquire = acquire
        self._command = command
        self._settings = settings
        self.stops = 0
        """How often Stop was pressed."""
        self._lock = threading.Lock()
        self._stopped = False
        self._stream: ShellStream | None = None

    def follow(self, writers: Mapping[str, _Writer]) -> ShellResult:
        threading.Thread(target=self._run, name="agent-magics shell", daemon=True).start()
        while True:
            try:
                item = self._pump.get(_FRAME)
                if isinstance(item, _Chunk):
                    writers[item.stream].write(item.text)
                elif isinstance(item, Exception):
                    raise describe(item)
                else:
                    result: ShellResult = item
                    return result
            except queue.Empty:
                continue
            except KeyboardInterrupt:
                self.stops += 1
                if not self._interrupt():
                    self._stop()
                    raise

    def _interrupt(self) -> bool:
        """Ctrl-C to the command; False when it has not begun, or does not end by it."""
        with self._lock:
            stream = self._stream
        if stream is None or self.stops > _MOST_STOPS:
            return False
        if not stream.running:
            return stream.result is not None
        work = threading.Thread(
            target=self._send_interrupt,
            args=(stream, self.stops == _MOST_STOPS),
            name="agent-magics interrupt",
            daemon=True,
        )
        work.start()
        return True

    def _send_interrupt(self, stream: ShellStream, kill: bool) -> None:
        try:
            stream.interrupt(kill=kill)
        except Exception as error:
            self._pump.post(error)

    def _stop(self) -> None:
        """Leave the command to the engine, which ends it."""
        with self._lock:
            self._stopped = True
            stream = self._stream
        if stream is not None:  # closing it takes a moment
            threading.Thread(
                target=_close, args=(stream,), name="agent-magics stop", daemon=True
            ).start()

    def _run(self) -> None:
        limit = self._settings.timeout
        try:
            session = self._acquire()
            with session.shell_stream(
                self._command,
                timeout=None if limit is None else timedelta(seconds=limit),
                cwd=self._settings.cwd,
            ) as stream:
                with self._lock:
                    self._stream = stream
                    if self._stopped:
                        return
                for output in stream:
                    self._pump.post(_Chunk(output.stream, output.text))
            self._pump.post(stream.result)
        except Exception as error:
            self._pump.post(error)


def _close(stream: ShellStream) -> None:
    from ...client import AgentError

    with contextlib.suppress(AgentError, OSError):  # a lost engine has ended the command as well
        stream.close()


class _Writer:
    """
    Prints one stream of the command, up to a limit.

    In a notebook the front end renders the text (`raw`); a terminal, also that of a console with a
    kernel, gets it without control sequences other than colours.
    """

    def __init__(self, stream: Callable[[], TextIO], *, raw: bool) -> None:
        self._stream = stream
        self._raw = raw
        self._left = _SHOWN
        self._hidden = 0

    def write(self, text: str) -> None:
        shown, hidden = text[: self._left], len(text) - self._left
        self._left -= len(shown)
        self._hidden += max(hidden, 0)
        self._stream().write(shown if self._raw else printable(shown, colours=True))
        if not self._raw:
            self._stream().flush()

    def finish(self) -> None:
        if self._hidden:
            self._stream().write(f"\n[{self._hidden} more characters are not shown]\n")
        self._stream().flush()


def _report(result: ShellResult, settings: ShellSettings) -> None:
    line = ""
    if result.timed_out:
        limit = f" after {settings.timeout:g} s" if settings.timeout else ""
        line = f"timed out{limit}, exit code {result.exit_code}"
    elif result.exit_code:
        line = f"exit code {result.exit_code}"
    if result.truncated:
        line = f"{line}, output truncated" if line else "output truncated"
    if line:
        sys.stderr.write(f"[{line}]\n")
        sys.stderr.flush()
