"""An event loop on a thread of its own: where the network lives while the kernel is busy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ._errors import ConnectionFailed

__all__ = ["LoopThread"]

T = TypeVar("T")

_SLICE = 0.25
"""Seconds that one wait lasts, so that an interrupt gets through on every platform."""

_CLOSE_PATIENCE = 5.0


class LoopThread:
    """
    Runs coroutines for callers on other threads. The thread is a daemon and starts at once.

    `on_close` is awaited on the loop before it ends.
    """

    def __init__(self, on_close: Callable[[], Awaitable[None]]) -> None:
        self._on_close = on_close
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="agent-magics-client", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this very thread and must not wait for it."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Run `coroutine` on the loop and wait for it; an interrupt cancels it.

        Raises `RuntimeError` on the loop's own thread, where waiting would be for ever, and
        `ConnectionFailed` after `close()`.
        """
        if self.is_current:
            coroutine.close()
            raise RuntimeError(
                "This must not be called from an event callback; hand it to another thread."
            )
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise ConnectionFailed("The client is closed.") from error
        try:
            while not concurrent.futures.wait([future], _SLICE).done:
                if not self._thread.is_alive():
                    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                        coroutine.close()  # the loop ended before it took it up
                    raise ConnectionFailed("The client was closed meanwhile.")
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def close(self) -> None:
        """End all that runs, and the thread. May be called from anywhere, also repeatedly."""
        try:
            self._loop.call_soon_threadsafe(self._stop.set)
        except RuntimeError:
            return  # The loop is closed already.
        if not self.is_current:
            self._thread.join(_CLOSE_PATIENCE)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop.set_exception_handler(_pass_over_late_readiness)
        await self._stop.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_CLOSE_PATIENCE / 2)
        await self._on_close()


def _pass_over_late_readiness(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """
    Say nothing of a socket that became readable just as its reader was cancelled.

    anyio 4.16 (`_RawSocketMixin._wait_until_readable`) then sets a result on a future that is
    done already. Nothing is lost, but asyncio would print a traceback into the user's terminal.
    """
    is_late = "Future.set_result(" in context.get("message", "")
    if not (is_late and isinstance(context.get("exception"), asyncio.InvalidStateError)):
        loop.default_exception_handler(context)
