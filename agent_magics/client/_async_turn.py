"""A running turn, for whoever follows it: by a function, or by iterating."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

from agent_magics.wire import AgentEvent, SendResult, TurnEnded, WireError

from ._channel import Channel
from ._errors import AgentError, ApiError
from ._runner import Emit, TurnRunner

__all__ = ["AsyncTurn", "AsyncTurnStream"]

_ABORT_PATIENCE = 5.0


class _RunningTurn:
    """A `TurnRunner` in a task of its own."""

    def __init__(self, runner: TurnRunner) -> None:
        self._runner = runner
        self._task: asyncio.Task[SendResult] | None = None

    @property
    def message_id(self) -> str:
        """The id of the user's message."""
        return self._runner.message_id

    @property
    def done(self) -> bool:
        return self._task is not None and self._task.done()

    async def abort(self) -> None:
        """
        Stop the turn; what has arrived is kept. Harmless when it is over.

        Raises `AgentError` when the server cannot be told.
        """
        if self._task is None or self.done:
            return
        if not await self._runner.abort():
            self._task.cancel()

    async def abort_patiently(self) -> None:
        """Abort on the way out: at most a few seconds, and without an error of its own."""
        if self._task is None:
            return
        with contextlib.suppress(AgentError, TimeoutError):
            async with asyncio.timeout(_ABORT_PATIENCE):
                await self.abort()
                # A prompt that is just being sent is aborted once the server has it.
                await asyncio.wait([self._task])


class AsyncTurn(_RunningTurn):
    """
    A turn that `start()` began.

    `on_event` gets every event in order, last one `TurnEnded`, exactly once, whatever happens.
    """

    def __init__(self, runner: TurnRunner, on_event: Callable[[AgentEvent], None]) -> None:
        super().__init__(runner)
        self._on_event = on_event
        self._callback_error: Exception | None = None
        self._ended = False
        self._task = asyncio.create_task(self._run(), name="agent-magics-turn")
        self._task.add_done_callback(_mark_as_seen)

    async def result(self) -> SendResult:
        """
        Wait for the end. Raises the typed error when the server did not take the prompt, and an
        exception of `on_event`, once.
        """
        assert self._task is not None
        result = await asyncio.shield(self._task)
        error, self._callback_error = self._callback_error, None
        if error is not None:
            raise error
        return result

    async def _run(self) -> SendResult:
        runner = self._runner
        try:
            return await runner.run(self._emit)
        except asyncio.CancelledError:
            ended = runner.cut_short()
            self._deliver(ended)
            return ended.result
        except Exception as error:
            self._deliver(runner.failed(_wire_error(error)))
            raise

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


class AsyncTurnStream(_RunningTurn):
    """
    The events of one turn, to iterate. The prompt is sent when the first one is asked for.

    Leaving early ends the reading, not the turn: `abort()` does that. Raises the typed error when
    the server does not take the prompt.
    """

    def __init__(self, runner: TurnRunner) -> None:
        super().__init__(runner)
        self._channel: Channel[AgentEvent] = Channel()
        self._ready: list[AgentEvent] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def __aiter__(self) -> AsyncTurnStream:
        return self

    async def __anext__(self) -> AgentEvent:
        if not self._ready:
            self._ready = (await self.take())[::-1]
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.pop()

    async def take(self) -> list[AgentEvent]:
        """All events that are there, waiting for the first; empty at the end."""
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(
                _run_into(self._runner, self._channel), name="agent-magics-turn"
            )
            self._task.add_done_callback(_mark_as_seen)
        return await self._channel.take()

    async def __aenter__(self) -> AsyncTurnStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading. The turn goes on in the server."""
        self._channel.finish()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        task, loop = getattr(self, "_task", None), getattr(self, "_loop", None)
        if task is not None and loop is not None and not task.done() and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)


async def _run_into(runner: TurnRunner, channel: Channel[AgentEvent]) -> SendResult:
    """A function, not a method: a stream that nobody holds any more must not hold itself."""
    put: Emit = channel.put
    try:
        result = await runner.run(put)
    except BaseException as error:
        channel.finish(None if isinstance(error, asyncio.CancelledError) else error)
        raise
    channel.finish()
    return result


def _mark_as_seen(task: asyncio.Task[SendResult]) -> None:
    """Nobody has to ask for the result, so an error that nobody fetches is no news."""
    if not task.cancelled():
        task.exception()


def _wire_error(error: Exception) -> WireError:
    if isinstance(error, ApiError):
        return WireError(error.name, str(error), error.data)
    return WireError(type(error).__name__, str(error) or type(error).__name__)
