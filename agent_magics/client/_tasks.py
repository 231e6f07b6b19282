"""Tasks: turns that nobody has to follow, and that anybody can ask about later."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from agent_magics.wire import SendResult, TaskInfo, TaskStatus, WireEvent

from ._async_session import AsyncSessionHandle
from ._errors import BadRequest, TaskNotFound
from ._protocol import parse, session_path
from ._stream import EventStream
from ._turn import TurnReader

if TYPE_CHECKING:
    from agent_magics.wire import StatusChanged

    from ._api import Api

__all__ = ["AsyncTask"]

_ENDS = ("turn.ended", "session.idle", "session.deleted")


class AsyncTask:
    """
    A piece of work that goes on in the server, whoever is there.

    `id` is all that `client.task(id)` needs to find it again, from another process or on another
    day. Its `session` stays until somebody ends it, so that its files can be fetched.

    Every method raises `TaskNotFound` for a task that does not exist (any more) and
    `ConnectionFailed` when the server is out of reach.
    """

    def __init__(self, api: Api, id: str) -> None:
        session_id, dot, message_id = id.partition(".")
        if not (dot and session_id.startswith("ses") and message_id.startswith("msg")):
            raise BadRequest(f"{id!r} is no id of a task (ses_….msg_…).")
        self.id = id
        self.session_id = session_id
        self.message_id = message_id
        self._api = api

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def session(self) -> AsyncSessionHandle:
        """The session that it works in: its messages, files and permissions."""
        return AsyncSessionHandle(self._api, self.session_id)

    async def result(self, timeout: float | None = None) -> SendResult:
        """
        Wait for the end, at most `timeout` seconds: `TimeoutError` after that, and it goes on.

        A task that failed or was cancelled has `error` set in its result.
        """
        return await asyncio.wait_for(self._wait(), timeout)

    async def poll(self) -> TaskInfo:
        """How it stands, without waiting."""
        if (result := await self._ended()) is not None:
            return TaskInfo(self.id, _status(result), result=result)
        asked = tuple(await self.session.get_permissions())
        return TaskInfo(self.id, "waiting" if asked else "running", asked)

    async def cancel(self) -> bool:
        """Stop it; what it has done is kept. False when it was over already."""
        body = {"messageID": self.message_id}
        return await self._api.abort(self.session_id, body, missing=TaskNotFound)

    async def _wait(self) -> SendResult:
        if (result := await self._ended()) is not None:
            return result
        opener = functools.partial(self._api.open_events, self.session_id)
        stream = EventStream(opener, self._api.policy)
        try:
            await stream.open()
            while (result := await self._ended()) is None:
                items = await stream.take(self._api.policy.quiet)
                while items and not any(_may_be_an_end(item) for item in items):
                    items = await stream.take(self._api.policy.quiet)
            return result
        finally:
            await stream.aclose()

    async def _ended(self) -> SendResult | None:
        """The result, if the history says that the agent is through."""
        path = session_path(self.session_id, "message")
        messages = await self._api.get_json(path, missing=TaskNotFound)
        reader = TurnReader(self.session_id, self.message_id)
        if self.message_id not in parse(lambda: [m["info"]["id"] for m in messages]):
            raise TaskNotFound(f"There is no task {self.id}.", status=404)
        parse(reader.feed_history, messages)
        return reader.end_quietly().result if reader.is_answered else None


def _may_be_an_end(item: WireEvent | StatusChanged) -> bool:
    """Whether to look at the history: a turn ended, or the connection had been lost."""
    return item.type in _ENDS if isinstance(item, WireEvent) else item.status == "connected"


def _status(result: SendResult) -> TaskStatus:
    if result.error is None:
        return "completed"
    return "aborted" if result.error.name == "MessageAbortedError" else "error"
