"""
A summary in place of a conversation, written by the model.

In the history it is a user message with a part of type `compaction`, and the summary as an
assistant message that answers it. The messages before it stay; only the model doesn't see them
any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)

from agent_magics.wire import ErrorJSON, MessageInfoJSON

from ._calls import ToolCalls
from ._context import estimate, kept_messages
from ._errors import ApiError
from ._ids import new_id, now_ms
from ._overflow import is_overflow
from ._parts import ResponseParts, new_part
from ._reply_end import check_ending
from ._retry import Retries, summary_failure
from ._sessions import WORKSPACE, Session, no_tokens
from ._steps import finish_step
from ._text import well_formed
from ._transcript import INSTRUCTIONS, summary_prompts

if TYPE_CHECKING:
    from ._services import Services
    from .models import ResolvedModel

__all__ = ["Compaction"]

_LIMITED = ("length", "context-window")
_CUT = "\n\n[This summary was cut off by the token limit of one reply.]"
_NO_TOOLS = "There are no tools for a summary."
_SHARE = 0.8
"""Of the context window for the conversation; the rest is for the summary."""


class Compaction:
    """
    One summary: `open()`, then `run()`.

    `status` publishes the session's status, `limit` is the model's context window in tokens.
    """

    def __init__(
        self,
        services: Services,
        session: Session,
        model: ResolvedModel,
        scrub: Callable[[str], str],
        status: Callable[..., None],
        *,
        auto: bool,
        limit: int | None,
    ) -> None:
        self.message_id = new_id("msg")
        self.info = self._new_info(session, model)
        self._services = services
        self._session = session
        self._model = model
        self._scrub = scrub
        self._auto = auto
        self._limit = limit
        self._aborted = False
        self._asking: asyncio.Task[str] | None = None
        ids = (session.id, self.info["id"])
        self._calls = ToolCalls(services.messages, *ids)
        self._parts = ResponseParts(services.messages, self._calls, *ids)
        self._retries = Retries(services.retry, model.provider_id, scrub, status, "compacting")

    def open(self) -> None:
        """Put the two messages into the history, the summary still empty."""
        messages, session = self._services.messages, self._session
        question: dict[str, Any] = {
            "id": self.message_id,
            "sessionID": session.id,
            "role": "user",
            "time": {"created": now_ms()},
            "agent": session.agent,
            "model": {"providerID": self._model.provider_id, "modelID": self._model.model_id},
        }
        with self._services.store.group():
            messages.save_info(question)  # type: ignore[arg-type]
            messages.save_part(new_part(session.id, self.message_id, "compaction", auto=self._auto))
            messages.save_info(self.info)
            session.usage.messages += 2
            self._services.sessions.keep(session)

    def abort(self) -> None:
        """Stop it; `run()` raises CancelledError and nothing is replaced."""
        self._aborted = True
        if self._asking is not None:
            self._asking.cancel()

    async def run(
        self,
        messages: Sequence[ModelMessage],
        commit: Callable[[list[ModelMessage]], None],
    ) -> list[ModelMessage]:
        """
        Summarize `messages`; returns what the model sees instead of them from now on.

        `commit` stores that, together with the events that tell of it. Whatever is raised, the
        summary's message is closed with it and nothing else has changed.
        """
        try:
            if self._aborted:
                raise asyncio.CancelledError
            self._asking = asyncio.create_task(self._summary(messages))
            await asyncio.wait([self._asking])
            summary = self._asking.result()
            if self._aborted:
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            self.abort()
            message = "The summary was aborted; the conversation is as it was."
            self._close({"name": "MessageAbortedError", "data": {"message": message}})
            raise
        except Exception as error:
            self._close(summary_failure(error, self._model.provider_id, self._scrub))
            raise
        session = self._session
        kept = kept_messages(summary, session.todos)
        with self._services.store.group():
            session.usage.context_used = estimate(kept)
            self._close(None)
            told = {"sessionID": session.id, "messageID": self.info["id"]}
            self._services.log.publish(session.id, "session.compacted", told)
            commit(kept)
        return kept

    async def _summary(self, messages: Sequence[ModelMessage]) -> str:
        """The model's summary. Raises what the model raises, and ApiError for an empty one."""
        budget = None if self._limit is None else int(self._limit * _SHARE)
        overflow: ModelAPIError | None = None
        for prompt in summary_prompts(messages, self._session.todos, budget):
            try:
                response = await self._request(prompt)
            except ModelAPIError as error:
                if not is_overflow(error):
                    raise
                overflow = error
                continue
            finish_step(self._services, self._session, self.info, self._model, response)
            texts = [part.content for part in response.parts if isinstance(part, TextPart)]
            written = well_formed("".join(texts)).strip() != ""
            if self.info["finish"] in _LIMITED and written:  # better than none
                return well_formed("".join([*texts, _CUT]))
            check_ending(response, self._model.provider_id, self._scrub)
            if not written:
                raise ApiError("The model wrote no summary.", status=502, name="APIError")
            return well_formed("".join(texts))
        assert overflow is not None
        raise overflow

    async def _request(self, prompt: str) -> ModelResponse:
        request = ModelRequest(parts=[UserPromptPart(prompt)], instructions=INSTRUCTIONS)
        model, messages = self._model, self._services.messages
        self._retries.begin()
        while True:
            begun = False
            try:
                async with model_request_stream(
                    model.model,
                    [request],
                    model_settings=model.settings,  # type: ignore[arg-type]
                ) as stream:
                    async for event in stream:
                        if not begun:
                            messages.save_part(self._step_start())
                            begun = True
                        self._parts.handle(event)
                    return stream.get()
            except Exception as error:
                if isinstance(error, ModelAPIError):
                    error.in_stream = error.in_stream or begun
                if begun or not await self._retries.before_retry(error):
                    raise

    def _step_start(self) -> Any:
        return new_part(self._session.id, self.info["id"], "step-start")

    def _close(self, error: ErrorJSON | None) -> None:
        services = self._services
        with services.store.group():
            self._parts.close()
            self._calls.close(_NO_TOOLS)
            self.info["time"]["completed"] = now_ms()
            if error is not None:
                self.info["error"] = error
            services.messages.save_info(self.info)
            services.sessions.save(self._session)

    def _new_info(self, session: Session, model: ResolvedModel) -> MessageInfoJSON:
        info: dict[str, Any] = {
            "id": new_id("msg"),
            "sessionID": session.id,
            "role": "assistant",
            "parentID": self.message_id,
            "providerID": model.provider_id,
            "modelID": model.model_id,
            "mode": "compaction",
            "agent": "compaction",
            "summary": True,
            "path": {"cwd": WORKSPACE, "root": WORKSPACE},
            "cost": 0.0,
            "tokens": no_tokens(),
            "time": {"created": now_ms()},
        }
        return info  # type: ignore[return-value]
