"""
Two layers of events.

`WireEvent` is one frame of the server's stream, as sent. `AgentEvent` is what one turn means to
somebody who follows it: the union that `session.stream()` yields, that the callbacks of
`session.send()` are cut from and that the notebook's widgets draw. `agent_magics.client` turns
the first into the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ._artifacts import Artifact
from ._objects import PermissionRequest, SendResult, Todo
from ._parts import FilePart, StepFinishPart, ToolPart

__all__ = [
    "AgentEvent",
    "ArtifactCreated",
    "Attachment",
    "Compacted",
    "PermissionAsked",
    "PermissionReplied",
    "ReasoningDelta",
    "StatusChanged",
    "StepFinished",
    "TextDelta",
    "TodosUpdated",
    "ToolComplete",
    "ToolFailed",
    "ToolStart",
    "ToolUpdate",
    "TurnEnded",
    "TurnStarted",
    "UnknownEvent",
    "WireEvent",
]


@dataclass(frozen=True, slots=True)
class WireEvent:
    """
    One event as the server sent it.

    `seq` is the number that `Last-Event-ID` takes; `None` for frames that are not stored
    (`server.connected`, heartbeats, everything of a plain opencode server).
    """

    type: str
    properties: Mapping[str, Any]
    seq: int | None = None
    session_id: str = ""
    time: int = 0
    id: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WireEvent:
        properties = data.get("properties") or {}
        info = properties.get("info") or properties.get("part") or {}
        session = (
            data.get("sessionID") or properties.get("sessionID") or info.get("sessionID") or ""
        )
        return cls(
            type=str(data["type"]),
            properties=properties,
            seq=data.get("seq"),
            session_id=str(session),
            time=int(data.get("time") or 0),
            id=str(data.get("id") or ""),
        )


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """
    The server took the prompt. `message_id` is the id of the user's message.

    `model` is the `provider/model-id` that answers, empty when the server did not say.
    """

    message_id: str
    model: str = ""
    type: Literal["turn-started"] = "turn-started"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the part `part_id`."""

    delta: str
    part_id: str = ""
    type: Literal["text-delta"] = "text-delta"


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    delta: str
    part_id: str = ""
    type: Literal["reasoning-delta"] = "reasoning-delta"


@dataclass(frozen=True, slots=True)
class ToolStart:
    """A tool call appeared; its arguments may still be arriving (`part.state.status`)."""

    part: ToolPart
    type: Literal["tool-start"] = "tool-start"


@dataclass(frozen=True, slots=True)
class ToolUpdate:
    """
    Something about a running call changed.

    Either new live output (`output`, with `stream` "stdout" or "stderr") or a new state
    (`output` empty): its arguments are complete, or it runs now.
    """

    part: ToolPart
    output: str = ""
    stream: str = "stdout"
    type: Literal["tool-update"] = "tool-update"


@dataclass(frozen=True, slots=True)
class ToolComplete:
    part: ToolPart
    type: Literal["tool-complete"] = "tool-complete"


@dataclass(frozen=True, slots=True)
class ToolFailed:
    part: ToolPart
    type: Literal["tool-error"] = "tool-error"


@dataclass(frozen=True, slots=True)
class PermissionAsked:
    request: PermissionRequest
    type: Literal["permission-asked"] = "permission-asked"


@dataclass(frozen=True, slots=True)
class PermissionReplied:
    """The request is settled, by whomever; its buttons must go. `reply`: once, always, reject."""

    request_id: str
    reply: str
    type: Literal["permission-replied"] = "permission-replied"


@dataclass(frozen=True, slots=True)
class TodosUpdated:
    todos: tuple[Todo, ...]
    type: Literal["todos-updated"] = "todos-updated"


@dataclass(frozen=True, slots=True)
class Attachment:
    """The agent made or attached a file (an image, say)."""

    part: FilePart
    type: Literal["attachment"] = "attachment"


@dataclass(frozen=True, slots=True)
class ArtifactCreated:
    """The agent published a named result; `session.get_artifact_buffer(artifact.key)` has it."""

    artifact: Artifact
    type: Literal["artifact-created"] = "artifact-created"


@dataclass(frozen=True, slots=True)
class Compacted:
    """
    From here on the model sees a summary in place of the conversation so far.

    `message_id` is the id of the summary's message, empty when the server did not say.
    """

    message_id: str = ""
    type: Literal["compacted"] = "compacted"


@dataclass(frozen=True, slots=True)
class StepFinished:
    """One request to the model is over; carries its tokens and cost."""

    part: StepFinishPart
    type: Literal["step-finished"] = "step-finished"


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """
    `status`: idle, busy, compacting, error or retry; about the connection to the server:
    connecting, connected or reconnecting.

    For `retry`: `attempt` counts from 1, `next` is when it goes on (ms since the epoch).
    """

    status: str
    message: str = ""
    attempt: int = 0
    next: int | None = None
    type: Literal["status"] = "status"


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The one terminal event of a turn. `outcome`: completed, error or aborted."""

    outcome: str
    result: SendResult
    type: Literal["turn-ended"] = "turn-ended"


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a type this version does not know, passed on as it came."""

    event: WireEvent
    type: Literal["unknown"] = "unknown"


AgentEvent = (
    TurnStarted
    | TextDelta
    | ReasoningDelta
    | ToolStart
    | ToolUpdate
    | ToolComplete
    | ToolFailed
    | PermissionAsked
    | PermissionReplied
    | TodosUpdated
    | Attachment
    | ArtifactCreated
    | Compacted
    | StepFinished
    | StatusChanged
    | TurnEnded
    | UnknownEvent
)
