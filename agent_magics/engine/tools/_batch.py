"""The `batch` tool: several calls of other tools at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_ai import BinaryContent, ModelRetry, RunContext
from pydantic_ai.messages import ToolCallPart, ToolReturn
from pydantic_ai.tool_manager import ToolManager

from agent_magics.sandbox import SandboxUnavailable
from agent_magics.wire import PartJSON

from .._calls import complaints, result_text
from ._context import TurnDeps, tool_context
from ._output import MAX_OUTPUT, cap_text

__all__ = ["BatchCall", "batch"]

_Manager = ToolManager[TurnDeps]

MAX_CALLS = 25
_LEAST_SHARE = 4000


class BatchCall(BaseModel):
    """One call of a batch."""

    tool: str = Field(description="The tool's name.")
    parameters: dict[str, Any] = Field(description="Its arguments.", default_factory=dict)


@dataclass
class _Outcome:
    """What became of a call: its result, or why it has none."""

    call: ToolCallPart
    part: PartJSON
    result: Any = None
    error: str | None = None
    fatal: SandboxUnavailable | None = None


async def batch(ctx: RunContext[TurnDeps], tool_calls: list[BatchCall]) -> ToolReturn[str]:
    """Make several independent tool calls at once: faster than one after the other.

    Use it for reading several files, searching for several things, several commands that don't
    depend on each other. Each call needs its own permission; one that fails does not stop the
    others. The order is only kept for tools that change files. A batch can't contain a batch.

    Args:
        tool_calls: 1 to 25 calls.
    """
    if not 1 <= len(tool_calls) <= MAX_CALLS:
        raise ModelRetry(f"A batch has 1 to {MAX_CALLS} calls, not {len(tool_calls)}.")
    manager = ctx.tool_manager
    assert manager is not None  # there is one wherever a tool runs
    calls = [
        ToolCallPart(call.tool, call.parameters, f"{ctx.tool_call_id}_{number}")
        for number, call in enumerate(tool_calls, 1)
    ]
    outcomes = [_Outcome(call, ctx.deps.find(call)) for call in calls]
    for group in _groups(manager, outcomes):
        async with asyncio.TaskGroup() as tasks:
            for outcome in group:
                tasks.create_task(_run(ctx, manager, outcome))
        if fatal := next((outcome.fatal for outcome in group if outcome.fatal), None):
            raise fatal
    tool_context(ctx).metadata(
        calls=[
            {"tool": o.call.tool_name, "callID": o.call.tool_call_id, "failed": o.error is not None}
            for o in outcomes
        ]
    )
    return _report(outcomes)


def _groups(
    manager: ToolManager[TurnDeps], outcomes: Sequence[_Outcome]
) -> Iterator[list[_Outcome]]:
    """Calls that may run together; what changes files runs alone and in its place."""
    group: list[_Outcome] = []
    for outcome in outcomes:
        if manager.is_sequential(outcome.call):
            yield group
            yield [outcome]
            group = []
        else:
            group.append(outcome)
    yield group


async def _run(
    ctx: RunContext[TurnDeps], manager: ToolManager[TurnDeps], outcome: _Outcome
) -> None:
    """Run one call like any other: the engine asks for permission and keeps its part up to date."""
    call = outcome.call
    try:
        if call.tool_name == "batch":
            raise ModelRetry("A batch can't contain a batch.")
        if manager.get_tool_def(call.tool_name) is None:
            raise ModelRetry(f"There is no tool {call.tool_name}.")
        outcome.result = await manager.handle_call(call, wrap_validation_errors=False)
    except SandboxUnavailable as error:
        outcome.fatal = error
    except ValidationError as error:
        outcome.error = f"Wrong arguments: {complaints(error)}"
    except Exception as error:  # the engine has logged what was unforeseen
        outcome.error = str(error) or type(error).__name__
    if outcome.error is not None:
        ctx.deps.fail_call(outcome.part, outcome.error)


def _report(outcomes: Sequence[_Outcome]) -> ToolReturn[str]:
    share = max(_LEAST_SHARE, 2 * MAX_OUTPUT // len(outcomes))
    failed = sum(outcome.error is not None for outcome in outcomes)
    sections = [f"{len(outcomes) - failed} of {len(outcomes)} calls succeeded."]
    images: list[str | BinaryContent] = []
    for number, outcome in enumerate(outcomes, 1):
        head = f"[{number}] {outcome.call.tool_name}"
        if outcome.error is not None:
            sections.append(f"{head} failed:\n{cap_text(outcome.error, share)}")
        elif isinstance(outcome.result, BinaryContent):
            sections.append(f"{head}:\n(an image; it follows)")
            images += [f"The image of call {number}:", outcome.result]
        else:
            sections.append(f"{head}:\n{cap_text(result_text(outcome.result), share)}")
    return ToolReturn("\n\n".join(sections), content=images or None)
