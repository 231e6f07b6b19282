"""
Who answers when the agent asks.

The policy of the turn, if it has one. Else the buttons in the cell, once the front end has shown
that it renders them. Else the keyboard, where the front end takes input. Else, with nobody there,
the policy for such runs, at once and visibly: a turn never waits for an answer that cannot come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._frontend import FrontEnd
from .._text import one_line, printable

if TYPE_CHECKING:
    from ...wire import PermissionRequest
    from ._keyboard import Keyboard
    from ._pump import CommPump
    from ._views import TurnView

__all__ = ["PermissionDesk", "Policy", "question"]

Answer = Callable[[str, str, str | None], None]

_HANDSHAKE = 5.0  # seconds that a front end has to show its first sign of life
_LEAST_WAIT = 1.0  # seconds between a request and the keyboard, whatever the handshake says
_ATTEMPTS = 3
_NO_KEYBOARD = "the keyboard cannot be used here"
_KEYS = {"y": "once", "yes": "once", "a": "always", "always": "always", "n": "reject"}


@dataclass(frozen=True, slots=True)
class Policy:
    """
    `turn`: ask, or once, always, reject for every request of this turn.
    `nobody`: once, always or reject where nobody can be asked.
    `timeout`: seconds after which an unanswered request is rejected.
    """

    turn: str = "ask"
    nobody: str = "reject"
    timeout: float | None = None


@dataclass(slots=True)
class _Pending:
    request: PermissionRequest
    asked: float
    answered: bool = False


class PermissionDesk:
    """
    Keeps the open requests of one turn. `answer(id, reply, message)` delivers a reply.

    Without a `keyboard` (in a thread of the user's) only buttons and policies answer.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        policy: Policy,
        view: TurnView,
        pump: CommPump,
        answer: Answer,
        keyboard: Keyboard | None = None,
    ) -> None:
        self._front_end = front_end
        self._policy = policy
        self._view = view
        self._pump = pump
        self._answer = answer
        self._opened = time.monotonic()
        self._keyboard = keyboard
        self._question: tuple[_Pending, int] | None = None  # put to the keyboard; attempts left
        self._pending: dict[str, _Pending] = {}
        self._closed = False

    @property
    def asks_in_vain(self) -> bool:
        """Somebody is asked for a while, and has neither buttons nor a keyboard. Any thread."""
        if self._keyboard is not None or self._view.rendered:
            return False
        now = time.monotonic()
        return any(
            not pending.answered and self._had_time(pending, now)
            for pending in list(self._pending.values())
        )

    def _had_time(self, pending: _Pending, now: float) -> bool:
        """The front end could have shown the request by now."""
        return now - self._opened >= _HANDSHAKE and now - pending.asked >= _LEAST_WAIT

    def asked(self, request: PermissionRequest) -> None:
        """The agent asks for `request`."""
        if self._closed:
            return
        pending = self._pending[request.id] = _Pending(request, time.monotonic())
        if self._policy.turn != "ask":
            self._by_policy(pending, self._policy.turn, "the policy of this turn")
        elif self._front_end in ("headless", "plain"):
            self._by_policy(
                pending, self._policy.nobody, "nobody can be asked here, see AgentMagics.headless"
            )

    def settled(self, request_id: str) -> None:
        """`request_id` has been replied to, by whomever."""
        self._pending.pop(request_id, None)

    def clicked(self, request_id: str, reply: str, message: str | None) -> None:
        """Somebody used a button. A second click, or one on a settled request, does nothing."""
        pending = self._pending.get(request_id)
        if pending is not None and not pending.answered:
            pending.answered = True
            self._answer(request_id, reply, message)

    def undelivered(self, request_id: str) -> None:
        """The reply did not reach the engine: the request is open again."""
        pending = self._pending.get(request_id)
        if pending is not None:
            pending.answered = False

    def close(self) -> None:
        """The turn is being stopped: nobody is asked any more, the engine settles what is open."""
        self._closed = True
        self._pending.clear()

    def due(self) -> None:
        """Called often: asks on the keyboard and rejects what has waited for too long."""
        now = time.monotonic()
        for pending in [p for p in self._pending.values() if not p.answered]:
            timeout = self._policy.timeout
            if timeout is not None and now - pending.asked >= timeout:
                self._by_policy(pending, "reject", f"no answer within {timeout:g} s")
            elif self._wants_keyboard(pending, now):
                self._type(pending, question(pending.request))
        self._read_keyboard()

    def _wants_keyboard(self, pending: _Pending, now: float) -> bool:
        if self._keyboard is None or self._question is not None:
            return False
        if self._view.rendered:
            return False
        if self._front_end == "terminal" or not self._pump.live:
            return True
        return self._had_time(pending, now)

    def _type(self, pending: _Pending, prompt: str, attempts: int = _ATTEMPTS) -> None:
        assert self._keyboard is not None
        self._view.tick()
        try:
            self._keyboard.ask(prompt)
            self._question = (pending, attempts)
        except (NotImplementedError, OSError):
            self._by_policy(pending, self._policy.nobody, _NO_KEYBOARD)

    def _read_keyboard(self) -> None:
        """Takes y, a or n; everything else, three times, is a no."""
        if self._question is None or self._keyboard is None:
            return
        pending, attempts = self._question
        if pending.answered or self._pending.get(pending.request.id) is not pending:
            self._question = None  # a button was faster
            return
        try:
            line = self._keyboard.answer()
        except (EOFError, NotImplementedError, OSError):  # StdinNotImplementedError is the second
            self._question = None
            self._by_policy(pending, self._policy.nobody, _NO_KEYBOARD)
            return
        if line is None:
            return
        self._question = None
        reply = _KEYS.get(line.strip().lower(), "")
        if not reply or (reply == "always" and not pending.request.always):
            if attempts > 1:
                self._type(pending, "Please type y, a or n: ", attempts - 1)
                return
            reply = "reject"
        self.clicked(pending.request.id, reply, None)

    def _by_policy(self, pending: _Pending, reply: str, why: str) -> None:
        pending.answered = True
        words = {"once": "allowed once", "always": "always allowed", "reject": "rejected"}
        what = one_line(_subject(pending.request), 200)
        self._view.note(f"{words[reply]}: {what} ({why})", "warning")
        message = f"Rejected: {why}." if reply == "reject" else None
        self._answer(pending.request.id, reply, message)


def _subject(request: PermissionRequest) -> str:
    from ...widgets import visible

    asker = "" if request.parent_id is None else f" for {request.asker}"
    return visible(f"{request.permission}: {', '.join(request.patterns) or 'any'}{asker}")


def question(request: PermissionRequest) -> str:
    """The request in full, as plain text, for the keyboard."""
    asker = one_line(request.asker_capitalized, 200)
    lines = [f"{asker} asks for permission: {request.permission}"]
    if request.reason:
        lines.append(f"  {one_line(request.reason, 500)}")
    lines += [f"    {pattern}" for pattern in request.patterns]
    for name, value in request.metadata.items():
        text = str(value)
        if text and text not in request.patterns:
            lines += [f"  {name}:", *(f"    {line}" for line in text.splitlines())]
    always = ", ".join(request.always)
    scope = f"a = always allow {one_line(always, 200)}, " if always else ""
    lines.append(f"y = allow once, {scope}n = reject: ")
    return printable("\n".join(lines))
