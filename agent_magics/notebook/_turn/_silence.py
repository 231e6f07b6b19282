"""The engine does not answer: whoever waits in a cell is told, and told when it answers again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["hear_silence", "tell_silence"]

_AGAIN = "The wait for the engine is over."

_lock = threading.Lock()
_listeners: list[Callable[[str], None]] = []
_current = ""


def tell_silence(text: str) -> None:
    """From any thread: what is waited for; empty when that is over."""
    global _current
    with _lock:
        was, _current = _current, f"{text.removesuffix('.')}. Waiting for it." if text else ""
        line = _current or (_AGAIN if was else "")
        listeners = list(_listeners)
    for listener in listeners if line else ():
        listener(line)


@contextmanager
def hear_silence(listener: Callable[[str], None]) -> Iterator[None]:
    """
    Pass the lines on that tell of a silent engine, from any thread; the current one at once.
    """
    with _lock:
        _listeners.append(listener)
        current = _current
    try:
        if current:
            listener(current)
        yield
    finally:
        with _lock:
            _listeners.remove(listener)
