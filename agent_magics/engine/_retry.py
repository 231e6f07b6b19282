"""Which failures of a model are worth another try, and what a failed turn is called."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
)

from agent_magics.wire import ErrorJSON

from ._errors import from_exception
from ._ids import now_ms
from ._overflow import is_overflow

__all__ = ["Retries", "RetryPolicy", "summary_failure", "turn_error"]

_RETRYABLE = frozenset({408, 409, 429})
_KEPT = 'What had arrived is kept; send another prompt, such as "go on", to continue.'
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
        if isinstance(error, ModelHTTPError):
            if not _is_retryable(error.status_code) or failures >= self.tries:
                return None
        elif failures >= self.connection_tries:
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
    error: Exception, provider_id: str, scrub: Callable[[str], str], *, after_break: str = _KEPT
) -> ErrorJSON:
    """
    What the reader of a turn is told. Texts of providers are scrubbed of secrets.

    `after_break` says what is left, and to be done, when the connection broke in mid-reply.
    """
    if isinstance(error, ModelAPIError):
        return _model_error(error, provider_id, scrub, after_break)
    if isinstance(error, AgentRunError):
        return {"name": "UnknownError", "data": {"message": scrub(str(error))}}
    return from_exception(error, "running a turn").to_json()


def summary_failure(error: Exception, provider_id: str, scrub: Callable[[str], str]) -> ErrorJSON:
    """The same for a summary, of which nothing is used when it is not complete."""
    return turn_error(error, provider_id, scrub, after_break=_UNCHANGED)


def _model_error(
    error: ModelAPIError, provider_id: str, scrub: Callable[[str], str], after_break: str
) -> ErrorJSON:
    message = scrub(provider_message(error))
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    if isinstance(error, ModelConnectionError) and error.in_stream:
        message = (
            f"The model's reply broke off: the connection to {provider_id!r} was lost in the "
            f"middle of it ({message.rstrip('.')}). {after_break}"
        )
    elif status is None and not error.in_stream:
        message = (
            f"The model server of {provider_id!r} can't be reached ({message}) "
            "Check its address and that it runs."
        )
    if status in (401, 403):
        message = f"{provider_id!r} does not accept the key or refuses access: {message}"
        return {
            "name": "ProviderAuthError",
            "data": {"providerID": provider_id, "message": message, "statusCode": status},
        }
    if is_overflow(error):
        return {"name": "ContextOverflowError", "data": {"message": message}}
    data: dict[str, Any] = {
        "message": message,
        "isRetryable": status is None or _is_retryable(status),
    }
    if status is not None:
        data["statusCode"] = status
    return {"name": "APIError", "data": data}


def provider_message(error: ModelAPIError) -> str:
    """The provider's own sentence where its answer has one, else the whole text."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            body = inner["message"]
    if isinstance(body, str) and body.strip():
        status = f" ({error.status_code})" if isinstance(error, ModelHTTPError) else ""
        return f"{error.model_name}{status}: {body.strip()}"
    return str(error)
