"""Agents, their rules, and tasks: the JSON and what users hold of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from ._objects import PermissionRequest, SendResult

__all__ = [
    "AgentConfig",
    "AgentInfo",
    "PermissionRule",
    "PermissionRuleJSON",
    "TaskInfo",
    "TaskStatus",
    "Unattended",
]

Unattended = Literal["ask", "once", "reject"]
"""What becomes of permission requests: they wait for a person, or are answered at once."""

TaskStatus = Literal["running", "waiting", "completed", "error", "aborted"]


class AgentConfig(TypedDict, total=False):
    """
    An agent of one's own; every key is optional.

    `name`: how messages name it; that of an existing agent means changes of that one. `model`:
    `provider/model-id`. `instructions`: one text or several, after the server's own. `tools`:
    names or patterns, on or off; others stay as they are. `permission`: `{tool: action}`,
    `{tool: {pattern: action}}` or a list of `{permission, pattern, action}`, actions being allow,
    ask and deny; later ones win, and what is denied here no answer allows. `mode`: primary,
    subagent or all.
    """

    name: str
    model: str
    instructions: str | Sequence[str]
    temperature: float
    tools: Mapping[str, bool]
    permission: Mapping[str, Any] | Sequence[Mapping[str, str]]
    description: str
    mode: Literal["primary", "subagent", "all"]


class PermissionRuleJSON(TypedDict):
    id: str
    sessionID: str
    permission: str
    pattern: str
    action: str


@dataclass(frozen=True, slots=True)
class PermissionRule:
    """
    What is allowed, asked or denied: `action` for `permission` (a tool) where `pattern` matches.

    A rule that an "always" answer made has an `id`, which `withdraw_rule()` takes, and holds in
    the session `session_id` and for its sub-agents. Rules of agents have neither.
    """

    permission: str
    pattern: str
    action: str
    id: str = ""
    session_id: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PermissionRule:
        return cls(
            permission=str(data["permission"]),
            pattern=str(data["pattern"]),
            action=str(data["action"]),
            id=str(data.get("id") or ""),
            session_id=str(data.get("sessionID") or ""),
        )


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """
    An agent that the server has.

    `mode`: primary (for sessions), subagent (for tasks) or all. `model` is `provider/model-id`,
    empty for the session's. `native`: built in.
    """

    name: str
    description: str = ""
    mode: str = "all"
    native: bool = False
    model: str = ""
    temperature: float | None = None
    instructions: str = ""
    permission: tuple[PermissionRule, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AgentInfo:
        model = data.get("model") or {}
        provider, name = model.get("providerID"), model.get("modelID")
        return cls(
            name=str(data["name"]),
            description=str(data.get("description") or ""),
            mode=str(data.get("mode") or "all"),
            native=bool(data.get("native")),
            model=f"{provider}/{name}" if provider and name else "",
            temperature=data.get("temperature"),
            instructions=str(data.get("prompt") or ""),
            permission=tuple(PermissionRule.from_json(r) for r in data.get("permission") or ()),
        )


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """
    How a task stands. `waiting`: it runs, and its `permissions` wait for an answer.

    `result` is there when it is over; after "error" and "aborted" it has what was done until then.
    """

    id: str
    status: TaskStatus
    permissions: tuple[PermissionRequest, ...] = ()
    result: SendResult | None = None

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self.result is not None
