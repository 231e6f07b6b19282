"""One turn from prompt to end: connect, send, follow, and find out what became of it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent_magics.wire import (
    AgentEvent,
    SendResult,
    StatusChanged,
    TurnEnded,
    UnknownEvent,
    WireError,
    WireEvent,
)

from ._command_call import CommandCall, TurnInput
from ._errors import AgentError
from ._ids import new_message_id, new_opencode_message_id
from ._inputs import model_reference, prompt_parts
from ._protocol import session_path
from ._stream import EventStream
from ._submit import submit_prompt
from ._turn import TurnReader

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["TurnRunner"]

Emit = Callable[[AgentEvent], Awaitable[None]]


class TurnRunner:
    """Runs one turn of a session; `TurnRunner.of()` makes one from what a user gives."""

    def __init__(
        self,
        api: Api,
        session_id: str,
        body: dict[str, Any],
        message_id: str,
        after: str | None = None,
    ) -> None:
        self.session_id = session_id
        self.message_id = message_id
        self.accepted = False
        """The server has taken the prompt."""
        self._api = api
        self._body = body
        self._after = after  # the event that the turn's follow; None: those that come from now on
        self._sending = False
        self._abort_wanted = False
        self._idle_seen = 0
        self._emit: Emit
        self._reader = TurnReader(session_id, self.message_id)
        self._numbered = True

    @classmethod
    def of(
        cls,
        api: Api,
        session_id: str,
        prompt: TurnInput,
        model: str | None,
        agent: str | None = None,
    ) -> TurnRunner:
        """Raises `BadRequest` for an empty prompt or a malformed model name."""
        if isinstance(prompt, CommandCall):
            body = prompt.to_json()
        else:
            body = {"parts": prompt_parts(prompt)}
        if model is not None:
            body["model"] = model_reference(model, key="modelID")
        if agent is not None:
            body["agent"] = agent
        return cls(api, session_id, body, new_message_id())

    async def run(self, emit: Emit) -> SendResult:
        """
        The whole turn; `emit` gets its events, the last one is `TurnEnded`.

        Raises the typed error when the server does not take the prompt.
        """
        self._emit = emit
        await emit(StatusChanged("connecting"))
        connection = await self._api.connection()
        self._numbered = connection.is_numbered
        if "command" in self._body:
            await self._api.require_engine("commands that can be followed")
        if not self._numbered:
            self.message_id = new_opencode_message_id()
            self._reader = TurnReader(self.session_id, self.message_id)
        opener = functools.partial(self._api.open_events, self.session_id)
        stream = EventStream(opener, self._api.policy, self._after)
        try:
            await stream.open()
            await self._send()
            return (await self._follow(stream)).result
        finally:
            await stream.aclose()

    async def abort(self) -> bool:
        """
        Stop the turn. False when it was not sent yet: the caller cancels `run()` then.

        Raises `AgentError` when the server cannot be told.
        """
        self._abort_wanted = True
        if self.accepted:
            await self._api.abort(self.session_id)
        return self._sending

    def cut_short(self) -> TurnEnded:
        """The terminal event after `run()` was cancelled."""
        if self._sending:
            message = "The client was closed; the turn goes on in the server."
            return self._reader.end("error", WireError("ClientClosedError", message))
        message = "The turn was aborted before it was sent."
        return self._reader.end("aborted", WireError("MessageAbortedError", message))

    def failed(self, error: WireError) -> TurnEnded:
        """The terminal event after `run()` raised: the server did not take the prompt."""
        return self._reader.end("error", error)

    async def _send(self) -> None:
        self._sending = True
        body = {**self._body, "messageID": self.message_id}
        await submit_prompt(self._api, self.session_id, body)
        self.accepted = True
        if self._abort_wanted:
            # When this fails, whoever follows the turn still sees how it goes on.
            with contextlib.suppress(AgentError):
                await self._api.abort(self.session_id)

    async def _follow(self, stream: EventStream) -> TurnEnded:
        policy = self._api.policy
        connections = 0
        while True:
            try:
                items = await stream.take(policy.quiet)
            except AgentError as error:
                failure = WireError(type(error).__name__, str(error))
                return await self._finish(self._reader.end("error", failure))
            if not items and (ended := await self._ask_how_it_stands()):
                return await self._finish(ended)
            for item in items:
                if isinstance(item, StatusChanged):
                    await self._emit(item)
                    connections += item.status == "connected"
                    if connections > 1 and item.status == "connected" and not self._numbered:
                        self._reader.mark_gap()
                        if ended := await self._ask_how_it_stands():
                            return await self._finish(ended)
                    continue
                for event in self._read(item):
                    await self._emit(event)
                self._idle_seen = 0
                if self._reader.ended is not None:
                    return self._reader.ended

    async def _finish(self, ended: TurnEnded) -> TurnEnded:
        await self._emit(ended)
        return ended

    def _read(self, event: WireEvent) -> list[AgentEvent]:
        try:
            return self._reader.feed(event)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Not what we know under this type; nothing that should end a turn.
            return [UnknownEvent(event)]

    async def _ask_how_it_stands(self) -> TurnEnded | None:
        """
        Ask the server whether the turn still runs, for a stream that is quiet or had a gap.

        A turn that is not running is over; its last events may still be on their way, so this
        must be seen twice, or stand in the history.
        """
        try:
            statuses = await self._api.get_json("/session/status")
            if _is_running(statuses, self.session_id):
                self._idle_seen = 0
                if self._numbered:
                    return None
            else:
                self._idle_seen += 1
            messages = await self._api.get_json(self._path("message"))
            events = self._reader.feed_history(messages)
        except (AgentError, AttributeError, KeyError, TypeError, ValueError):
            # The stream itself notices when the server is gone for good.
            return None
        for event in events:
            await self._emit(event)
        if self._numbered:
            is_over = self._idle_seen >= 2
        else:
            # A plain server tells the status of one directory's sessions only.
            is_over = self._idle_seen >= 1 and self._reader.is_answered
        return self._reader.end_quietly() if is_over else None

    def _path(self, *rest: str) -> str:
        return session_path(self.session_id, *rest)


def _is_running(statuses: Mapping[str, Any], session_id: str) -> bool:
    status: Mapping[str, Any] = statuses.get(session_id) or {}
    return bool(status.get("type", "idle") != "idle")
