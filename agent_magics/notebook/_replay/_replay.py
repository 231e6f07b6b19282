"""
`--replay`: a recorded turn, shown again as it was, without a model and without an engine.

The replay drives the view that a live turn has. Permission requests get the answers that were
given when the turn was recorded; a click on their buttons only makes that happen at once.
"""

from __future__ import annotations

import dataclasses
import datetime
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...wire import (
    PermissionAsked,
    ReasoningDelta,
    SendResult,
    StatusChanged,
    TextDelta,
    TodosUpdated,
    ToolComplete,
    ToolPart,
    ToolStart,
    ToolUpdate,
)
from .._errors import TurnFailed, TurnInterrupted, describe
from .._frontend import FrontEnd, cell_id, current_shell, front_end, is_watched, kernel_of
from .._text import one_line
from .._turn._keyboard import KernelKeyboard, Keyboard, TerminalKeyboard
from .._turn._pump import CommPump
from .._turn._views import HeadlessView, TerminalView, TurnView, WidgetView
from .._turn._wait import waiting_pump
from ._recording import Image, Recording
from ._stepper import Stepper

if TYPE_CHECKING:
    from ...wire import AgentEvent
    from ._real_tools import RealTools

__all__ = ["Pace", "replay_turn"]

_FRAME = 1 / 30  # seconds between two updates of the view


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How fast: `speed` 1 is as recorded, 2 twice as fast, 0 at once. `by_step` waits for a person
    before each step, where there is one.
    """

    speed: float = 1.0
    by_step: bool = False


@dataclass(frozen=True, slots=True)
class _Done:
    value: Any = None
    error: Exception | None = None


def replay_turn(
    recording: Recording,
    pace: Pace,
    *,
    show_reasoning: bool = True,
    notes: tuple[str, ...] = (),
    tools: Callable[[], RealTools] | None = None,
) -> SendResult:
    """
    Show `recording` and return what the turn brought, as the live turn did.

    `notes` are shown along with it. With `tools` the recorded calls are carried out again, and what
    they bring now is shown.

    Raises `TurnFailed` where the recorded turn failed, `TurnInterrupted` after a Stop.
    """
    shell = current_shell()
    kind = front_end(shell)
    try:
        with waiting_pump() as pump:
            keyboard = _keyboard(kind, shell, pump)
            replay = _Replay(recording, pace, pump, kind, keyboard, show_reasoning)
            return replay.run(notes, tools)
    except TurnInterrupted:
        raise
    except KeyboardInterrupt:
        raise TurnInterrupted("the replay was stopped") from None


def _keyboard(kind: FrontEnd, shell: Any, pump: CommPump) -> Keyboard | None:
    if threading.current_thread() is not threading.main_thread():
        return None
    return KernelKeyboard(kernel_of(shell)) if kind == "kernel" else TerminalKeyboard(pump)


class _Replay:
    """One replay; everything in it happens on the cell's own thread."""

    def __init__(
        self,
        recording: Recording,
        pace: Pace,
        pump: CommPump,
        kind: FrontEnd,
        keyboard: Keyboard | None,
        show_reasoning: bool,
    ) -> None:
        self._recording = recording
        self._pace = pace
        self._pump = pump
        watched = is_watched(current_shell())
        self._view: TurnView
        if kind == "kernel" and watched:
            self._view = WidgetView(
                self._clicked,
                show_reasoning=show_reasoning,
                outputs_change=bool(cell_id(current_shell())),
            )
        elif kind in ("kernel", "headless"):
            self._view = HeadlessView(show_reasoning=show_reasoning, is_watched=watched)
        else:
            self._view = TerminalView(show_reasoning=show_reasoning)
        has_person = pace.by_step and kind in ("kernel", "terminal")
        self._stepper = Stepper(self._view, pump, keyboard) if has_person else None
        self._hurry = False
        self._fresh: dict[str, ToolPart] = {}
        self._parts: set[str] = set()
        self._offset = 0

    def run(self, notes: tuple[str, ...], tools: Callable[[], RealTools] | None) -> SendResult:
        """From the first event to the last."""
        self._view.open()
        try:
            self._view.describe(self._recording.session, self._recording.model)
            for note in (_origin(self._recording), *notes):
                self._view.note(note)
            if self._stepper is not None:
                self._stepper.open()
            real = None if tools is None else self._work(tools)
            self._offset = round((time.time() - _epoch(self._recording.created)) * 1000)
            before = 0.0
            for entry in self._recording.entries:
                self._wait(entry.at - before)
                before = entry.at
                self._show(entry.what, real)
            self._view.took(self._recording.seconds)
            if real is not None and real.left_out:
                names = ", ".join(sorted(real.left_out))
                self._view.note(f"not carried out again, shown as recorded: {names}")
            return self._result()
        finally:
            if self._stepper is not None:
                self._stepper.close()
            self._view.finish()

    def _wait(self, seconds: float) -> None:
        """Let this much of the recorded time pass; clicks and Stop work meanwhile."""
        speed = self._pace.speed
        end = time.monotonic() + (seconds / speed if speed else 0)
        self._hurry = False
        while not self._hurry and (left := end - time.monotonic()) > 0:
            self._take(min(left, _FRAME))
        self._view.tick()

    def _take(self, seconds: float) -> Any:
        """What is posted within this time. Draws; a click on a request ends a wait."""
        try:
            item = self._pump.get(seconds)
        except queue.Empty:
            item = None
        self._view.tick()
        return item

    def _clicked(self, request_id: str, reply: str, message: str | None) -> None:
        self._hurry = True
        self._pump.post(None)

    def _show(self, what: AgentEvent | Image, real: RealTools | None) -> None:
        if isinstance(what, Image):
            self._view.add_image(what.mime, what.data, what.name)
            return
        if self._stepper is not None and self._begins_step(what):
            self._stepper.wait()
        if isinstance(what, ToolUpdate) and real is not None and real.runs(what.part):
            what = dataclasses.replace(what, output="")  # what it prints today is shown at its end
        if isinstance(what, ToolComplete) and real is not None:
            what = self._again(what, real)
        self._view.handle(self._moved(what))

    def _begins_step(self, event: AgentEvent) -> bool:
        """Whether something new begins: a paragraph, a call, a question, a change of the plan."""
        if isinstance(event, TextDelta | ReasoningDelta):
            is_new = event.part_id not in self._parts
            self._parts.add(event.part_id)
            return is_new
        if isinstance(event, ToolStart):
            return not event.part.is_shown_by_todos
        return isinstance(event, PermissionAsked | TodosUpdated)

    def _again(self, event: ToolComplete, real: RealTools) -> ToolComplete:
        fresh = self._work(lambda: real.again(event.part))
        if fresh is None:
            return event
        part, differs = fresh
        self._fresh[part.id] = part
        if part.tool == "bash":
            self._view.handle(ToolUpdate(part, part.state.output + "\n"))
        if differs:
            what = one_line(part.state.title or part.tool, 200)
            self._view.note(f"{part.tool}: {what}: not what was recorded, see above", "warning")
        return ToolComplete(part)

    def _moved(self, event: AgentEvent) -> AgentEvent:
        """The event with the times of today where the view counts from them."""
        if isinstance(event, StatusChanged) and event.next is not None:
            return dataclasses.replace(event, next=event.next + self._offset)
        return event

    def _work(self, call: Callable[[], Any]) -> Any:
        """What `call()` returns; it may block, and runs on a thread of its own."""

        def work() -> None:
            try:
                self._pump.post(_Done(call()))
            except Exception as error:
                self._pump.post(_Done(error=error))

        threading.Thread(target=work, name="agent-magics replay", daemon=True).start()
        while not isinstance(done := self._take(_FRAME), _Done):
            pass
        if done.error is not None:
            raise done.error if isinstance(done.error, TurnFailed) else describe(done.error)
        return done.value

    def _result(self) -> SendResult:
        ended = self._recording.ended
        fresh = tuple(self._fresh.get(part.id, part) for part in ended.result.parts)
        result = dataclasses.replace(ended.result, parts=fresh)
        if ended.outcome == "completed":
            return result
        error = result.error
        if error is None:
            raise TurnFailed(f"the recorded turn ended as {ended.outcome}", result=result)
        raise TurnFailed(f"as recorded: {error.message}", name=error.name, result=result)


def _epoch(created: str) -> float:
    """The recording's time in seconds since the epoch; now, if it has none."""
    try:
        return datetime.datetime.fromisoformat(created).timestamp()
    except ValueError:
        return time.time()


def _origin(recording: Recording) -> str:
    """What is shown here, in a line: a replay never looks like a live turn."""
    day = f" of {recording.created[:10]}" if recording.created else ""
    return f"Replay of a turn{day}: {one_line(recording.prompt, 300)}"
