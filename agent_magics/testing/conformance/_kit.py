"""Checks and what they need: sessions that are ended, expectations that say what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from agent_magics.client import AgentError, AsyncClient, AsyncSessionHandle, AsyncTask
from agent_magics.wire import AgentEvent, PermissionAsked, PermissionReply, TaskInfo, TurnEnded

__all__ = ["Check", "Checks", "Kit", "NonConformance", "NotTested", "Outcome", "Prompts", "ending"]


_NEVER_ASKED = "the model did not ask for a permission; give it another prompt"


class NonConformance(Exception):
    """The server does not do what it should."""


class NotTested(Exception):
    """The check can't be made here; says why."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """
    `simple` is answered with text; `asking` makes the model ask for a permission; `failing` ends
    the turn with an error.
    """

    simple: str = "What can you do?"
    asking: str = "look around"
    failing: str = "show me an error"


@dataclass(frozen=True, slots=True)
class Check:
    """One promise; `promise` is what should hold, in a sentence."""

    name: str
    promise: str
    test: Callable[[Kit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status`: passed, failed or skipped; `detail` says why it is not passed."""

    check: Check
    status: str
    detail: str = ""


class Checks(list[Check]):
    """The checks of one room, as its functions are decorated."""

    def __call__(self, test: Callable[[Kit], Awaitable[None]]) -> Callable[[Kit], Awaitable[None]]:
        """Add a check; its docstring is the promise."""
        self.append(Check(test.__name__, inspect.cleandoc(test.__doc__ or ""), test))
        return test


class Kit:
    """What a check works with."""

    def __init__(self, client: AsyncClient, prompts: Prompts, model: str | None) -> None:
        self.client = client
        self.prompts = prompts
        self.model = model

    @asynccontextmanager
    async def session(self, title: str | None = None) -> AsyncIterator[AsyncSessionHandle]:
        """A session that is ended afterwards."""
        session = await self.client.create_session(title, model=self.model)
        try:
            yield session
        finally:
            with suppress(AgentError):
                await session.abort()
            await session.end()

    def expect(self, holds: object, otherwise: str) -> None:
        """Raises `NonConformance` with `otherwise` when it doesn't hold."""
        if not holds:
            raise NonConformance(otherwise)

    def same(self, found: object, wanted: object, what: str) -> None:
        self.expect(found == wanted, f"{what}: {found!r} instead of {wanted!r}")

    @asynccontextmanager
    async def refused(self, kind: type[AgentError], what: str) -> AsyncIterator[None]:
        """The block must raise this error."""
        try:
            yield
        except kind:
            return
        except AgentError as error:
            raise NonConformance(f"{what}: {error!r} instead of {kind.__name__}") from error
        raise NonConformance(f"{what}: no {kind.__name__}")

    async def asked(
        self, session: AsyncSessionHandle, reply: PermissionReply | None = None
    ) -> tuple[list[AgentEvent], PermissionAsked]:
        """
        Run a turn that asks; its events and its first request.

        With a reply all requests are answered so and the turn goes to its end, without one it is
        left waiting. Raises `NotTested` when the model doesn't ask.
        """
        events: list[AgentEvent] = []
        first: PermissionAsked | None = None
        async with session.stream(self.prompts.asking) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, PermissionAsked):
                    first = first or event
                    if reply is None:
                        return events, first
                    await session.reply_to_permission(event.request.id, reply)
        if first is None:
            raise NotTested(_NEVER_ASKED)
        return events, first

    async def waiting(self, task: AsyncTask) -> TaskInfo:
        """The task's state once it waits for an answer. Raises `NotTested` when it never does."""
        async with task.session.parsed_events(0) as events:
            async for event in events:
                if event.type == "permission.asked":
                    return await task.poll()
                if event.type == "session.idle":
                    break
        raise NotTested(_NEVER_ASKED)


def ending(events: Sequence[AgentEvent]) -> TurnEnded:
    """The terminal event. Raises `NonConformance` unless it is the last one and the only one."""
    ends = [event for event in events if isinstance(event, TurnEnded)]
    if len(ends) != 1 or events[-1] is not ends[0]:
        raise NonConformance(f"{len(ends)} terminal events, or not at the end of the turn")
    return ends[0]
