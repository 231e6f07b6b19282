"""Callbacks of `send()`, and the calls that events make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from agent_magics.wire import (
    AgentEvent,
    Attachment,
    FilePart,
    PermissionAsked,
    PermissionRequest,
    ReasoningDelta,
    StatusChanged,
    TextDelta,
    Todo,
    TodosUpdated,
    ToolComplete,
    ToolFailed,
    ToolPart,
    ToolStart,
    ToolUpdate,
    TurnEnded,
    WireError,
)

from ._arguments import check_names

__all__ = ["CallbackRun", "StreamCallbacks"]

_OTHERS = ("model", "agent")
"""What `send()` takes besides callbacks."""


@dataclass(frozen=True, slots=True)
class StreamCallbacks:
    """
    What to call while a turn runs; each one is optional.

    With the sync client they run on the thread that called `send()`; with the async one they may
    be coroutine functions. A callback that raises is not called again in that turn, the turn goes
    on, and `send()` raises the first such exception when it is over.

    `on_permission` may return "once", "always" or "reject", or `None` when somebody else will
    answer. `send()` rejects what is asked when there is no `on_permission` at all, so that it
    never waits for nobody. `on_tool_update` gets the event: `output` is new live output when
    there is some. `on_todo` is another name of `on_todos`. `on_disconnect` is called when the
    connection is lost, `on_connect` each time it stands.
    """

    on_connect: Callable[[], Any] | None = None
    on_disconnect: Callable[[], Any] | None = None
    on_text: Callable[[str], Any] | None = None
    on_reasoning: Callable[[str], Any] | None = None
    on_tool_start: Callable[[ToolPart], Any] | None = None
    on_tool_update: Callable[[ToolUpdate], Any] | None = None
    on_tool_complete: Callable[[ToolPart], Any] | None = None
    on_tool_error: Callable[[ToolPart], Any] | None = None
    on_permission: Callable[[PermissionRequest], Any] | None = None
    on_todos: Callable[[tuple[Todo, ...]], Any] | None = None
    on_todo: Callable[[tuple[Todo, ...]], Any] | None = None
    on_attachment: Callable[[FilePart], Any] | None = None
    on_status: Callable[[StatusChanged], Any] | None = None
    on_error: Callable[[WireError], Any] | None = None

    @classmethod
    def of(cls, callbacks: StreamCallbacks | None, **single: Callable[..., Any]) -> StreamCallbacks:
        """`callbacks` with single ones put in. Raises `UnknownArgument`."""
        check_names("send()", single, [*_OTHERS, *(item.name for item in fields(cls))])
        return replace(callbacks or cls(), **single)


class CallbackRun:
    """The calls of one turn: which callback an event means, and what became of failing ones."""

    def __init__(self, callbacks: StreamCallbacks) -> None:
        self._callbacks = callbacks
        self._failed: set[str] = set()
        self.error: Exception | None = None
        """The first exception that a callback raised."""

    def calls(self, event: AgentEvent) -> list[tuple[str, Callable[[], Any]]]:
        """The calls to make for `event`, by name; without those whose callback failed before."""
        wanted = []
        for name, arguments in _calls(event):
            callback = getattr(self._callbacks, name)
            if callback is not None and name not in self._failed:
                wanted.append((name, _bind(callback, arguments)))
        return wanted

    def failed(self, name: str, error: Exception) -> None:
        """Callback `name` raised `error`."""
        self._failed.add(name)
        if self.error is None:
            self.error = error

    def default_reply(self, event: AgentEvent) -> tuple[str, str] | None:
        """The reply and its reason for a permission that no callback of ours will answer."""
        if not isinstance(event, PermissionAsked):
            return None
        if self._callbacks.on_permission is None:
            return "reject", "Nobody was asked: this program has no permission callback."
        if "on_permission" in self._failed:
            return "reject", "Nobody could be asked: the permission callback failed."
        return None


def _bind(callback: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], Any]:
    return lambda: callback(*arguments)


def _calls(event: AgentEvent) -> list[tuple[str, tuple[Any, ...]]]:
    match event:
        case TextDelta():
            return [("on_text", (event.delta,))]
        case ReasoningDelta():
            return [("on_reasoning", (event.delta,))]
        case ToolStart():
            return [("on_tool_start", (event.part,))]
        case ToolUpdate():
            return [("on_tool_update", (event,))]
        case ToolComplete():
            return [("on_tool_complete", (event.part,))]
        case ToolFailed():
            return [("on_tool_error", (event.part,))]
        case PermissionAsked():
            return [("on_permission", (event.request,))]
        case TodosUpdated():
            return [("on_todos", (event.todos,)), ("on_todo", (event.todos,))]
        case Attachment():
            return [("on_attachment", (event.part,))]
        case StatusChanged():
            return _status_calls(event)
        case TurnEnded(result=result) if result.error is not None:
            return [("on_error", (result.error,))]
    return []


def _status_calls(event: StatusChanged) -> list[tuple[str, tuple[Any, ...]]]:
    calls: list[tuple[str, tuple[Any, ...]]] = [("on_status", (event,))]
    if event.status == "connected":
        calls.append(("on_connect", ()))
    elif event.status == "reconnecting":
        calls.append(("on_disconnect", ()))
    return calls
