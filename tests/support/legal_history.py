"""What every provider demands of a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)


def check_legal(messages: Sequence[ModelMessage]) -> None:
    """Requests and responses alternate; every call has its one result in the next request."""
    assert messages and isinstance(messages[0], ModelRequest)
    calls: list[str] = []
    for message, previous in zip(messages, [None, *messages], strict=False):
        assert type(message) is not type(previous), "two of a kind in a row"
        if isinstance(message, ModelResponse):
            calls = [p.tool_call_id for p in message.parts if isinstance(p, ToolCallPart)]
            continue
        results = [
            part.tool_call_id
            for part in message.parts
            if isinstance(part, ToolReturnPart)
            or (isinstance(part, RetryPromptPart) and part.tool_name is not None)
        ]
        assert sorted(results) == sorted(calls), "calls without result, or results without call"
        calls = []
    assert calls == [], "calls without result at the end"


def prompts(messages: Sequence[ModelMessage]) -> list[str]:
    """The texts of the user's side."""
    return [
        part.content if isinstance(part.content, str) else " ".join(map(str, part.content))
        for message in messages
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]
