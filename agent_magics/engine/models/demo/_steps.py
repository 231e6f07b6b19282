"""Steps of a walk-through, and where in it a conversation stands."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    ToolReturnPart,
    UserPromptPart,
)

__all__ = ["Call", "Position", "Result", "Step", "Walk", "position", "replay", "todos"]

_REJECTED = re.compile(r"reject|denied|deny|denies|not permitted|permission", re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """A tool call to make."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What came back from a call."""

    text: str
    ok: bool = True

    @property
    def rejected(self) -> bool:
        """Whether the user or a rule did not allow it."""
        return not self.ok and _REJECTED.search(self.text) is not None


@dataclass(frozen=True)
class Step:
    """
    One reply: text, then tool calls. A step without calls ends the turn.

    With `failure` the reply fails with that sentence when the rest is said.
    """

    text: str
    calls: tuple[Call, ...] = ()
    failure: str = ""

    @property
    def spoken(self) -> str:
        """The text as a paragraph: what the next step says does not run on from it."""
        return f"{self.text}\n\n" if self.text and self.calls else self.text


Walk = Generator[Step, tuple[Result, ...], None]
"""Yields steps and receives the results of their calls, in the order of the calls."""


@dataclass(frozen=True)
class Position:
    """The user's last prompt, those before it, and what came back since."""

    prompt: str
    earlier: tuple[str, ...]
    rounds: tuple[tuple[Result, ...], ...]


def replay(walk: Walk, rounds: Sequence[tuple[Result, ...]]) -> Step:
    """The step that follows after `rounds`."""
    step = next(walk)
    try:
        for results in rounds:
            step = walk.send(results)
    except StopIteration:
        return Step("That was all.")
    return step


def position(messages: Sequence[ModelMessage], limit: int) -> Position:
    """Where the conversation stands; of each prompt the first `limit` characters."""
    prompts: list[str] = []
    start = 0
    for index, message in enumerate(messages):
        if isinstance(message, ModelRequest) and (text := _prompt(message)) is not None:
            prompts.append(text[:limit])
            start = index
    turn = messages[start:]
    results = _results(turn)
    missing = Result("The call brought no result.", ok=False)
    rounds = tuple(
        tuple(results.get(call.tool_call_id, missing) for call in message.tool_calls)
        for message in turn
        if isinstance(message, ModelResponse) and message.tool_calls
    )
    return Position(prompts[-1] if prompts else "", tuple(prompts[:-1]), rounds)


def _prompt(message: ModelRequest) -> str | None:
    texts = []
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            content = [part.content] if isinstance(part.content, str) else part.content
            texts += [item for item in content if isinstance(item, str)]
    return "\n".join(texts) if texts else None


def _results(messages: Sequence[ModelMessage]) -> dict[str, Result]:
    found = {}
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, ToolReturnPart):
                text = part.content if isinstance(part.content, str) else part.model_response_str()
                found[part.tool_call_id] = Result(text, part.outcome == "success")
            elif isinstance(part, RetryPromptPart):
                found[part.tool_call_id] = Result(part.model_response(), ok=False)
    return found


def todos(labels: Sequence[str], current: int, *, stopped: bool = False) -> Call:
    """
    The todo list with all before `current` completed and `current` in progress.

    `stopped`: the work ends here, what is left is cancelled.
    """

    def status(index: int) -> str:
        if index < current:
            return "completed"
        if stopped:
            return "cancelled"
        return "in_progress" if index == current else "pending"

    items = [
        {"content": label, "status": status(i), "priority": "high" if i == 0 else "medium"}
        for i, label in enumerate(labels)
    ]
    return Call("todowrite", {"todos": items})
