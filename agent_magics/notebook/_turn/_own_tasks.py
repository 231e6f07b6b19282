"""
The notebook's own asyncio tasks go on while a cell waits for an agent.

A waiting cell blocks the kernel's event loop, and with it every task that the user began in an
earlier cell. `OwnTasks.run()` runs the loop once more inside the cell, by nest-asyncio2, for a
moment at a time. No cell is entered again: the loop's task that runs cells is the one that waits
here. Widget messages are not dispatched by the inner loop either: the pump's hook takes them out
of it, and the cell handles them between two of these moments.

nest-asyncio2's own `apply()` changes asyncio for the whole process and for good: its tasks, futures
and `run()`, and all loops. Here only this one loop is changed, and only during these moments: it
gets a class of its own, that is what nest-asyncio2 patches, and then its old class again. Nothing
is touched while the user has no task, nor where this is not known to be safe (`of_this_thread`).

In terminal IPython the loop of its async cells does not run between them; there it is just run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

__all__ = ["OwnTasks"]

_KERNELS_OWN = frozenset(
    {"IPython", "ipykernel", "jupyter_client", "prompt_toolkit", "tornado", "zmq"}
)
"""Packages whose tasks belong to the kernel; they have nothing to do while a cell runs."""

_log = logging.getLogger("agent_magics.pump")


class _ReentrantLoop(asyncio.SelectorEventLoop):
    """What a loop is while it runs inside a cell: the one class that nest-asyncio2 patches."""


class OwnTasks:
    """The tasks of one event loop, that of the thread in which a cell waits."""

    def __init__(self, loop: asyncio.BaseEventLoop) -> None:
        self._loop = loop
        self._cell = asyncio.current_task(loop)
        self._woken = asyncio.Event()
        self._waits = False
        self._broken = False

    @classmethod
    def of_this_thread(cls, kernel: Any) -> OwnTasks | None:
        """
        None where the loop can't safely be run inside a cell.

        That is: without a loop, with one that is not asyncio's own (uvloop), with a GUI's event
        loop in the kernel (`%gui`), and where the older nest_asyncio has patched asyncio before:
        it loses cells of ipykernel 7.
        """
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = _loop_of_the_terminal() if kernel is None else None
        if not isinstance(loop, asyncio.BaseEventLoop) or loop.is_closed():
            return None
        if type(loop) not in (asyncio.SelectorEventLoop, _ReentrantLoop):
            return None
        if getattr(kernel, "eventloop", None) is not None or _is_patched_by_another(loop):
            return None
        return cls(loop)

    def wake(self) -> None:
        """From any thread, and from signal handlers: end the present `run()`."""
        if not self._waits:  # the loop would keep what nobody runs now
            return
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop is closed: nothing runs in it
            return

    def run(self, seconds: float, idle: Callable[[], bool]) -> bool:
        """
        Let the tasks run for `seconds` at most, until `wake()`; only briefly when not `idle()`.

        False when there are none: nothing has been done then.
        """
        self._woken.clear()
        if self._broken or not self._are_there():
            return False
        before = len(self._loop._ready)  # type: ignore[attr-defined]
        self._waits = True
        try:
            with _reentrant(self._loop):
                self._loop.run_until_complete(self._pause(seconds if idle() else 0))
        except RuntimeError:
            self._broken = True  # the loop is being stopped: the kernel ends
            _log.info("the notebook's tasks do not go on", exc_info=True)
        finally:
            self._waits = False
            # The outer pass of the loop counts on the handles that were ready when it began.
            for _ in range(before - len(self._loop._ready)):  # type: ignore[attr-defined]
                self._loop.call_soon(_nothing)
        return not self._broken

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        timer = self._loop.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    def _are_there(self) -> bool:
        return any(
            task is not self._cell and _module_of(task) not in _KERNELS_OWN
            for task in asyncio.all_tasks(self._loop)
        )


def _module_of(task: asyncio.Task[Any]) -> str:
    """The package in which the task's coroutine was written."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0]


def _is_patched_by_another(loop: asyncio.AbstractEventLoop) -> bool:
    return any(
        hasattr(patched, "_nest_patched") and not hasattr(patched, "_nest_asyncio2")
        for patched in (asyncio, loop)
    )


@contextlib.contextmanager
def _reentrant(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """`loop` can be run although it runs; nothing else of asyncio is changed."""
    if not loop.is_running() or hasattr(loop, "_nest_patched"):
        yield
        return
    plain, patch = type(loop), getattr(import_module("nest_asyncio2"), "_patch_loop", None)
    if patch is None:
        raise RuntimeError("this nest-asyncio2 is not known to work")
    loop.__class__ = _ReentrantLoop  # of the same layout
    try:
        patch(loop)  # the first time; it leaves a patched class alone
        yield
    finally:
        loop.__class__ = plain


def _loop_of_the_terminal() -> asyncio.AbstractEventLoop | None:
    """IPython's loop for cells with `await`, if there has been one in this thread's shell."""
    helpers = sys.modules.get("IPython.core.async_helpers")
    found: asyncio.AbstractEventLoop | None = getattr(helpers, "_asyncio_event_loop", None)
    return found


def _nothing() -> None:
    return
