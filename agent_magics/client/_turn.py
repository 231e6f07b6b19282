"""
What one turn means: the session's events in, `AgentEvent`s out. Pure, no I/O.

The reader may be fed any number of times with the same events, with events of earlier turns and
of other sessions, and with closed parts in place of the deltas that made them; what comes out is
the same: every character once, every tool's end once, one `TurnEnded`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent_magics.wire import (
    AgentEvent,
    Artifact,
    ArtifactCreated,
    Attachment,
    Compacted,
    FilePart,
    MessageInfo,
    Part,
    PermissionAsked,
    PermissionReplied,
    PermissionRequest,
    ReasoningDelta,
    ReasoningPart,
    SendResult,
    StatusChanged,
    StepFinished,
    StepFinishPart,
    StepStartPart,
    TextDelta,
    TextPart,
    Todo,
    TodosUpdated,
    Tokens,
    ToolComplete,
    ToolFailed,
    ToolPart,
    ToolStart,
    ToolUpdate,
    TurnEnded,
    TurnStarted,
    UnknownEvent,
    WireError,
    WireEvent,
    part_from_json,
)

__all__ = ["TurnReader"]

_ABORTED = "MessageAbortedError"
_FINAL = ("completed", "error")
_CUT = {
    "length": (
        "MessageOutputLengthError",
        "The reply was cut off: it reached the token limit of one reply.",
    ),
    "content-filter": (
        "ContentFilterError",
        "The provider refused to answer, or broke off its reply, because of its content rules.",
    ),
}
"""Finish reasons of replies that are not whole, and what they are called."""
_ABOUT_SESSIONS = ("session.created", "session.updated", "session.diff")


@dataclass(slots=True)
class _Text:
    """A text or reasoning part: its latest form, and what of it was passed on."""

    part: TextPart | ReasoningPart
    passed: list[str] = field(default_factory=list)
    stale: bool = False
    """Deltas may be missing; only the whole text is to be believed."""

    def grow(self, delta: str) -> AgentEvent:
        self.passed.append(delta)
        kind = TextDelta if self.part.type == "text" else ReasoningDelta
        return kind(delta, self.part.id)

    def snapshot(self) -> TextPart | ReasoningPart:
        return self.part if self.part.closed else replace(self.part, text="".join(self.passed))


class TurnReader:
    """Follows the turn that the user's message `message_id` started."""

    def __init__(self, session_id: str, message_id: str) -> None:
        self.session_id = session_id
        self.message_id = message_id
        self._family = {session_id}
        self._started = False
        self._begun = 0
        self._answers: dict[str, MessageInfo] = {}
        self._parts: dict[str, Part] = {}
        self._texts: dict[str, _Text] = {}
        self._asked: set[str] = set()
        self._replied: set[str] = set()
        self._summaries: set[str] = set()
        self._error: WireError | None = None
        self._ended: TurnEnded | None = None

    @property
    def ended(self) -> TurnEnded | None:
        """The terminal event, once there is one."""
        return self._ended

    @property
    def is_answered(self) -> bool:
        """Whether the history says that the agent is through: its last message is complete."""
        last = next(reversed(self._answers.values()), None)
        return last is not None and (last.time_completed is not None or last.error is not None)

    def feed(self, event: WireEvent) -> list[AgentEvent]:
        """
        The next event of the stream. After the end nothing comes out any more.

        Raises `KeyError`, `TypeError` or `ValueError` for an event that breaks the protocol.
        """
        if self._ended is not None:
            return []
        if event.session_id not in self._family:
            return self._adopt(event)
        handler = _HANDLERS.get(event.type)
        if not self._started and event.type not in ("message.updated", "turn.started"):
            return self._adopt(event)
        if handler is None:
            return self._pass_on(event)
        return handler(self, event)

    def mark_gap(self) -> None:
        """Events may have been lost that nobody will send again (a server without numbers)."""
        for text in self._texts.values():
            text.stale = not text.part.closed

    def feed_history(self, messages: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """What the session's messages (`{info, parts}` each) tell beyond what the stream told."""
        out: list[AgentEvent] = []
        for message in messages:
            info = message["info"]
            if info["id"] != self.message_id and info.get("parentID") != self.message_id:
                continue
            out += self.feed(self._event("message.updated", {"info": info}))
            for part in message.get("parts") or ():
                out += self.feed(self._event("message.part.updated", {"part": part}))
        self.mark_gap()
        return out

    def end(self, outcome: str, error: WireError | None = None) -> TurnEnded:
        """End the turn from outside: the server is gone, or was seen to be through with it."""
        if self._ended is None:
            self._ended = TurnEnded(outcome, self._result(error))
        return self._ended

    def end_quietly(self) -> TurnEnded:
        """End a turn of which the server says that it no longer runs, with what is known."""
        error = self._known_error() or self._cut()
        if error is None and not self.is_answered:
            message = "The server no longer runs this turn and did not say how it ended."
            error = WireError("TurnLostError", message)
        return self.end(_outcome(error), error)

    def _event(self, type: str, properties: dict[str, Any]) -> WireEvent:
        return WireEvent(type, properties, session_id=self.session_id)

    def _adopt(self, event: WireEvent) -> list[AgentEvent]:
        """Learn the sessions of sub-agents: their permissions are asked here."""
        if event.type == "session.created":
            info = event.properties.get("info") or {}
            if info.get("parentID") in self._family:
                self._family.add(str(info["id"]))
        return []

    def _pass_on(self, event: WireEvent) -> list[AgentEvent]:
        self._adopt(event)
        ours = event.session_id == self.session_id and event.type not in _ABOUT_SESSIONS
        return [UnknownEvent(event)] if ours else []

    def _begin(self, model: str = "") -> list[AgentEvent]:
        if self._started:
            return []
        self._started = True
        return [TurnStarted(self.message_id, model)]

    def _on_turn_started(self, event: WireEvent) -> list[AgentEvent]:
        if event.properties.get("messageID") != self.message_id:
            return []
        self._begun = self._begun or event.time
        return self._begin()

    def _on_turn_ended(self, event: WireEvent) -> list[AgentEvent]:
        if event.properties.get("messageID") != self.message_id:
            return []
        outcome = str(event.properties["outcome"])
        stated = event.properties.get("error")
        if outcome == "completed":
            return [self.end(outcome)]
        return [self.end(outcome, WireError.from_json(stated) if stated else self._known_error())]

    def _on_message(self, event: WireEvent) -> list[AgentEvent]:
        info = event.properties["info"]
        if info["id"] == self.message_id:
            prompt = MessageInfo.from_json(info)
            self._begun = self._begun or prompt.time_created
            return self._begin(prompt.model)
        if info.get("parentID") == self.message_id and not info.get("summary"):
            answer = self._answers[info["id"]] = MessageInfo.from_json(info)
            return self._begin(answer.model)
        return []

    def _on_part(self, event: WireEvent) -> list[AgentEvent]:
        data = event.properties["part"]
        if data["messageID"] not in self._answers:
            return []
        part = part_from_json(data)
        if isinstance(part, TextPart | ReasoningPart):
            return self._on_text(part)
        if isinstance(part, ToolPart):
            return self._on_tool(part)
        is_new = part.id not in self._parts
        self._parts[part.id] = part
        if not is_new or isinstance(part, StepStartPart):
            return []
        if isinstance(part, StepFinishPart):
            return [StepFinished(part)]
        if isinstance(part, FilePart):
            return [Attachment(part)]
        return [UnknownEvent(event)]

    def _on_text(self, part: TextPart | ReasoningPart) -> list[AgentEvent]:
        known = self._texts.get(part.id)
        if known is None:
            known = self._texts[part.id] = _Text(part)
        elif known.part.closed:
            return []
        known.part = part
        self._parts[part.id] = part
        passed = "".join(known.passed)
        known.passed = [passed]
        missing = part.text.removeprefix(passed) if part.text.startswith(passed) else ""
        return [known.grow(missing)] if missing and not _is_synthetic(part) else []

    def _on_delta(self, event: WireEvent) -> list[AgentEvent]:
        properties = event.properties
        known = self._texts.get(str(properties["partID"]))
        if properties.get("field") != "text" or known is None:
            return []
        delta = str(properties["delta"])
        if known.part.closed or known.stale or not delta:
            return []
        return [known.grow(delta)]

    def _on_tool(self, part: ToolPart) -> list[AgentEvent]:
        previous = self._parts.get(part.id)
        known = previous if isinstance(previous, ToolPart) else None
        if known is not None and (known.state.status in _FINAL or known == part):
            return []
        self._parts[part.id] = part
        out: list[AgentEvent] = [] if known is not None else [ToolStart(part)]
        if part.state.status == "completed":
            out.append(ToolComplete(part))
        elif part.state.status == "error":
            out.append(ToolFailed(part))
        elif known is not None:
            out.append(ToolUpdate(part))
        return out

    def _on_tool_output(self, event: WireEvent) -> list[AgentEvent]:
        part = self._parts.get(str(event.properties["partID"]))
        if not isinstance(part, ToolPart) or part.state.status in _FINAL:
            return []
        stream = str(event.properties.get("stream") or "stdout")
        return [ToolUpdate(part, str(event.properties["delta"]), stream)]

    def _on_asked(self, event: WireEvent) -> list[AgentEvent]:
        request = PermissionRequest.from_json(event.properties)
        if request.id in self._asked:
            return []
        self._asked.add(request.id)
        return [PermissionAsked(request)]

    def _on_replied(self, event: WireEvent) -> list[AgentEvent]:
        request_id = str(event.properties["requestID"])
        if request_id in self._replied:
            return []
        self._replied.add(request_id)
        return [PermissionReplied(request_id, str(event.properties["reply"]))]

    def _on_artifact(self, event: WireEvent) -> list[AgentEvent]:
        return [ArtifactCreated(Artifact.from_json(event.properties["artifact"]))]

    def _on_compacted(self, event: WireEvent) -> list[AgentEvent]:
        if event.session_id != self.session_id:
            return []
        message_id = str(event.properties.get("messageID") or "")
        if message_id in self._summaries:
            return []
        if message_id:
            self._summaries.add(message_id)
        return [Compacted(message_id)]

    def _on_todos(self, event: WireEvent) -> list[AgentEvent]:
        if event.session_id != self.session_id:
            return []
        return [TodosUpdated(tuple(Todo.from_json(t) for t in event.properties["todos"]))]

    def _on_status(self, event: WireEvent) -> list[AgentEvent]:
        if event.session_id != self.session_id:
            return []
        status = event.properties["status"]
        return [
            StatusChanged(
                str(status["type"]),
                str(status.get("message") or ""),
                int(status.get("attempt") or 0),
                status.get("next"),
            )
        ]

    def _on_error(self, event: WireEvent) -> list[AgentEvent]:
        if event.session_id != self.session_id or not event.properties.get("error"):
            return []
        self._error = WireError.from_json(event.properties["error"])
        return [StatusChanged("error", self._error.message)]

    def _on_idle(self, event: WireEvent) -> list[AgentEvent]:
        """
        The end of a turn on a server without `turn.ended`.

        An abort is followed by two of these; the first comes before the last message is complete.
        """
        ours = event.session_id == self.session_id and event.seq is None
        failed_early = self._error is not None and not self._answers
        return [self.end_quietly()] if ours and (self.is_answered or failed_early) else []

    def _cut(self) -> WireError | None:
        """What a server without `turn.ended` does not call an error: a reply that was cut off."""
        last = next(reversed(self._answers.values()), None)
        name, message = _CUT.get(last.finish if last else "", ("", ""))
        return WireError(name, message) if name else None

    def _known_error(self) -> WireError | None:
        errors = [info.error for info in self._answers.values() if info.error is not None]
        return errors[-1] if errors else self._error

    def _result(self, error: WireError | None) -> SendResult:
        parts = tuple(
            self._texts[key].snapshot() if key in self._texts else part
            for key, part in self._parts.items()
        )
        answers = list(self._answers.values())
        costs = [info.cost for info in answers if info.cost is not None]
        return SendResult(
            message_id=answers[-1].id if answers else self.message_id,
            text="".join(p.text for p in parts if isinstance(p, TextPart) and not p.synthetic),
            parts=parts,
            tokens=sum((info.tokens for info in answers), Tokens()),
            cost=sum(costs) if costs and len(costs) == len(answers) else None,
            error=error,
            seconds=self._seconds(),
            finish_reason=answers[-1].finish if answers else "",
        )

    def _seconds(self) -> float | None:
        ends = [i.time_completed for i in self._answers.values() if i.time_completed is not None]
        return max(0, ends[-1] - self._begun) / 1000 if ends and self._begun else None


def _is_synthetic(part: TextPart | ReasoningPart) -> bool:
    return isinstance(part, TextPart) and part.synthetic


def _outcome(error: WireError | None) -> str:
    if error is None:
        return "completed"
    return "aborted" if error.name == _ABORTED else "error"


_HANDLERS = {
    "artifact.created": TurnReader._on_artifact,
    "message.part.delta": TurnReader._on_delta,
    "message.part.updated": TurnReader._on_part,
    "message.updated": TurnReader._on_message,
    "permission.asked": TurnReader._on_asked,
    "permission.replied": TurnReader._on_replied,
    "session.compacted": TurnReader._on_compacted,
    "session.error": TurnReader._on_error,
    "session.idle": TurnReader._on_idle,
    "session.status": TurnReader._on_status,
    "todo.updated": TurnReader._on_todos,
    "tool.output": TurnReader._on_tool_output,
    "turn.ended": TurnReader._on_turn_ended,
    "turn.started": TurnReader._on_turn_started,
}
