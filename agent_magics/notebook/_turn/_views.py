"""
What a running turn looks like, one view per kind of front end.

Every view shows something of its own in `open()`, before any connection is made, and leaves a
static record in `finish()`: widgets are not saved with a notebook, HTML and text are.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from .._text import printable

if TYPE_CHECKING:
    from ...widgets import TurnRecord, TurnWidget
    from ...wire import AgentEvent, SessionInfo, ToolPart

__all__ = ["HeadlessView", "TerminalView", "TurnView", "WidgetView"]

OnReply = Callable[[str, str, str | None], None]

_SILENCE = 30.0  # seconds without an event after which a console says so, then twice as long
_HEADLESS_INTERVAL = 1.0  # seconds between two updates of an output that nobody may be watching


class TurnView(Protocol):
    """How a turn is shown while it runs. All methods are called on the waiting cell's thread."""

    @property
    def rendered(self) -> bool:
        """Whether a person sees buttons: the front end has answered."""

    def open(self) -> None:
        """Show the first pixel."""

    def handle(self, event: AgentEvent) -> None:
        """Take an event; drawing may wait for `tick()`."""

    def note(self, text: str, kind: str = "info") -> None:
        """A line of our own. `kind`: info, warning or error."""

    def add_image(self, mime: str, data: bytes, name: str) -> None:
        """Show an image that the turn made."""

    def describe(self, info: SessionInfo, model: str) -> None:
        """Say where the turn runs. `model` is the turn's own, empty for the session's."""

    def reopen(self, request_id: str) -> None:
        """The reply to this request got lost: it can be answered again."""

    def tick(self) -> None:
        """Draw what has gathered; called at most about 30 times a second."""

    def took(self, seconds: float) -> None:
        """Say that the turn took so long; a replay says what was recorded."""

    def finish(self, *, empty: bool = False) -> None:
        """Leave the static record; nothing at all when the turn was `empty`."""


def _bundle(record: TurnRecord) -> dict[str, Any]:
    from ...widgets import MIME

    return {"text/html": record.html(), "text/plain": record.text(), MIME: record.json()}


def _describe(record: TurnRecord, info: SessionInfo, model: str) -> None:
    record.describe(info.id, model or info.model, info.sandbox, info.isolated)


class _Output:
    """One output of the cell, replaced again and again."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._shown = False

    def show(self, bundle: Mapping[str, Any]) -> None:
        from IPython.display import display

        display(dict(bundle), raw=True, display_id=self._id, update=self._shown)
        self._shown = True

    def clear(self) -> None:
        self.show({"text/html": "", "text/plain": ""})


class WidgetView:
    """
    The live transcript of a notebook, replaced by its static record at the end.

    Where neither widgets are drawn nor `outputs_change`, in a console, the record is a new output.
    """

    def __init__(
        self,
        on_reply: OnReply,
        *,
        show_reasoning: bool = True,
        answer_within: float | None = None,
        outputs_change: bool = True,
    ) -> None:
        self._on_reply = on_reply
        self._outputs_change = outputs_change
        self._show_reasoning = show_reasoning
        self._answer_within = answer_within
        self._output = _Output()
        self._widget: TurnWidget

    @property
    def rendered(self) -> bool:
        return self._widget.rendered

    @property
    def comm_id(self) -> str:
        """Names the widget in the messages of the front end."""
        return str(self._widget.model_id)

    def text(self) -> str:
        """All of the turn as text."""
        return self._widget.record.text()

    def receive(self, content: Any) -> None:
        """Take what the front end has sent, if it did not come by the kernel's usual way."""
        self._widget.receive(content)

    def open(self) -> None:
        from ...widgets import TurnWidget

        self._widget = TurnWidget(
            on_reply=self._on_reply,
            show_reasoning=self._show_reasoning,
            answer_within=self._answer_within,
        )
        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        self._output.show(
            {
                "application/vnd.jupyter.widget-view+json": view,
                "text/plain": "The agent is at work.",
            }
        )

    def handle(self, event: AgentEvent) -> None:
        self._widget.handle(event)

    def note(self, text: str, kind: str = "info") -> None:
        self._widget.note(text, kind)

    def add_image(self, mime: str, data: bytes, name: str) -> None:
        self._widget.add_image(mime, data, name)

    def describe(self, info: SessionInfo, model: str) -> None:
        _describe(self._widget.record, info, model)

    def reopen(self, request_id: str) -> None:
        self._widget.reopen(request_id)

    def tick(self) -> None:
        self._widget.tick()

    def took(self, seconds: float) -> None:
        self._widget.record.took(seconds)

    def finish(self, *, empty: bool = False) -> None:
        if empty:
            self._output.clear()
        else:
            if not (self._outputs_change or self.rendered):
                self._output.clear()
                self._output = _Output()
            self._output.show(_bundle(self._widget.record))
        self._widget.close()


