"""Iterating over what a task of its own brings, so that leaving the loop is always clean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ._channel import Channel

__all__ = ["Put", "TaskStream", "mark_as_seen"]

T = TypeVar("T")
Put = Callable[[T], Awaitable[None]]


class TaskStream(Generic[T]):
    """
    An async iterator over what `produce(put)` puts.

    It begins with the first item that is asked for. Leaving early ends it: by `async with`, by
    `aclose()`, or when the last reference is gone; `produce` must not hold one.
    """

    def __init__(self, produce: Callable[[Put[T]], Awaitable[Any]]) -> None:
        self._produce = produce
        self._channel: Channel[T] = Channel()
        self._ready: list[T] = []
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def done(self) -> bool:
        """Whether the producer has ended."""
        return self._task is not None and self._task.done()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._ready:
            self._ready = (await self.take())[::-1]
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.pop()

    async def take(self) -> list[T]:
        """All items that are there, waiting for the first; empty at the end."""
        if self._task is None and not self._channel.exhausted:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(
                _produce_into(self._produce, self._channel), name="agent-magics-stream"
            )
            self._task.add_done_callback(mark_as_seen)
        return await self._channel.take()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it; returns when nothing runs any more. Harmless when repeated."""
        self._channel.finish()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        task, loop = getattr(self, "_task", None), getattr(self, "_loop", None)
        if task is not None and loop is not None and not task.done() and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)


async def _produce_into(produce: Callable[[Put[T]], Awaitable[Any]], channel: Channel[T]) -> None:
    """A function, not a method: a stream that nobody holds any more must not hold itself."""
    try:
        await produce(channel.put)
    except asyncio.CancelledError:
        channel.finish()
        raise
    except BaseException as error:
        channel.finish(error)
        raise
    channel.finish()


def mark_as_seen(task: asyncio.Task[Any]) -> None:
    """Nobody has to ask for the result, so an error that nobody fetches is no news."""
    if not task.cancelled():
        task.exception()
