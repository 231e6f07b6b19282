"""How providers say that a request is larger than the model's context window."""

from __future__ import annotations

import re
from typing import Any

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelContextWindowExceededError,
    ModelHTTPError,
)

__all__ = ["is_overflow", "window_named"]

_SIGNS = (
    "context_length_exceeded",
    "context length",
    "context limit",
    "context window",
    "exceed_context_size_error",
    "available context size",
    "maximum context",
    "maximum prompt length",
    "prompt is too long",
)
_NUMBER = r"(\d[\d,]*)"
_WINDOWS = tuple(
    re.compile(pattern.replace("N", _NUMBER), re.IGNORECASE)
    for pattern in (
        r"maximum (?:context|prompt) length is N",
        r"available context size \(N",
        r"tokens > N maximum",
        r"context limit: N \+ N > N",
        r"with N maximum context length",
        r"context window of N",
        r"tokens allowed \(N",
    )
)
_PLAUSIBLE = range(256, 100_000_001)


def is_overflow(error: Exception) -> bool:
    """Whether the provider says that the request is larger than the model's context window."""
    if isinstance(error, ModelContextWindowExceededError):
        return True
    if not isinstance(error, ModelAPIError):
        return False
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    return status in (400, 413, None) and any(sign in str(error).lower() for sign in _SIGNS)


def window_named(error: Exception) -> int | None:
    """The window in tokens, if what the provider says of the overflow names it."""
    body: Any = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    found = inner.get("n_ctx") if isinstance(inner, dict) else None  # llama.cpp's
    if not isinstance(found, int):
        match = next((m for pattern in _WINDOWS if (m := pattern.search(str(error)))), None)
        found = int(match.groups()[-1].replace(",", "")) if match else 0
    return found if found in _PLAUSIBLE else None
