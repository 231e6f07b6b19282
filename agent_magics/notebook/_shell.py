"""A command in the session's container, its output in the cell as it comes."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from ._errors import TurnInterrupted, describe
from ._frontend import current_shell, kernel_of
from ._pump import CommPump
from ._text import printable

if TYPE_CHECKING:
    from ..client import SessionHandle
    from ..wire import ShellResult

__all__ = ["ShellSettings", "run_shell"]

_SHOWN = 512 << 10  # characters per stream; Jupyter servers drop output above 1 MB/s
_FRAME = 0.1  # seconds


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

    Raises `TurnFailed` when it could not be run at all, and `TurnInterrupted` after a Stop. A
    non-zero exit code is shown, not raised.
    """
    kernel = kernel_of(current_shell())
    writers = {
        "stdout": _Writer(lambda: sys.stdout, raw=kernel is not None),
        "stderr": _Writer(lambda: sys.stderr, raw=kernel is not None),
    }
    try:
        with CommPump(kernel) as pump:
            result = _follow(pump, acquire, command, settings, writers)
    except KeyboardInterrupt:
        raise TurnInterrupted("the command was stopped") from None
    for writer in writers.values():
        writer.finish()
    _report(result, settings)
    return result


def _follow(
    pump: CommPump,
    acquire: Callable[[], SessionHandle],
    command: str,
    settings: ShellSettings,
    writers: dict[str, _Writer],
) -> ShellResult:
    stopped = threading.Event()
    threading.Thread(
        target=_run, args=(pump, stopped, acquire, command, settings), daemon=True
    ).start()
    try:
        while True:
            try:
                item = pump.get(_FRAME)
            except queue.Empty:
                continue
            if isinstance(item, _Chunk):
                writers[item.stream].write(item.text)
            elif isinstance(item, Exception):
                raise describe(item)
            else:
                result: ShellResult = item
                return result
    except KeyboardInterrupt:
        stopped.set()
        raise


class _Stopped(Exception):
    """Raised in the output callback: leaving the request ends the command."""


def _run(
    pump: CommPump,
    stopped: threading.Event,
    acquire: Callable[[], SessionHandle],
    command: str,
    settings: ShellSettings,
) -> None:
    def on_output(stream: str, text: str) -> None:
        if stopped.is_set():
            raise _Stopped
        pump.post(_Chunk(stream, text))

    try:
        session = acquire()
        pump.post(
            session.shell(command, timeout=settings.timeout, cwd=settings.cwd, on_output=on_output)
        )
    except Exception as error:
        pump.post(error)


class _Writer:
    """
    Prints one stream of the command, up to a limit.

    In a notebook the front end renders the text (`raw`); a terminal gets it without control
    sequences other than colours.
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
