"""The turn that only summarizes: what `summarize()` of a session starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import ModelMessage

from agent_magics.wire import ErrorJSON

from ._compaction import Compaction
from ._errors import ApiError
from ._retry import summary_failure
from ._sessions import Session
from ._turn_end import end_turn

if TYPE_CHECKING:
    from ._services import Services
    from .models import ResolvedModel

__all__ = ["SummaryTurn", "summary_error"]

_STATUS = {"ContextOverflowError": 413, "ProviderAuthError": 401}


class SummaryTurn:
    """
    A running summary; to the engine a turn like any other. `done` is set when it is over.

    `error` is there then if the conversation was left as it was.
    """

    def __init__(
        self,
        services: Services,
        session: Session,
        model: ResolvedModel,
        scrub: Callable[[str], str],
        *,
        auto: bool = False,
    ) -> None:
        self.done = asyncio.Event()
        self.checkpoint = None
        self.error: ErrorJSON | None = None
        self._services = services
        self._session = session
        self._provider_id = model.provider_id
        self._scrub = scrub
        self._compaction = Compaction(
            services,
            session,
            model,
            scrub,
            self._status,
            auto=auto,
            limit=model.window.size(services.compaction.context_limit),
        )
        self.message_id = self._compaction.message_id
        self.current_status: dict[str, Any] = {}
        self._abort_error: ErrorJSON = {
            "name": "MessageAbortedError",
            "data": {"message": "The summary was aborted."},
        }
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Announce it and let it run."""
        services, session = self._services, self._session
        services.sessions.set_turn(session, self)
        with services.store.group():
            services.history.begin(session.id, self.message_id)
            services.sessions.set_error(session, None)
            self._publish("turn.started", messageID=self.message_id)
            self._status("compacting")
            self._compaction.open()
        self._task = asyncio.create_task(self._main(), name=f"summary {self.message_id}")

    def abort(self, reason: str, error: ErrorJSON | None = None) -> None:
        """Stop it; the conversation stays as it was. Idempotent."""
        self._abort_error = error or {"name": "MessageAbortedError", "data": {"message": reason}}
        self._compaction.abort()

    async def kill(self) -> None:
        """End it although the model doesn't react to an abort."""
        assert self._task is not None
        self._task.cancel()
        await self.done.wait()

    async def _main(self) -> None:
        history = self._services.history
        try:
            messages = await history.load(self._session.id)
            await self._compaction.run(messages, self._commit)
        except asyncio.CancelledError:
            self._finish(self._abort_error)
        except Exception as error:
            self._finish(summary_failure(error, self._provider_id, self._scrub))

    def _commit(self, kept: list[ModelMessage]) -> None:
        self._services.history.save(self.message_id, kept)
        self._finish(None)

    def _finish(self, error: ErrorJSON | None) -> None:
        self.error = error
        self._services.sessions.set_turn(self._session, None)
        end_turn(self._services, self._session, self.message_id, error)
        self.done.set()

    def _status(self, type: str, **values: Any) -> None:
        self.current_status = {"type": type, **values}
        self._publish("session.status", status=self.current_status)

    def _publish(self, type: str, **properties: Any) -> None:
        session_id = self._session.id
        self._services.log.publish(session_id, type, {"sessionID": session_id, **properties})


def summary_error(error: ErrorJSON) -> ApiError:
    """What a request for a summary is answered with when the model failed."""
    status = _STATUS.get(error["name"], 502)
    return ApiError(status=status, name=error["name"], **error["data"])
