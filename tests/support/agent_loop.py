"""
A small agent loop for tests: the real tools on a real sandbox, and a record of all that happens.

It stands where the engine's turn loop stands, without sessions, store and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic_ai import Agent, UsageLimits
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import (
    FunctionToolResultEvent,
    ModelMessage,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model

from agent_magics.engine._policy import DEFAULT_RULES, decide
from agent_magics.engine._skills import Skill
from agent_magics.engine.tools import INSTRUCTIONS, build_tools
from agent_magics.sandbox import Sandbox
from agent_magics.wire import ArtifactJSON, TodoJSON


@dataclass
class RecordedCall:
    """One tool call: what the tool told its context."""

    record: Record
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    result: str = ""
    failed: bool = False
    live: list[tuple[str, bytes]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def sandbox(self) -> Sandbox:
        return self.record.sandbox

    def output(self, stream: str, chunk: bytes) -> None:
        self.live.append((stream, chunk))

    async def permit_write(self, path: str) -> None:
        pass

    def edited(self, path: str) -> None:
        self.record.edited.append(path)

    def metadata(self, **values: Any) -> None:
        self.facts.update(values)

    async def publish(
        self, path: str, data: bytes, key: str | None, description: str
    ) -> ArtifactJSON:
        raise NotImplementedError("artifacts need the engine's store")

    def get_todos(self) -> list[TodoJSON]:
        return self.record.todos

    def set_todos(self, todos: list[TodoJSON]) -> None:
        self.record.todos = todos
        self.record.todo_history.append(todos)


@dataclass
class Record:
    """Everything of one or more turns. `answer` decides about calls that ask: True allows."""

    sandbox: Sandbox
    answer: Callable[[str, dict[str, Any]], bool] = lambda tool, arguments: True
    calls: dict[str, RecordedCall] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    todos: list[TodoJSON] = field(default_factory=list)
    todo_history: list[list[TodoJSON]] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    messages: list[ModelMessage] = field(default_factory=list)

    async def skills(self) -> list[Skill]:
        return []

    def call(self, call_id: str) -> RecordedCall:
        return self.calls.setdefault(call_id, RecordedCall(self))

    @property
    def said(self) -> str:
        """All text of the model, joined."""
        return "".join(self.text)

    @property
    def tools(self) -> list[str]:
        """The tools that were called, in order."""
        return [call.tool for call in self.calls.values()]

    def of(self, tool: str) -> list[RecordedCall]:
        return [call for call in self.calls.values() if call.tool == tool]


class _Permissions(AbstractCapability[Record]):
    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any
    ) -> Any:
        record: Record = ctx.deps
        arguments = call.args_as_dict()
        recorded = record.call(call.tool_call_id)
        recorded.tool, recorded.arguments = call.tool_name, arguments
        decision = decide(DEFAULT_RULES, call.tool_name, arguments)
        if decision.action == "ask":
            record.asked.append(call.tool_name)
            if not record.answer(call.tool_name, arguments):
                raise ToolFailed("The user rejected permission for this tool call.")
        if decision.action == "deny":
            raise ToolFailed("The permission rules deny this tool call.")
        return await handler(args)


@cache
def _agent() -> Agent[Record, str]:
    return Agent(
        deps_type=Record,
        tools=build_tools(),  # type: ignore[arg-type]
        instructions=INSTRUCTIONS,
        capabilities=[_Permissions()],
    )


async def run_turn(record: Record, model: Model, prompt: str) -> Record:
    """One turn, streamed. Appends to `record`; its messages are the history of the next turn."""
    limits = UsageLimits(request_limit=40)
    async with _agent().iter(
        prompt, model=model, deps=record, message_history=record.messages, usage_limits=limits
    ) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                await _follow_text(record, node, run.ctx)
            elif Agent.is_call_tools_node(node):
                await _follow_tools(record, node, run.ctx)
        record.messages = run.all_messages()
    return record


async def _follow_text(record: Record, node: Any, ctx: Any) -> None:
    async with node.stream(ctx) as stream:
        async for event in stream:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                record.text.append(event.part.content)
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                record.text.append(event.delta.content_delta)


async def _follow_tools(record: Record, node: Any, ctx: Any) -> None:
    async with node.stream(ctx) as stream:
        async for event in stream:
            if isinstance(event, FunctionToolResultEvent):
                part: Any = event.part
                recorded = record.call(part.tool_call_id)
                recorded.tool = recorded.tool or part.tool_name
                content = part.content
                recorded.result = content if isinstance(content, str) else str(content)
                recorded.failed = getattr(part, "outcome", "failed") != "success"
