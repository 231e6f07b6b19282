"""A cap on an output stream of any length, in bounded memory."""

from __future__ import annotations

from .protocol import marker

SLACK = 1 << 16


class Capture:
    """
    The first half of the allowance goes out at once; of the rest the last half is kept to the end.

    What goes out, put together, is the output itself, or head, marker and tail of it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = limit // 2
        self._keep = limit - self._head
        self._tail = bytearray()
        self._total = 0

    @property
    def truncated(self) -> bool:
        return self._total > self._limit

    def feed(self, data: bytes) -> bytes:
        """Take a chunk; what is returned is to be sent now."""
        room = max(0, self._head - self._total)
        self._total += len(data)
        self._tail += data[room:]
        if len(self._tail) > 2 * self._keep + SLACK:
            del self._tail[: len(self._tail) - self._keep]
        return data[:room]

    def finish(self) -> bytes:
        """What remains to be sent: the tail, after a marker when something was left out."""
        tail = bytes(self._tail[-self._keep :]) if self._keep else b""
        if self.truncated:
            return marker(self._total - self._limit) + tail
        return tail
