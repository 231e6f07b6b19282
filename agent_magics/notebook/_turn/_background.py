"""Turns that go on while other cells run: `%%agent -b`, `%agent_wait`."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from .._errors import TurnFailed
from .._frontend import BACKGROUND_TURNS, current_shell, front_end
from ._pump import CommPump
from ._turn import Begin, ShownTurn, TurnSettings

if TYPE_CHECKING:
    from ...client import SessionHandle
    from ...wire import SendResult

__all__ = ["BackgroundTurn", "BackgroundTurns", "asked_in_vain", "begin_turn", "turns_of"]

_LOOK = 0.5  # seconds between two looks at a turn that is waited for
_MOST = 100


class BackgroundTurn:
    """
    A turn that was begun by `%%agent -b`.

    Its cell shows how it goes on. Its buttons work while other cells run; on ipykernel 6, while
    none runs or one waits for an agent. Without a notebook it shows its text at its end.
    """

    def __init__(self, name: str, turn: ShownTurn, buffer: io.StringIO | None) -> None:
        self.name = name
        """What it is called when its end is announced."""
        self._turn = turn
        self._buffer = buffer
        self._future: Future[SendResult] = Future()
        self._session_id = ""
        self._placed = threading.Event()
        self._began = time.monotonic()
        self._seconds = 0.0
        self.is_told = False
        """Somebody has waited for it, or its end was announced."""
        self.is_told_to_ask = False
        """It was announced that it waits for an answer, which its buttons do not show."""

    def __repr__(self) -> str:
        return f"<BackgroundTurn {self.name}: {self.outcome}>"

    @property
    def done(self) -> bool:
        return self._future.done()

    @property
    def outcome(self) -> str:
        """running, completed, stopped, or the error in one line."""
        if not self.done:
            return "running"
        error = self._future.exception()
        if error is None:
            return "completed"
        return "stopped" if isinstance(error, KeyboardInterrupt) else str(error)

    @property
    def summary(self) -> str:
        """Its name, outcome and duration, as a sentence; for a turn that is done."""
        took = f"{self._seconds:.0f} s" if self._seconds >= 10 else f"{self._seconds:.1f} s"
        return f"The agent's turn in {self.name} has ended: {self.outcome} (after {took})\n"

    @property
    def asks_in_vain(self) -> bool:
        """It waits for an answer, and this front end does not show its buttons."""
        return not self.done and self._turn.asks_in_vain

    @property
    def is_stuck(self) -> bool:
        """The same in a console: only another cell can answer, none may wait for the turn."""
        return self.asks_in_vain and self._turn.in_console

    def place(self, session_id: str) -> None:
        """It will run in this session."""
        self._session_id = session_id
        self._placed.set()

    def note(self, text: str) -> None:
        """Show a line with it."""
        self._turn.note(text)

    def wait_for_its_place(self) -> None:
        """Until it is known in which session it runs."""
        self._placed.wait()

    def is_in(self, session_id: str) -> bool:
        """Whether it runs in this session; waits until that is known."""
        self.wait_for_its_place()
        return self._session_id == session_id

    def result(self, timeout: float | None = None) -> SendResult:
        """
        Wait for its end. Raises `TurnFailed`, `TurnInterrupted`, and `TimeoutError` after `timeout`
        seconds.
        """
        return self._future.result(timeout)

    def is_over_within(self, seconds: float) -> bool:
        """Wait for its end, but not longer than that."""
        return bool(wait([self._future], seconds).done)

    def abort(self) -> None:
        """Stop it; what has arrived is kept."""
        self._turn.stop()

    def tell(self) -> str:
        """What was not shown yet, for front ends that show nothing while it runs."""
        self.is_told = True
        if self._buffer is None:
            return f"{unseen}\n" if (unseen := self._turn.unseen) else ""
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text

    def tell_of_question(self) -> None:
        """Say once that it waits for an answer, if its buttons do not show that."""
        if self.asks_in_vain and not self.is_told_to_ask:
            self.is_told_to_ask = True
            sys.stdout.write(
                f"The agent's turn in {self.name} waits for an answer: "
                "%agent_permissions shows the question.\n"
            )

    def start(self, after: Callable[[SendResult | None], None]) -> None:
        """Run it on a thread of its own; `after` gets its result, or what there is of it."""

        def run() -> None:
            result: SendResult | None = None
            try:
                try:
                    result = self._turn.run()
                finally:
                    self._seconds = time.monotonic() - self._began
                after(result)
                self._future.set_result(result)
            except BaseException as error:
                self._placed.set()
                try:
                    if isinstance(error, TurnFailed):
                        after(error.result)
                finally:  # whatever happens, nobody waits for ever
                    self._future.set_exception(error)

        threading.Thread(target=run, name=f"agent-magics {self.name}", daemon=True).start()


class BackgroundTurns(list[BackgroundTurn]):
    """All of a notebook that were not announced yet, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: deque[BackgroundTurn] = deque(maxlen=_MOST)
        """Those that ended, and that nobody has waited for."""

    def place_those_before(self, mine: BackgroundTurn | None) -> None:
        """Until all earlier ones have their sessions: the notebook's session is theirs first."""
        for turn in list(self):
            if turn is mine:
                return
            turn.wait_for_its_place()

    def wait_for_those_before(self, mine: BackgroundTurn | None, session_id: str) -> None:
        """
        Until no earlier turn of the session runs: a session has one turn at a time.

        Raises `TurnFailed` if a cell would wait for an answer to a question that nobody sees.
        """
        for turn in list(self):
            if turn is mine:
                return
            if turn.is_in(session_id):
                if mine is not None and not turn.done:
                    mine.note(f"The agent is at work in {turn.name}; this turn is the next.")
                while not turn.is_over_within(_LOOK):
                    if mine is None and turn.is_stuck:
                        raise asked_in_vain(turn.name)

    def announce(self, *_: Any) -> None:
        """For IPython's `post_run_cell`: say which turns have ended since, or wait unseen."""
        for turn in self:
            turn.tell_of_question()
        for turn in [turn for turn in self if turn.done]:
            self.remove(turn)
            if not turn.is_told:
                self.announced.append(turn)
                sys.stdout.write(turn.tell() + turn.summary)


