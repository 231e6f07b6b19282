"""A running turn, for whoever follows it: by a function, or by iterating."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from agent_magics.wire import AgentEvent, SendResult, TurnEnded, WireError

from ._errors import AgentError, ApiError
from ._runner import TurnRunner
from ._task_stream import TaskStream, mark_as_seen

__all__ = ["AsyncTurn", "AsyncTurnStream"]

_ABORT_PATIENCE = 5.0


class AsyncTurn:
    """
    A turn that `start()` began.

    `on_event` gets every event in order, last one `TurnEnded`, exactly once, whatever happens.
    """

    def __init__(self, runner: TurnRunner, on_event: Callable[[AgentEvent], None]) -> None:
        self._runner = runner
        self._on_event = on_event
        self._callback_error: Exception | None = None
        self._ended = False
        self._task = asyncio.create_task(self._run(), name="agent-magics-turn")
        self._task.add_done_callback(self._close)

    @property
    def message_id(self) -> str:
        """The id of the user's message."""
        return self._runner.message_id

    @property
    def done(self) -> bool:
        return self._task.done()

    async def abort(self) -> None:
        """
        Stop the turn; what has arrived is kept. Harmless when it is over.

        Raises `AgentError` when the server cannot be told.
        """
        await _abort(self._runner, self._task)

    async def result(self) -> SendResult:
        """
        Wait for the end. Raises the typed error when the server did not take the prompt, and an
        exception of `on_event`, once.
        """
        await asyncio.wait([self._task])
        cut_short = self._task.cancelled()
        result = self._runner.cut_short().result if cut_short else self._task.result()
        error, self._callback_error = self._callback_error, None
        if error is not None:
            raise error
        return result

    async def _run(self) -> SendResult:
        runner = self._runner
        try:
            return await runner.run(self._emit)
        except Exception as error:
            self._deliver(runner.failed(_wire_error(error)))
            raise

    def _close(self, task: asyncio.Task[SendResult]) -> None:
        """A task that is cancelled before its first step never runs: the end comes from here."""
        if task.cancelled():
            self._deliver(self._runner.cut_short())
        mark_as_seen(task)

    async def _emit(self, event: AgentEvent) -> None:
        self._deliver(event)

    def _deliver(self, event: AgentEvent) -> None:
        if self._ended or (self._callback_error and not isinstance(event, TurnEnded)):
            return
        self._ended = isinstance(event, TurnEnded)
        try:
            self._on_event(event)
        except Exception as error:
            self._callback_error = self._callback_error or error


class AsyncTurnStream(TaskStream[AgentEvent]):
    """
    The events of one turn, to iterate. The prompt is sent when the first one is asked for.

    Leaving early ends the reading, not the turn: `abort()` does that. Raises the typed error when
    the server does not take the prompt.
    """

    def __init__(self, runner: TurnRunner) -> None:
        super().__init__(runner.run)
        self._runner = runner

    @property
    def message_id(self) -> str:
        """The id of the user's message."""
        return self._runner.message_id

    async def abort(self) -> None:
        """
        Stop the turn; its last events still come. Harmless when it is over.

        Raises `AgentError` when the server cannot be told.
        """
        await _abort(self._runner, self._task)

    async def abort_patiently(self) -> None:
        """Abort on the way out: at most a few seconds, and without an error of its own."""
        if self._task is None:
            return
        with contextlib.suppress(AgentError, TimeoutError):
            async with asyncio.timeout(_ABORT_PATIENCE):
                await self.abort()
                # A prompt that is just being sent is aborted once the server has it.
                await asyncio.wait([self._task])


async def _abort(runner: TurnRunner, task: asyncio.Task[Any] | None) -> None:
    if task is not None and not task.done() and not await runner.abort():
        task.cancel()


def _wire_error(error: Exception) -> WireError:
    if isinstance(error, ApiError):
        return WireError(error.name, str(error), error.data)
    return WireError(type(error).__name__, str(error) or type(error).__name__)
