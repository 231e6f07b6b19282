"""How a reply of the model ended: as a whole one, or early and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic_ai.exceptions import ModelContextWindowExceededError
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

from ._errors import ApiError
from ._text import one_line

__all__ = [
    "CALL_CUT",
    "GO_ON",
    "ReplyEndedEarly",
    "WindowFull",
    "check_ending",
    "finish_reason",
    "is_empty",
]

CALL_CUT = "The model's reply ended early, before this call was complete; it was not run."
GO_ON = 'What had arrived is kept; send another prompt, such as "go on", to continue.'
_LONGEST_REFUSAL = 300
_WHOLE = re.compile(
    "stop|end_turn|stop_sequence|stop_str|eos|eos_token|eos_found|end|complete|completed|finished|"
    "tool_calls|tool_call|tool_use|function_call|compaction|normal"
)
_LENGTH = re.compile("length|max_tokens|max_output_tokens|max_length|token_limit|model_length")
_WINDOW = re.compile(
    "(model_)?context_window_exceeded|context_length(_exceeded)?|context_limit|max_context_length"
)
_FILTER = re.compile(
    "content_filter(ed)?|refusal|refused|safety|blocked|blocklist|prohibited_content|recitation|"
    "spii|sensitive|guardrail(_intervened)?|policy_violation"
)


class ReplyEndedEarly(ApiError):
    """The model stopped before its reply was whole. `data` has the `finishReason`."""

    status, name = 502, "ReplyIncompleteError"


class WindowFull(ModelContextWindowExceededError):
    """The reply ended because the model's context window is full; a summary makes room."""


def finish_reason(response: ModelResponse) -> str:
    """
    Why the model stopped, in opencode's words: stop, tool-calls, length, content-filter, error.

    Besides, `context-window`: the window is full, and `other`: a reason of the provider's own.
    """
    details = response.provider_details or {}
    raw = str(details.get("finish_reason") or "").lower()
    if response.finish_reason in ("stop", "tool_call"):
        return _whole(response)
    if _WINDOW.fullmatch(raw) or (response.finish_reason == "length" and _said_nothing(response)):
        return "context-window"
    if response.finish_reason == "length" or _LENGTH.fullmatch(raw):
        return "length"
    if response.finish_reason == "content_filter" or _FILTER.fullmatch(raw):
        return "content-filter"
    if response.finish_reason == "error":
        return "error"
    return _whole(response) if not raw or _WHOLE.fullmatch(raw) else "other"


def _whole(response: ModelResponse) -> str:
    return "tool-calls" if any(isinstance(p, ToolCallPart) for p in response.parts) else "stop"


def _said_nothing(response: ModelResponse) -> bool:
    """Not one token: local servers end so when the prompt has filled the window."""
    return is_empty(response) and response.usage.output_tokens <= 1


def is_empty(response: ModelResponse) -> bool:
    """Whether it holds neither text nor thoughts nor calls."""
    return not any(
        isinstance(part, ToolCallPart) or getattr(part, "content", None) for part in response.parts
    )


def check_ending(response: ModelResponse, provider_id: str, scrub: Callable[[str], str]) -> None:
    """
    Raises ReplyEndedEarly for a reply that is not whole, WindowFull where a summary may help.

    None of its tool calls may run then, not even one whose arguments look complete.
    """
    reason = finish_reason(response)
    if reason in ("stop", "tool-calls"):
        return
    if reason == "context-window":
        raise WindowFull(response.model_name or "", "the model's context window is full")
    name, message = _WORDS[reason](response, provider_id)
    if any(isinstance(part, ToolCallPart) for part in response.parts):
        message += " Its tool calls were not run."
    raise ReplyEndedEarly(scrub(message), name=name, finishReason=reason)


def _length(_response: ModelResponse, _provider_id: str) -> tuple[str, str]:
    message = f"The reply was cut off: it reached the token limit of one reply. {GO_ON}"
    return "MessageOutputLengthError", message


def _filter(response: ModelResponse, provider_id: str) -> tuple[str, str]:
    details: dict[str, Any] = response.provider_details or {}
    said = one_line(str(details.get("refusal") or ""), _LONGEST_REFUSAL)
    cut = any(isinstance(part, TextPart) and part.content for part in response.parts)
    what = "broke off its reply" if cut else "refused to answer"
    message = f"{provider_id!r} {what} because of its content rules"
    message += f": {said.rstrip('.')}." if said else "."
    return "ContentFilterError", f"{message} Rephrase the prompt, or choose another model."


def _error(_response: ModelResponse, provider_id: str) -> tuple[str, str]:
    message = f"The reply was cut off: {provider_id!r} ended it with an error. {GO_ON}"
    return "ReplyIncompleteError", message


def _other(response: ModelResponse, provider_id: str) -> tuple[str, str]:
    details: dict[str, Any] = response.provider_details or {}
    raw = one_line(str(details.get("finish_reason")), 60)
    message = f"The reply may be incomplete: {provider_id!r} ended it with the reason {raw!r}. "
    return "ReplyIncompleteError", message + GO_ON


_WORDS = {"length": _length, "content-filter": _filter, "error": _error, "other": _other}