def asked_in_vain(*names: str) -> TurnFailed:
    """The error of a cell that would wait for turns which wait for an answer."""
    return TurnFailed(
        f"{', '.join(names)} waits for an answer, and no buttons are shown here: "
        "%agent_permissions shows the question, %agent_permissions once ID answers it",
        name="PermissionPending",
    )


def turns_of(shell: Any) -> BackgroundTurns:
    """Kept on the shell: they survive a reload of the extension."""
    turns: BackgroundTurns | None = getattr(shell, BACKGROUND_TURNS, None)
    if turns is None:
        turns = BackgroundTurns()
        if shell is not None:
            setattr(shell, BACKGROUND_TURNS, turns)
    return turns


def begin_turn(
    name: str,
    acquire: Callable[[BackgroundTurn], SessionHandle],
    begin: Begin,
    settings: TurnSettings,
    after: Callable[[SendResult | None], None],
) -> BackgroundTurn:
    """Begin a turn that `begin` starts in the session that `acquire` returns; returns at once."""
    shell = current_shell()
    kind = front_end(shell)
    buffer = None
    if kind in ("terminal", "plain"):  # where nobody is asked, and nothing shown meanwhile
        kind, buffer = "plain", io.StringIO()
    shown = ShownTurn(lambda: acquire(turn), begin, settings, CommPump(None), kind, stream=buffer)
    turn = BackgroundTurn(name, shown, buffer)
    turns = turns_of(shell)
    shown.open()
    turns.append(turn)
    try:
        shown.hear_by_itself()
        turn.start(after)
    except BaseException:  # a Stop at the wrong time, or no more threads
        turns.remove(turn)
        shown.discard()
        raise
    return turn
