"""Text on its way to the model: capped, cleaned of what only terminals understand."""

from __future__ import annotations

import re
from collections import deque

from agent_magics.wire import spelled_name

__all__ = ["MAX_OUTPUT", "OutputTail", "cap_text", "clean_terminal", "valid_text"]

MAX_OUTPUT = 30_000
"""How much of a tool's output the model gets, in bytes (characters for decoded text)."""

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[@-Z\\-_]"
)
_OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class OutputTail:
    """Collects output in the order of arrival; keeps the first and the last half of `limit`."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Append `chunk`; costs no more memory than the limit and one chunk."""
        self._size += len(chunk)
        room = self._half - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if chunk:
            self._tail.append(chunk)
            self._tail_size += len(chunk)
            while self._tail_size - len(self._tail[0]) >= self._half:
                self._tail_size -= len(self._tail.popleft())

    @property
    def truncated(self) -> bool:
        """Whether something is missing in the middle."""
        return self._size > 2 * self._half

    def text(self) -> str:
        """What was kept, decoded, with a note where something is missing."""
        tail = b"".join(self._tail)
        if not self.truncated:
            return (bytes(self._head) + tail).decode(errors="replace")
        kept = tail[-self._half :]
        missing = self._size - len(self._head) - len(kept)
        note = f"\n\n[... {missing} bytes left out ...]\n\n"
        return self._head.decode(errors="replace") + note + kept.decode(errors="replace")


def clean_terminal(text: str) -> str:
    """`text` as it would stand on a screen: no escape sequences, no overwritten progress bars."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    text = _OVERWRITTEN.sub("", text)
    return _CONTROL.sub("", text)


def cap_text(text: str, limit: int = MAX_OUTPUT) -> str:
    """`text`, or its beginning and end with a note between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    missing = len(text) - 2 * half
    return f"{text[:half]}\n\n[... {missing} characters left out ...]\n\n{text[-half:]}"


def valid_text(text: str) -> str:
    """`text` without lone surrogates, which can't be sent: names that are no UTF-8 are spelled."""
    return _SURROGATE.sub("\ufffd", spelled_name(text))
