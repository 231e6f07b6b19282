"""A container for the tools, and a way to call one tool as a model would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from agent_magics.sandbox import Sandbox, open_sandbox
from tests.support.agent_loop import Record, RecordedCall, run_turn

CallTool = Callable[..., Awaitable[RecordedCall]]


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    sandbox = open_sandbox(tmp_path / "session", provider="local")
    await sandbox.start()
    yield sandbox
    await sandbox.destroy()


@pytest.fixture
def record(sandbox: Sandbox) -> Record:
    return Record(sandbox)


def one_call(tool: str, arguments: dict[str, Any]) -> FunctionModel:
    """A model that makes one call and then ends."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        last = messages[-1]
        done = isinstance(last, ModelRequest) and any(
            isinstance(part, ToolReturnPart) for part in last.parts
        )
        if done:
            yield "done"
        else:
            calls: DeltaToolCalls = {0: DeltaToolCall(tool, json.dumps(arguments))}
            yield calls

    return FunctionModel(stream_function=stream)


@pytest.fixture
def call(record: Record) -> CallTool:
    """Calls one tool through the agent loop; answers what was recorded of the call."""

    async def call(tool: str, **arguments: Any) -> RecordedCall:
        before = set(record.calls)
        await run_turn(record, one_call(tool, arguments), "go")
        (recorded,) = [record.calls[key] for key in record.calls if key not in before]
        return recorded

    return call
