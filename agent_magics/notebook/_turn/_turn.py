"""
The foreground turn: a cell that shows a turn of the agent until it is over.

The network lives in background threads. The cell's own thread waits in a `CommPump`, draws what
is posted to it, answers clicks, and stops the turn when the user presses Stop.
"""

from __future__ import annotations

import base64
import binascii
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO
from urllib.parse import unquote_to_bytes

from .._errors import TurnFailed, TurnInterrupted, describe
from .._frontend import FrontEnd, cell_id, current_shell, front_end, kernel_of
from ._comm_hook import listen
from ._keyboard import KernelKeyboard, Keyboard, TerminalKeyboard
from ._permissions import PermissionDesk, Policy
from ._pump import CommPump
from ._views import HeadlessView, TerminalView, TurnView, WidgetView
from ._wait import waiting_pump

if TYPE_CHECKING:
    from ...client import SessionHandle, Turn
    from ...wire import AgentEvent, FilePart, SendResult, SessionInfo, TurnEnded

__all__ = ["Begin", "ShownTurn", "TurnSettings", "run_turn"]

Begin = Callable[["SessionHandle", Callable[["AgentEvent"], None]], "Turn"]
"""Starts a turn of the session, or finds one, whose events go to the function."""

_FRAME = 1 / 30  # seconds between two updates of the view
_DRAIN = 3.0  # seconds that an abort may take
_IMAGES = 10.0  # seconds that outstanding images may take after the turn's end
_IMAGE_LIMIT = 5 << 20  # bytes
_BARE_EVENTS = frozenset({"compacted", "status", "turn-started", "turn-ended"})
"""Nothing to keep by themselves."""
_HINTS = {
    "SessionBusyError": " %agent_session resume shows it, %agent_abort stops it, --new starts "
    "another session."
}
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"})


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """
    How a turn is shown: the `model` that was chosen for it, who answers its permission requests,
    the seconds after which it is stopped, whether reasoning is shown, and `notes` to show with it.
    `news` is asked for one more, once the session is there.
    """

    model: str | None = None
    policy: Policy = field(default_factory=Policy)
    timeout: float | None = None
    show_reasoning: bool = True
    notes: tuple[str, ...] = ()
    news: Callable[[], str] = str


_STOP = object()


class _Click(NamedTuple):
    request_id: str
    reply: str
    message: str | None


@dataclass(frozen=True, slots=True)
class _Note:
    text: str
    kind: str = "info"


@dataclass(frozen=True, slots=True)
class _FromPage:
    content: Any


@dataclass(frozen=True, slots=True)
class _NotStarted:
    error: Exception


@dataclass(frozen=True, slots=True)
class _Place:
    info: SessionInfo
    news: str


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    mime: str = ""
    data: bytes = b""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Undelivered:
    request_id: str
    problem: str


def run_turn(
    acquire: Callable[[], SessionHandle], begin: Begin, settings: TurnSettings
) -> SendResult:
    """
    Show the turn that `begin` starts, or finds, in the session that `acquire()` returns.

    Raises `TurnFailed` when the turn did not complete and `TurnInterrupted` after a Stop.
    """
    shell = current_shell()
    kind = front_end(shell)
    try:
        with waiting_pump() as pump:
            turn = ShownTurn(acquire, begin, settings, pump, kind, keyboard=_keyboard(kind, pump))
            turn.open()
            return turn.run()
    except TurnInterrupted:
        raise
    except KeyboardInterrupt:
        raise TurnInterrupted from None


def _keyboard(kind: FrontEnd, pump: CommPump) -> Keyboard | None:
    """The keyboard, if this thread may use it: only the main thread gets signals and stdin."""
    if threading.current_thread() is not threading.main_thread():
        return None
    if kind == "kernel":
        return KernelKeyboard(kernel_of(current_shell()))
    return TerminalKeyboard(pump)


