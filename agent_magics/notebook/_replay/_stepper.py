"""`--step`: a person says when a replay goes on, with a button or the Enter key."""

from __future__ import annotations

import queue
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._turn._keyboard import Keyboard
    from .._turn._pump import CommPump
    from .._turn._views import TurnView

__all__ = ["Stepper"]

_FRAME = 1 / 30
_HANDSHAKE = 5.0  # seconds that a front end has to show that it renders widgets


class Stepper:
    """Buttons below the turn; where they can't work, a question on the keyboard."""

    def __init__(self, view: TurnView, pump: CommPump, keyboard: Keyboard | None) -> None:
        self._with_buttons = view.has_buttons and pump.live
        self._view = view
        self._pump = pump
        self._keyboard = keyboard
        self._display = uuid.uuid4().hex
        self._box: Any = None
        self._opened = time.monotonic()
        self._wanted = 0  # steps
        self._free = False

    def open(self) -> None:
        """Show the buttons."""
        if not self._with_buttons:
            return
        import ipywidgets
        from IPython.display import display

        step = ipywidgets.Button(description="Next step", button_style="primary")
        rest = ipywidgets.Button(description="Play the rest")
        step.on_click(lambda _: self._clicked(free=False))
        rest.on_click(lambda _: self._clicked(free=True))
        self._box = ipywidgets.HBox([step, rest])
        display(self._box, display_id=self._display)

    def wait(self) -> None:
        """Until the person wants the next step. Raises `KeyboardInterrupt` after a Stop."""
        asked = False
        while not (self._wanted or self._free):
            if not asked and self._wants_keyboard():
                asked = self._ask()
            try:
                self._pump.get(_FRAME)
            except queue.Empty:
                pass
            self._view.tick()
            if asked and self._keyboard is not None:
                self._read(self._keyboard)
        self._wanted = max(self._wanted - 1, 0)

    def close(self) -> None:
        """Take the buttons away: they are not saved with the notebook."""
        if self._box is None:
            return
        from IPython.display import display

        from ...widgets import close_widgets

        nothing = {"text/html": "", "text/plain": ""}
        display(nothing, raw=True, display_id=self._display, update=True)
        close_widgets(self._box)
        self._box = None

    def _clicked(self, *, free: bool) -> None:
        self._wanted += 1
        self._free |= free
        self._pump.post(None)

    def _wants_keyboard(self) -> bool:
        if self._keyboard is None or self._view.rendered:
            return False
        return not self._with_buttons or time.monotonic() - self._opened >= _HANDSHAKE

    def _ask(self) -> bool:
        """Put the question; where that can't be, the replay goes on without stops."""
        assert self._keyboard is not None
        try:
            self._keyboard.ask("Enter: the next step, r: the rest ")
        except (NotImplementedError, OSError):
            self._free = True
        return not self._free

    def _read(self, keyboard: Keyboard) -> None:
        try:
            line = keyboard.answer()
        except (EOFError, NotImplementedError, OSError):
            self._free = True
            return
        if line is not None:
            self._wanted += 1
            self._free = line.strip().lower().startswith("r")
