"""The event loop: descriptors to watch, and the queue of frames to send."""

from __future__ import annotations

import json
import os
import selectors

from .protocol import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HIGH_WATER = 1 << 20
"""Bytes in the queue from which on nothing more is read from commands and files."""


class Outlet:
    """Frames to the host with back pressure, and the descriptors this program waits for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue = bytearray()
        self._selector = selectors.DefaultSelector()
        self._held: dict[int, Callable[[], None]] = {}
        self._writing = False
        self._paused = False
        os.set_blocking(fd, False)

    @property
    def full(self) -> bool:
        """The host reads more slowly than we write."""
        return len(self._queue) > HIGH_WATER

    def send(self, kind: int, request: int, payload: bytes = b"") -> None:
        self._queue += HEADER.pack(kind, request, len(payload))
        self._queue += payload

    def send_json(self, kind: int, request: int, value: Any) -> None:
        self.send(kind, request, json.dumps(value).encode())

    def watch(self, fd: int, ready: Callable[[], None], *, output: bool = False) -> None:
        """Call `ready` when `fd` can be read; `output` ones rest while the host is behind."""
        if output:
            self._held[fd] = ready
            if self._paused:
                return
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def watch_room(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` when `fd` takes data; it must not be one that is watched for reading."""
        self._selector.register(fd, selectors.EVENT_WRITE, ready)

    def unwatch(self, fd: int) -> None:
        if self._held.pop(fd, None) is None or not self._paused:
            self._selector.unregister(fd)

    def wait(self, timeout: float | None, *, busy: bool) -> None:
        """
        One round: send what can be sent, then serve every descriptor that is ready.

        `busy`: there is work to do as soon as the queue has room; then it only looks.
        """
        self._flush()
        self._balance()
        if busy and not self.full:  # only now is that known: nothing else might wake us
            timeout = 0
        for key, _ in self._selector.select(timeout):
            ready: Callable[[], None] | None = key.data
            if ready is None:
                self._flush()
            elif key.fd in self._selector.get_map():  # an earlier one may have closed it
                ready()

    def _flush(self) -> None:
        while self._queue:
            try:
                sent = os.write(self._fd, self._queue[: 1 << 18])
            except BlockingIOError:
                return
            except OSError:  # the host is gone; its end of file ends us as well
                self._queue.clear()
                return
            del self._queue[:sent]

    def _balance(self) -> None:
        """Bring the selector in line with the state of the queue."""
        if bool(self._queue) != self._writing:
            self._writing = not self._writing
            if self._writing:
                self._selector.register(self._fd, selectors.EVENT_WRITE, None)
            else:
                self._selector.unregister(self._fd)
        if self.full != self._paused:
            self._paused = not self._paused
            for fd, ready in self._held.items():
                if self._paused:
                    self._selector.unregister(fd)
                else:
                    self._selector.register(fd, selectors.EVENT_READ, ready)