class HeadlessView:
    """A notebook that runs without a front end: the static record, brought up to date at times."""

    rendered = False

    def __init__(self, *, show_reasoning: bool = True) -> None:
        self._show_reasoning = show_reasoning
        self._output = _Output()
        self._record: TurnRecord
        self._changed = False
        self._silence = 0
        self._drawn = 0.0

    def open(self) -> None:
        from ...widgets import TurnRecord

        self._record = TurnRecord(show_reasoning=self._show_reasoning)
        self._output.show({"text/plain": "The agent is at work."})
        self._drawn = time.monotonic()

    def handle(self, event: AgentEvent) -> None:
        self._record.handle(event)
        self._changed = True

    def note(self, text: str, kind: str = "info") -> None:
        self._record.note(text, kind)
        self._changed = True

    def add_image(self, mime: str, data: bytes, name: str) -> None:
        self._record.add_image(mime, data, name)
        self._changed = True

    def describe(self, info: SessionInfo, model: str) -> None:
        _describe(self._record, info, model)

    def reopen(self, request_id: str) -> None:
        return

    def tick(self) -> None:
        now = time.monotonic()
        if self._record.silence != self._silence:
            self._silence, self._changed = self._record.silence, True
        if self._changed and now - self._drawn >= _HEADLESS_INTERVAL:
            self._draw()
            self._drawn = time.monotonic()

    def took(self, seconds: float) -> None:
        self._record.took(seconds)

    def finish(self, *, empty: bool = False) -> None:
        if empty:
            self._output.clear()
        else:
            self._draw()

    def _draw(self) -> None:
        self._output.show(_bundle(self._record))
        self._changed = False


class TerminalView:
    """
    Plain text, as it comes.

    Nothing the agent says reaches the terminal as a control sequence.
    """

    rendered = False

    def __init__(self, stream: TextIO | None = None, *, show_reasoning: bool = True) -> None:
        self._stream = stream
        self._show_reasoning = show_reasoning
        self._at_line_start = True
        self._reasoning = False
        self._spoken = False
        self._called: set[str] = set()
        self._todos = ""
        self._busy: set[str] = set()
        """Tool calls that run and questions that are open: nobody waits for the model then."""
        self._heard = time.monotonic()
        self._next_word = _SILENCE

    def open(self) -> None:
        return

    def handle(self, event: AgentEvent) -> None:
        self._heard, self._next_word = time.monotonic(), _SILENCE
        self._note_waits(event)
        if event.type == "text-delta":
            self._spoken = True
            self._switch(reasoning=False)
            self._write(event.delta)
        elif event.type == "reasoning-delta":
            if self._show_reasoning:
                self._switch(reasoning=True)
                self._write(event.delta)
        elif event.type in ("tool-start", "tool-update"):
            self._tool(event.part)
            if event.type == "tool-update" and event.output:
                self._write(event.output.replace("\r\n", "\n").replace("\r", "\n"))
        elif event.type in ("tool-complete", "tool-error"):
            self._tool(event.part)
            if event.part.state.error:
                self._line(f"[{event.part.tool}] {event.part.state.error}")
        elif event.type == "todos-updated":
            self._plan([(todo.status, todo.content) for todo in event.todos])
        elif event.type == "attachment":
            self._line(f"[file] {event.part.path or event.part.filename}")
        elif event.type == "status" and event.status in ("retry", "reconnecting"):
            self._line(f"[{event.status}] {event.message}".rstrip())
        elif event.type == "status" and event.status == "compacting":
            self._line("[compacting] the conversation is summarized to make room")
        elif event.type == "permission-replied":
            self._line(f"[permission] {event.reply}")
        elif event.type == "turn-ended" and not (event.result.error or self._spoken):
            self.note("The agent ended its turn without a word.")

    def note(self, text: str, kind: str = "info") -> None:
        self._line(f"[{kind}] {text}" if kind != "info" else f"[agent] {text}")

    def add_image(self, mime: str, data: bytes, name: str) -> None:
        return

    def describe(self, info: SessionInfo, model: str) -> None:
        if not info.isolated:
            self.note("not isolated: commands run on this computer itself", "warning")

    def reopen(self, request_id: str) -> None:
        return

    def tick(self) -> None:
        silence = time.monotonic() - self._heard
        if silence >= self._next_word and not self._busy:
            self._line(f"[agent] no answer for {self._next_word:.0f} s")
            self._next_word *= 2
        self._out.flush()

    def _note_waits(self, event: AgentEvent) -> None:
        if event.type in ("tool-start", "tool-update", "tool-complete", "tool-error"):
            runs = event.part.state.status == "running"
            (self._busy.add if runs else self._busy.discard)(event.part.id)
        elif event.type == "permission-asked":
            self._busy.add(event.request.id)
        elif event.type == "permission-replied":
            self._busy.discard(event.request_id)
        elif event.type == "turn-ended":
            self._busy.add("the end")

    def took(self, seconds: float) -> None:
        return

    def finish(self, *, empty: bool = False) -> None:
        if not self._at_line_start:
            self._write("\n")
        self._out.flush()

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stdout

    def _tool(self, part: ToolPart) -> None:
        """One line per call, as soon as its arguments are complete."""
        if part.state.status == "pending" or part.call_id in self._called:
            return
        if part.is_shown_by_todos:
            return
        self._called.add(part.call_id)
        what = part.state.title or next((str(v) for v in part.state.input.values()), "")
        self._line(f"[{part.tool}] {what}")

    def _plan(self, todos: list[tuple[str, str]]) -> None:
        marks = {"completed": "x", "in_progress": ">", "cancelled": "-"}
        plan = "\n".join(f"  [{marks.get(status, ' ')}] {text}" for status, text in todos)
        if plan != self._todos:
            self._todos = plan
            self._line(f"[plan]\n{plan}")

    def _switch(self, *, reasoning: bool) -> None:
        if reasoning and not self._reasoning:
            self._line("[thinking]")
        elif self._reasoning and not reasoning and not self._at_line_start:
            self._write("\n")
        self._reasoning = reasoning

    def _line(self, text: str) -> None:
        self._reasoning = False
        self._write(("" if self._at_line_start else "\n") + text.rstrip("\n") + "\n")

    def _write(self, text: str) -> None:
        text = printable(text)
        if text:
            self._out.write(text)
            self._at_line_start = text.endswith("\n")
