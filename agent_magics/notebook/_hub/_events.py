"""What happens in the notebook's session, as it happens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...client import SessionHandle

__all__ = ["LOST", "SessionEvents"]

LOST = "lost"
"""Told in place of a type when events may have been missed."""

_PAUSE = 5.0  # seconds before a broken stream is opened anew
_LONGEST_PAUSE = 40.0  # the same after several failures: each may start an engine that can't start
_log = logging.getLogger("agent_magics.hub")


class SessionEvents:
    """Tells the type of every event of one session at a time, on a thread of its own."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._stream: Any = None  # what `parsed_events()` returns
        self._left = threading.Event()

    def follow(self, session: SessionHandle | None) -> None:
        """From now on this session, or none."""
        with self._lock:
            self._left.set()
            left, stream = threading.Event(), self._stream
            self._left, self._stream = left, None
        if stream is not None:
            stream.close()
        if session is not None:
            name = "agent-magics hub events"
            threading.Thread(
                target=self._read, args=(session, left), name=name, daemon=True
            ).start()

    def _read(self, session: SessionHandle, left: threading.Event) -> None:
        from ...client import AgentError, SessionNotFound

        pause = _PAUSE
        while True:
            stream = session.parsed_events()
            with self._lock:
                if left.is_set():
                    return
                self._stream = stream
            try:
                for event in stream:
                    pause = _PAUSE
                    self._tell(event.type)
            except SessionNotFound:
                return
            except (AgentError, CancelledError) as error:
                _log.info("the session's events have ended: %s", error)
            if left.wait(pause):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._tell(LOST)