class ShownTurn:
    """
    A turn and its view: `open()` in the cell, `run()` on the thread that waits at the `pump`.

    Without a `keyboard` only buttons and policies answer the agent.
    """

    def __init__(
        self,
        acquire: Callable[[], SessionHandle],
        begin: Begin,
        settings: TurnSettings,
        pump: CommPump,
        kind: FrontEnd,
        keyboard: Keyboard | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self._acquire = acquire
        self._begin = begin
        self._settings = settings
        self._pump = pump
        self.in_console = kind == "kernel" and not cell_id(current_shell())
        self._view: TurnView
        if kind == "kernel":
            self._view = WidgetView(
                self._clicked,
                show_reasoning=settings.show_reasoning,
                answer_within=settings.policy.timeout,
                outputs_change=keyboard is None or not self.in_console,
            )
        elif kind == "headless":
            self._view = HeadlessView(show_reasoning=settings.show_reasoning)
        else:
            self._view = TerminalView(stream, show_reasoning=settings.show_reasoning)
        self._desk = PermissionDesk(kind, settings.policy, self._view, pump, self._reply, keyboard)
        self._session: SessionHandle | None = None
        self._turn: Turn | None = None
        self._start_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._failure: Exception | None = None
        self._ended: TurnEnded | None = None
        self._started = False
        self._something_shown = False
        self._images_due = 0
        self._undrawn = False
        self._next_frame = 0.0
        self._deafen: Callable[[], None] = lambda: None

    @property
    def asks_in_vain(self) -> bool:
        """The agent waits for an answer, and nobody has been shown the question. Any thread."""
        return self._desk.asks_in_vain

    @property
    def unseen(self) -> str:
        """The text of a turn that is over, where a console has not shown it."""
        view = self._view
        if not (self.in_console and isinstance(view, WidgetView)) or view.rendered:
            return ""
        return view.text()

    def stop(self) -> None:
        """From any thread: `run()` aborts the turn and raises `TurnInterrupted`."""
        self._pump.post(_STOP)

    # -- on the waiting thread -------------------------------------------------------------------

    def open(self) -> None:
        """Show the first pixel."""
        self._view.open()

    def note(self, text: str) -> None:
        """From any thread: show a line of our own."""
        self._pump.post(_Note(text))

    def hear_by_itself(self) -> None:
        """After `open()`: clicks need no waiting cell, they come to the thread of `run()`."""
        if isinstance(self._view, WidgetView):
            kernel = kernel_of(current_shell())
            self._deafen = listen(kernel, self._view.comm_id, self._from_page)

    def _from_page(self, data: Mapping[str, Any]) -> bool:
        if data.get("method") != "custom":
            return False
        self._pump.post(_FromPage(data.get("content")))
        return True

    def run(self) -> SendResult:
        """The turn from its beginning to its end."""
        try:
            for note in self._settings.notes:
                self._view.note(note)
            self._in_background(self._start)
            try:
                self._follow()
            except KeyboardInterrupt:
                self._stop()
                raise TurnInterrupted from None
            except Exception:
                self._abandon()
                raise
            return self._result()
        finally:
            self._deafen()
            self._view.finish(empty=not self._something_shown)

    def _follow(self) -> None:
        timeout = self._settings.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_over():
            self._step()
            if deadline is not None and time.monotonic() >= deadline:
                self._stop()
                raise TurnFailed(
                    f"the turn was not over after {timeout:g} s and has been stopped",
                    name="Timeout",
                    result=self._ended.result if self._ended else None,
                )
        self._await_images()

    def _is_over(self) -> bool:
        return self._ended is not None or self._failure is not None

    def _step(self) -> None:
        """Take what has been posted and draw it: at once, but at most once per frame."""
        pause = max(0.0, self._next_frame - time.monotonic()) if self._undrawn else _FRAME
        try:
            item = self._pump.get(pause)
            self._undrawn = True
            while True:
                self._take(item)
                if time.monotonic() >= self._next_frame:
                    break
                item = self._pump.get(0)
        except queue.Empty:
            pass
        if time.monotonic() >= self._next_frame:
            self._view.tick()
            if self._undrawn:
                self._undrawn = False
                self._next_frame = time.monotonic() + _FRAME
        self._desk.due()

    def _take(self, item: Any) -> None:
        if item is _STOP:
            raise KeyboardInterrupt
        if isinstance(item, _NotStarted):
            self._failure = item.error
        elif isinstance(item, _Click):
            self._desk.clicked(*item)
        elif isinstance(item, _Note):
            self._view.note(item.text, item.kind)
        elif isinstance(item, _FromPage) and isinstance(self._view, WidgetView):
            self._view.receive(item.content)
        elif isinstance(item, _Image):
            self._images_due -= 1
            if item.problem:
                self._view.note(f"{item.name} is not shown: {item.problem}", "warning")
            else:
                self._view.add_image(item.mime, item.data, item.name)
        elif isinstance(item, _Place):
            self._view.describe(item.info, self._settings.model or "")
            if item.news:
                self._view.note(item.news)
        elif isinstance(item, _Undelivered):
            self._desk.undelivered(item.request_id)
            self._view.reopen(item.request_id)
            self._view.note(f"The answer did not reach the agent: {item.problem}", "error")
        else:
            self._event(item)

    def _event(self, event: AgentEvent) -> None:
        self._started |= event.type == "turn-started"
        self._something_shown |= event.type not in _BARE_EVENTS
        self._view.handle(event)
        if event.type == "permission-asked":
            self._desk.asked(event.request)
        elif event.type == "permission-replied":
            self._desk.settled(event.request_id)
        elif event.type == "attachment" and event.part.mime in _IMAGE_TYPES:
            self._images_due += 1
            self._in_background(self._fetch_image, event.part)
        elif event.type == "turn-ended":
            self._ended = event

    def _await_images(self) -> None:
        end = time.monotonic() + _IMAGES
        while self._images_due and time.monotonic() < end:
            self._step()

    def _clicked(self, request_id: str, reply: str, message: str | None) -> None:
        self._pump.post(_Click(request_id, reply, message))

    def _reply(self, request_id: str, reply: str, message: str | None) -> None:
        self._in_background(self._deliver, request_id, reply, message)

    def _result(self) -> SendResult:
        if self._failure is not None:
            raise describe(self._failure)
        assert self._ended is not None
        result = self._ended.result
        if self._ended.outcome == "completed":
            return result
        error = result.error
        if error is None:
            message = f"the turn ended as {self._ended.outcome}"
            raise TurnFailed(message, result=result)
        raise TurnFailed(error.message + _HINTS.get(error.name, ""), name=error.name, result=result)

    def _stop(self) -> None:
        """Abort and show what still comes, but not for long. A second Stop ends the wait."""
        turn = self._abandon()
        if self._is_over() or (turn is None and not self._started):
            return
        end = time.monotonic() + _DRAIN
        try:
            while not self._is_over() and time.monotonic() < end:
                self._step()
        except KeyboardInterrupt:
            pass
        if not self._is_over():
            self._view.note(
                "The agent has not confirmed the stop; it may still be at work.", "error"
            )

    def _abandon(self) -> Turn | None:
        """Have the turn aborted, without waiting for it. What is just starting aborts itself."""
        self._desk.close()
        with self._start_lock:
            self._cancelled.set()
            turn = self._turn
        if turn is not None and not self._is_over():
            self._in_background(self._abort, turn)
        return turn

    # -- in background threads -------------------------------------------------------------------

    def _in_background(self, function: Callable[..., object], *args: object) -> None:
        threading.Thread(
            target=function, args=args, name=f"agent-magics {function.__name__}", daemon=True
        ).start()

    def _start(self) -> None:
        try:
            session = self._session = self._acquire()
            self._pump.post(_Place(session.get_info(), self._settings.news()))
            if self._cancelled.is_set():
                return
            turn = self._begin(session, self._pump.post)
            with self._start_lock:
                self._turn = turn
                cancelled = self._cancelled.is_set()
            if cancelled:
                turn.abort()
        except Exception as error:
            self._pump.post(_NotStarted(error))

    def _abort(self, turn: Turn) -> None:
        try:
            turn.abort()
        except Exception as error:  # the engine is gone, or does not answer
            self._pump.post(_Note(f"The stop did not reach the engine: {error}", "warning"))

    def _deliver(self, request_id: str, reply: Any, message: str | None) -> None:
        assert self._session is not None  # an event has come, so there is a session
        try:
            self._session.reply_to_permission(request_id, reply, message)
        except Exception as error:
            self._pump.post(_Undelivered(request_id, str(error)))

    def _fetch_image(self, part: FilePart) -> None:
        name = part.filename or part.path or "image"
        try:
            data = self._image_bytes(part)
        except Exception as error:
            self._pump.post(_Image(name, problem=str(error)))
            return
        if len(data) > _IMAGE_LIMIT:
            self._pump.post(_Image(name, problem=f"{len(data) >> 20} MB, more than 5 MB"))
        else:
            self._pump.post(_Image(name, part.mime, data))

    def _image_bytes(self, part: FilePart) -> bytes:
        if part.path is not None:
            assert self._session is not None
            return self._session.get_file_buffer(part.path)
        head, comma, body = part.url.partition(",")
        if not head.startswith("data:") or not comma:
            raise ValueError("its address is neither a file of the session nor data")
        try:
            raw = unquote_to_bytes(body)
            return base64.b64decode(raw, validate=True) if head.endswith(";base64") else raw
        except binascii.Error:
            raise ValueError("its data is damaged") from None
