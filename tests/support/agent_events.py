"""Short ways to write down what happens in a turn."""

from __future__ import annotations

from typing import Any

from agent_magics.wire import (
    FilePart,
    PermissionAsked,
    PermissionReplied,
    PermissionRequest,
    ReasoningDelta,
    SendResult,
    StatusChanged,
    StepFinished,
    StepFinishPart,
    TextDelta,
    Todo,
    TodosUpdated,
    Tokens,
    ToolComplete,
    ToolFailed,
    ToolPart,
    ToolStart,
    ToolState,
    ToolUpdate,
    TurnEnded,
    WireError,
)


def text(delta: str, part: str = "prt_t") -> TextDelta:
    return TextDelta(delta, part)


def thought(delta: str, part: str = "prt_r") -> ReasoningDelta:
    return ReasoningDelta(delta, part)


def tool_part(status: str, name: str = "bash", call: str = "1", **state: Any) -> ToolPart:
    ids = (f"prt_{call}", "msg_2", "ses_1")
    return ToolPart(*ids, name, f"call_{call}", ToolState(status, **state))


def tool_start(name: str = "bash", call: str = "1") -> ToolStart:
    return ToolStart(tool_part("pending", name, call))


def tool_runs(name: str = "bash", call: str = "1", **state: Any) -> ToolUpdate:
    return ToolUpdate(tool_part("running", name, call, **state))


def tool_prints(output: str, name: str = "bash", call: str = "1", **state: Any) -> ToolUpdate:
    return ToolUpdate(tool_part("running", name, call, **state), output)


def tool_done(name: str = "bash", call: str = "1", **state: Any) -> ToolComplete:
    return ToolComplete(tool_part("completed", name, call, **state))


def tool_failed(name: str = "bash", call: str = "1", **state: Any) -> ToolFailed:
    return ToolFailed(tool_part("error", name, call, **state))


def asked(id: str = "per_1", permission: str = "bash", **fields: Any) -> PermissionAsked:
    values = {
        "patterns": ("ls -l",),
        "always": ("ls *",),
        "metadata": {"command": "ls -l"},
        **fields,
    }
    return PermissionAsked(PermissionRequest(id, "ses_1", permission, **values))


def replied(reply: str = "once", id: str = "per_1") -> PermissionReplied:
    return PermissionReplied(id, reply)


def plan(*items: tuple[str, str]) -> TodosUpdated:
    return TodosUpdated(tuple(Todo(content, status) for content, status in items))


def status(name: str, message: str = "", **fields: Any) -> StatusChanged:
    return StatusChanged(name, message, **fields)


ONE_STEP = Tokens(10, 5)


def step(tokens: Tokens = ONE_STEP, cost: float | None = None) -> StepFinished:
    return StepFinished(StepFinishPart("prt_s", "msg_2", "ses_1", "stop", tokens, cost))


def ended(outcome: str = "completed", error: str = "", **fields: Any) -> TurnEnded:
    failure = WireError("APIError", error) if error else None
    parts = (
        tool_part("completed"),
        FilePart("prt_f", "msg_2", "ses_1", "image/png", "file:///workspace/a.png"),
    )
    values: dict[str, Any] = {"tokens": Tokens(10, 5), "parts": parts, **fields}
    return TurnEnded(outcome, SendResult("msg_2", "", error=failure, **values))
