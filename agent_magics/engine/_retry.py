"""Which failures of a model are worth another try, and what a failed turn is called."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelHTTPError,
    ModelQuotaExceededError,
)

from agent_magics.wire import ErrorJSON

from ._causes import cause_of, is_connection_problem, provider_sentence, status_sentence
from ._errors import from_exception, log_unforeseen
from ._ids import now_ms
from ._overflow import is_overflow
from ._reply_end import GO_ON, WindowFull
from ._text import one_line

__all__ = ["Retries", "RetryPolicy", "summary_failure", "turn_error"]

_RETRYABLE = frozenset({408, 409, 429})
_TOOL_RETRIES = re.compile(r"[Tt]ool '?([\w.-]+)'? exceeded")
_FULL = (
    "The reply was cut off: the model's context window is full, and a summary does not help. Send "
    "a shorter prompt, choose a model with a larger window, or start a new session."
)
_UNCHANGED = "The conversation is as it was; the summary can be tried again."


@dataclass(frozen=True)
class RetryPolicy:
    """
    `tries` for a provider that answers "later", `connection_tries` for one that doesn't answer.

    Waits are seconds; they double from `first_wait`. A provider that asks for more than
    `longest_wait` is not waited for.
    """

    tries: int = 6
    connection_tries: int = 3
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait(self, error: Exception, failures: int) -> float | None:
        """Seconds to wait after so many failures of the error's kind; None to give up."""
        if not isinstance(error, ModelAPIError) or error.in_stream:
            return None
        if isinstance(error, ModelQuotaExceededError):
            return None
        if isinstance(error, ModelHTTPError):
            if not _is_retryable(error.status_code) or failures >= self.tries:
                return None
        elif failures >= self.connection_tries or cause_of(error).lasting:
            return None
        asked: float | None = getattr(error, "retry_after", None)
        wait = self.first_wait * 2 ** (failures - 1) if asked is None else asked
        return wait if wait <= self.longest_wait else None


class Retries:
    """
    The failures of one request to the model, and the visible waits between its attempts.

    `status` publishes the session's status, which between the waits is `resting`; `provider_id`
    and `scrub` are for the sentence in it, as in `turn_error`.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        provider_id: str,
        scrub: Callable[[str], str],
        status: Callable[..., None],
        resting: str,
    ) -> None:
        self._policy = policy
        self._provider_id = provider_id
        self._scrub = scrub
        self._status = status
        self._resting = resting
        self._failures: Counter[bool] = Counter()

    def begin(self) -> None:
        """A new request; earlier failures don't count any more."""
        self._failures.clear()

    async def before_retry(self, error: Exception) -> bool:
        """Wait visibly if the failed request is worth another try; False if not."""
        answered = isinstance(error, ModelHTTPError)
        self._failures[answered] += 1
        wait = self._policy.wait(error, self._failures[answered])
        if wait is None:
            return False
        self._status(
            "retry",
            attempt=self._failures.total(),
            message=turn_error(error, self._provider_id, self._scrub)["data"]["message"],
            next=now_ms() + int(wait * 1000),
        )
        await asyncio.sleep(wait)
        self._status(self._resting)
        return True


def _is_retryable(status: int) -> bool:
    return status in _RETRYABLE or status >= 500


def turn_error(
    error: Exception, provider_id: str, scrub: Callable[[str], str], *, after_break: str = GO_ON
) -> ErrorJSON:
    """
    What the reader of a turn is told. Texts of providers are scrubbed of secrets.

    `after_break` says what is left, and to be done, when the connection broke in mid-reply.
    """
    try:
        return _named(error, provider_id, scrub, after_break)
    except Exception as failure:  # a turn that fails has to end, whatever a server sent
        return from_exception(failure, "telling why a turn failed").to_json()


def _named(
    error: Exception, provider_id: str, scrub: Callable[[str], str], after_break: str
) -> ErrorJSON:
    if isinstance(error, WindowFull):
        return {"name": "ContextOverflowError", "data": {"message": _FULL}}
    if is_connection_problem(error):
        return _connection_error(error, provider_id, scrub, after_break)
    if isinstance(error, ModelAPIError):
        return _model_error(error, provider_id, scrub)
    if isinstance(error, AgentRunError):
        return _loop_error(error, provider_id)
    return from_exception(error, "running a turn").to_json()


def summary_failure(error: Exception, provider_id: str, scrub: Callable[[str], str]) -> ErrorJSON:
    """The same for a summary, of which nothing is used when it is not complete."""
    return turn_error(error, provider_id, scrub, after_break=_UNCHANGED)


def _connection_error(
    error: Exception, provider_id: str, scrub: Callable[[str], str], after_break: str
) -> ErrorJSON:
    cause = cause_of(error)
    if getattr(error, "in_stream", False):
        message = f"The reply of {provider_id!r} broke off: {cause.what}. {after_break}"
        if cause.setting:
            message += f" {cause.next_step}"
    else:
        message = f"No reply from {provider_id!r}: {cause.what}. {cause.next_step}".rstrip()
    return {
        "name": "APIError",
        "data": {"message": scrub(message), "isRetryable": not cause.lasting},
    }


def _model_error(error: ModelAPIError, provider_id: str, scrub: Callable[[str], str]) -> ErrorJSON:
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    if is_overflow(error):
        said = provider_sentence(error.body) or str(error)
        message = f"The request does not fit into the context window of {error.model_name!r}"
        return {"name": "ContextOverflowError", "data": {"message": scrub(f"{message}: {said}")}}
    if isinstance(error, ModelHTTPError):
        message = scrub(status_sentence(error, provider_id))
        if error.in_stream:
            message = f"{message} {GO_ON}" if GO_ON not in message else message
    else:  # an error in the stream, of which no status is known, or one of our own models
        message = scrub(provider_sentence(error.body) or one_line(str(error), 400))
        if error.in_stream:
            said = message.rstrip(".")
            message = f"{provider_id!r} ended the reply with an error: {said}. {GO_ON}"
    if status in (401, 403) and "a web page" not in message:
        return {
            "name": "ProviderAuthError",
            "data": {"providerID": provider_id, "message": message, "statusCode": status},
        }
    data: dict[str, Any] = {
        "message": message,
        "isRetryable": status is None or _is_retryable(status),
    }
    if status is not None:
        data["statusCode"] = status
    return {"name": "APIError", "data": data}


def _loop_error(error: AgentRunError, provider_id: str) -> ErrorJSON:
    """What the agent loop gives up on: its own words are for programmers."""
    if found := _TOOL_RETRIES.search(str(error)):
        message = (
            f"The model called the tool {found[1]!r} with wrong arguments again and again. "
            "Send another prompt, or choose another model."
        )
    elif "ended without" in str(error):
        message = (
            f"{provider_id!r} sent an empty reply. Try again; if it stays so, check that the model "
            "is loaded, or choose another one."
        )
    else:
        ref = log_unforeseen(error, "running the agent loop")
        message = (
            f"{provider_id!r} sent a reply that the agent can't use. Try again, or choose another "
            f"model; the engine's log has more under {ref}."
        )
    return {"name": "UnknownError", "data": {"message": message}}
