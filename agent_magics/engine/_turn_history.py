"""What is said in one turn, as the model remembers it, and whether there is room to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.run import AgentRun

from ._context import Room
from ._errors import ApiError
from ._history import failed_result, unanswered
from ._limits import Spending
from ._overflow import is_overflow, window_named
from ._reply_end import CALL_CUT, is_empty

if TYPE_CHECKING:
    from ._compaction import Compaction
    from ._services import Services
    from .models import ResolvedModel

__all__ = ["TurnHistory", "going_on"]

_GO_ON = (
    "[The conversation was summarized in the middle of the work on this prompt. What the summary "
    "says is done is done: go on from there.]"
)


def going_on(content: Any) -> list[Any]:
    """A prompt of which a part is done, as the summary before it says."""
    return [*([content] if isinstance(content, str) else content), _GO_ON]


class TurnHistory:
    """
    The messages of the turn `message_id`: of the `run` that is going on and of those before it.

    A turn has several runs of the agent when a summary has to be made between two of its steps.
    """

    def __init__(self, services: Services, message_id: str, model: ResolvedModel) -> None:
        self.run: AgentRun[Any, str] | None = None
        self.room = Room(services.compaction, model.window)
        self.spending = Spending(services.limits, model.name)
        self._compaction: Compaction | None = None
        self._past: list[ModelMessage] = []
        self._history = services.history
        self._message_id = message_id

    def abort(self) -> None:
        """Stop the run, or the summary that is made instead of it."""
        if self.run is not None:
            self.run.cancel()
        if self._compaction is not None:
            self._compaction.abort()

    def messages(self) -> list[ModelMessage]:
        """All that was said so far."""
        return [*self._past, *([] if self.run is None else self.run.new_messages())]

    def with_past(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """`messages` of the last run after those of the runs before it."""
        return [*self._past, *messages]

    def save(self) -> None:
        """Store what was said so far."""
        self._history.save(self._message_id, self.messages())

    def leave(self, *more: ModelMessage) -> None:
        """The run is over; keep what it brought, and `more`, such as a request not sent."""
        self._past = [*self.messages(), *more]
        self.run = None
        self.save()

    def uncovered(
        self, before: list[ModelMessage], request: ModelRequest
    ) -> list[ModelMessage] | None:
        """
        What has to be summarized before the run sends its next request; None when there is room.

        `before` is what the run began with. If not None, the run is left, also when TurnLimit or
        ContextOverflow is raised.
        """
        assert self.run is not None
        said = self.run.new_messages()
        try:
            self.spending.check()
            if not self.room.is_needed(before, said, request):
                return None
        except ApiError:
            self.leave(request)
            raise
        return self._left(before, said, request)

    def after_refusal(
        self, error: ModelAPIError, before: list[ModelMessage], request: ModelRequest
    ) -> list[ModelMessage] | None:
        """
        What has to be summarized because the provider found `request` too large; None for
        another error and when a summary can't help. If not None, the run is left.
        """
        assert self.run is not None
        if not is_overflow(error):
            return None
        self.room.is_refused(window_named(error))
        said = self.run.new_messages()
        if said and not isinstance(said[-1], ModelResponse):  # the request that was refused
            said = said[:-1]
        return self._left(before, said, request) if self.room.can_be_made(before, said) else None

    def after_full_window(
        self, before: list[ModelMessage], request: ModelRequest
    ) -> list[ModelMessage] | None:
        """As `after_refusal`, for a reply that ended because the window was full with it."""
        assert self.run is not None
        said = self.run.new_messages()
        last = said[-1] if said else None
        if isinstance(last, ModelResponse) and is_empty(last):  # it can be asked again
            said = said[:-2]
            return (
                self._left(before, said, request) if self.room.can_be_made(before, said) else None
            )
        if not self.room.can_be_made(before, said):
            return None
        if isinstance(last, ModelResponse) and (calls := unanswered(last)):
            said.append(ModelRequest(parts=[failed_result(call, CALL_CUT) for call in calls]))
        self.run = None
        self.leave(*said)
        return [*before, *said]

    def _left(
        self, before: list[ModelMessage], said: list[ModelMessage], request: ModelRequest
    ) -> list[ModelMessage]:
        """Leave the run with a request that is still to be answered; all that is uncovered."""
        self.run = None
        if not said:  # the prompt can follow the summary as it is
            return before
        self.leave(*said, request)
        return [*before, *said, request]

    async def summarize(
        self,
        compaction: Compaction,
        uncovered: list[ModelMessage],
        on_done: Callable[[], None],
    ) -> list[ModelMessage]:
        """
        Let the model summarize what `uncovered()` returned; what the next run begins with.

        `on_done` is called in the group of what is stored and told then.
        """

        def commit(kept: list[ModelMessage]) -> None:
            self.leave(*kept)
            on_done()

        self._compaction = compaction
        kept = await compaction.run(uncovered, commit)
        self._compaction, self.room.made = None, True
        self.spending.add(compaction.info["tokens"], compaction.info["cost"], steps=0)
        return kept
