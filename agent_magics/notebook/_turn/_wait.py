"""A call that may take a while, in a cell that stays alive meanwhile."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from .._errors import TurnInterrupted, describe
from .._frontend import current_shell, kernel_of
from ._pump import CommPump
from ._silence import hear_silence

__all__ = ["patiently", "waiting_pump"]

T = TypeVar("T")


class _Line:
    def __init__(self, text: str) -> None:
        self.text = text


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error


def waiting_pump() -> CommPump:
    """A pump for a cell that waits: of the running kernel, with the notebook's settings."""
    shell = current_shell()
    registry = getattr(getattr(shell, "magics_manager", None), "registry", {})
    keep_tasks = bool(getattr(registry.get("AgentMagics"), "keep_tasks", False))
    return CommPump(kernel_of(shell), keep_tasks=keep_tasks)


def patiently(call: Callable[[], T], on_stop: Callable[[], object] | None = None) -> T:
    """
    What `call()` returns. It runs on a thread of its own; widgets answer and Stop works.

    After a Stop `on_stop` runs in the background. Raises `TurnFailed` for errors of the client
    and of the file system, `TurnInterrupted` after a Stop.
    """
    from ...client import AgentError

    try:
        with (
            waiting_pump() as pump,
            hear_silence(lambda line: pump.post(_Line(line))),
        ):

            def work() -> None:
                try:
                    pump.post(call())
                except Exception as error:
                    pump.post(_Failed(error))

            _start(work)
            try:
                outcome = _take(pump)
            except KeyboardInterrupt:
                if on_stop is not None:
                    _start(on_stop)
                raise
    except KeyboardInterrupt:
        raise TurnInterrupted("stopped") from None
    if isinstance(outcome, _Failed):
        if isinstance(outcome.error, AgentError | OSError):
            raise describe(outcome.error)
        raise outcome.error
    return cast(T, outcome)


def _take(pump: CommPump) -> object:
    while True:
        try:
            item = pump.get(1.0)
        except queue.Empty:
            continue
        if not isinstance(item, _Line):
            return item
        sys.stderr.write(f"{item.text}\n")


def _start(function: Callable[[], object]) -> None:
    threading.Thread(target=function, name="agent-magics call", daemon=True).start()
