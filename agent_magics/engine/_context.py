"""
How much of a model's context window a conversation takes, and when room has to be made.

Counts are those of the last reply that told its usage; what came after it is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)

from agent_magics.wire import TodoJSON

from ._config import CompactionConfig
from ._errors import ContextOverflow

if TYPE_CHECKING:
    from .models import Window

__all__ = ["Room", "estimate", "kept_messages", "since_summary", "starts_with_summary"]

_MARK = {"compaction": True}
_BYTES_PER_TOKEN = 4
_ATTACHMENT_TOKENS = 1500
"""About what providers count for an image."""
_TODO_MARKS = {"completed": "x", "in_progress": ">", "cancelled": "-"}
_QUESTION = (
    "To make room, the conversation before this message was replaced by a summary. "
    "What was asked, done and decided so far?"
)


def kept_messages(summary: str, todos: Sequence[TodoJSON]) -> list[ModelMessage]:
    """
    What takes the place of a conversation: a question and the summary as its answer.

    A pair, because some providers want the roles to alternate.
    """
    question = _QUESTION
    if todos:
        lines = (f"- [{_TODO_MARKS.get(t['status'], ' ')}] {t['content']}" for t in todos)
        question += "\n\nThe todo list at this point:\n" + "\n".join(lines)
    request = ModelRequest(parts=[UserPromptPart(question)], metadata=dict(_MARK))
    # Without usage: that of the summary's own request would say that the window is still full.
    return [request, ModelResponse(parts=[TextPart(summary)])]


def since_summary(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """What the model sees: the messages from the last summary on."""
    for index in range(len(messages) - 1, -1, -1):
        if starts_with_summary(messages[index:]):
            return list(messages[index:])
    return list(messages)


def starts_with_summary(messages: Sequence[ModelMessage]) -> bool:
    """Whether the first messages are a pair that `kept_messages` made."""
    first = messages[0] if messages else None
    return isinstance(first, ModelRequest) and first.metadata == _MARK


def estimate(messages: Sequence[ModelMessage]) -> int:
    """Tokens that the messages take, roughly."""
    size = 0
    for message in messages:
        for part in message.parts:
            size += _size(getattr(part, "content", None)) + _size(getattr(part, "args", None))
    return size // _BYTES_PER_TOKEN


def _size(content: Any) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return len(content.encode("utf-8", "replace"))
    if isinstance(content, BinaryContent):
        return _ATTACHMENT_TOKENS * _BYTES_PER_TOKEN
    if isinstance(content, Mapping):
        return sum(_size(key) + _size(value) for key, value in content.items())
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return sum(_size(item) for item in content)
    return len(str(content))


def _used(messages: Sequence[ModelMessage]) -> int:
    """As the last response that told its usage says; without one, as estimated."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, ModelResponse) and message.usage.total_tokens:
            return message.usage.total_tokens + estimate(messages[index + 1 :])
    return estimate(messages)


class Room:
    """
    The context window of one turn's model.

    `made` is set by the turn when it has replaced what came before by a summary.
    """

    def __init__(self, config: CompactionConfig, window: Window) -> None:
        self.made = False
        self._config = config
        self._window = window

    @property
    def limit(self) -> int | None:
        """The window in tokens; it may become known, or turn out to be smaller, at any time."""
        return self._window.size(self._config.context_limit)

    def is_refused(self, size: int | None) -> None:
        """The provider found a request too large for the window, and may have named its size."""
        self._window.learn(size)

    def can_be_made(self, history: Sequence[ModelMessage], new: Sequence[ModelMessage]) -> bool:
        """
        Whether a summary may help a request that the provider found too large.

        `history` is what the turn's run began with, `new` what came since.
        """
        if not self._config.auto:
            return False
        if self.made:  # the last one did not help if nothing was said since
            return any(isinstance(message, ModelResponse) for message in new)
        return _is_worth_it(history, new)

    def is_needed(
        self, history: Sequence[ModelMessage], new: Sequence[ModelMessage], request: ModelRequest
    ) -> bool:
        """
        Whether room must be made before `request` is sent.

        `history` is what the turn's run began with, `new` what came since. Raises ContextOverflow
        when another summary can't help.
        """
        used, limit = _used([*history, *new, request]), self.limit
        if limit is None or not self._config.auto:
            return False
        most = int(limit * self._config.threshold)
        if used <= most:
            return False
        if not self.made:
            return _is_worth_it(history, new)
        first = next((i for i, m in enumerate(new) if isinstance(m, ModelResponse)), None)
        if first is None:
            # Straight after the summary: the prompt may take more than its share, not the summary.
            if estimate(history) > most or used > limit:
                raise self._overflow(used)
            return False
        least = _used([*history, *new[: first + 1]])
        if least > most:  # it was full again from the first step on
            raise self._overflow(least)
        return True

    def _overflow(self, used: int) -> ContextOverflow:
        return ContextOverflow(
            f"The summary and the prompt alone take about {used} of the {self.limit} tokens of "
            "the model's context window. Send a shorter prompt, choose a model with a larger "
            "window, or start a new session.",
            used=used,
            limit=self.limit,
        )


def _is_worth_it(history: Sequence[ModelMessage], new: Sequence[ModelMessage]) -> bool:
    """Whether there is anything to summarize, beyond a summary."""
    pair_alone = starts_with_summary(history) and len(history) == 2
    return len(new) > 0 or (len(history) > 0 and not pair_alone)
