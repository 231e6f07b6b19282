"""What the host waits for: one object per request, fed with the frames that answer it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ._agent import protocol
from ._errors import SandboxError, SandboxGone
from ._frames import (
    LONGEST_PATH,
    Exit,
    ProtocolError,
    parse_entries,
    parse_exit,
    parse_failure,
    parse_lines,
)
from ._types import FileStat

__all__ = [
    "Command",
    "DirectWrite",
    "FileRead",
    "FileRequest",
    "FileWrite",
    "Jobs",
    "Listing",
    "OnOutput",
    "Request",
]

OnOutput = Callable[[str, bytes], None]

MARKER_ROOM = 100
MOST_JOBS = 50

T = TypeVar("T")


class Request(Protocol):
    """The channel's view of a request."""

    def frame(self, kind: int, payload: bytes) -> None:
        """An answer; raises ProtocolError when it is none to this request."""

    def lost(self, error: SandboxGone) -> None:
        """There will be no answer."""

    @property
    def over(self) -> bool:
        """Its last frame was there: no other is to come."""


class _Request(Generic[T]):
    def __init__(self) -> None:
        self.done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        self.over = False

    def lost(self, error: SandboxGone) -> None:
        self._reject(error)

    def _resolve(self, value: T) -> None:
        if not self.done.done():
            self.done.set_result(value)

    def _reject(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # who gave up waiting is not told about it again


class Command(_Request[Exit]):
    """A command; its output is collected and handed on as it comes."""

    def __init__(self, limit: int, on_output: OnOutput | None) -> None:
        super().__init__()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Its processes are gone or in the background; `done` may have failed long before."""
        self.output = {protocol.STDOUT: bytearray(), protocol.STDERR: bytearray()}
        self._limit = limit + MARKER_ROOM
        self._on_output = on_output

    def frame(self, kind: int, payload: bytes) -> None:
        if kind in self.output:
            self._take(kind, payload)
        elif kind == protocol.EXIT:
            self._resolve(parse_exit(payload))
            self._end()
        elif kind == protocol.FAIL:
            _, message = parse_failure(payload)
            self._reject(SandboxError(f"the command could not be started: {message}"))
            self._end()
        else:
            raise ProtocolError(f"frame {kind} in answer to a command")

    def lost(self, error: SandboxGone) -> None:
        super().lost(error)
        self._end()

    def _end(self) -> None:
        self.over = True
        if not self.ended.done():
            self.ended.set_result(None)

    def _take(self, kind: int, payload: bytes) -> None:
        collected = self.output[kind]
        if not payload:
            raise ProtocolError("output without content")
        if len(collected) + len(payload) > self._limit:
            raise ProtocolError("more output than was asked for")
        collected += payload
        if self._on_output is not None and not self.done.done():
            try:
                self._on_output("stdout" if kind == protocol.STDOUT else "stderr", payload)
            except Exception as error:  # the caller's own: it gets it back from run()
                self._reject(error)


class FileRequest(_Request[None]):
    """A request that files or directories answer."""

    most_frames = 1 << 20
    """More frames of data than any answer has."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.frames = 0
        self._path = path

    def frame(self, kind: int, payload: bytes) -> None:
        self.frames += 1
        if self.frames > self.most_frames:
            raise ProtocolError("more frames than any answer has")
        if kind == protocol.DATA:
            self._take(payload)
        elif kind == protocol.DONE and not payload:
            self.over = True
            self._resolve(None)
        elif kind == protocol.FAIL:
            self.over = True
            number, message = parse_failure(payload)
            kind_of_error = PermissionError if number == errno.EROFS else OSError
            self._reject(kind_of_error(number, message, self._path))
        else:
            raise ProtocolError(f"frame {kind} in answer to a file request")

    def _take(self, payload: bytes) -> None:
        raise ProtocolError("data that was not asked for")


class FileWrite(FileRequest):
    """A request that is answered by success or failure only: write, delete."""


class DirectWrite(FileWrite):
    """A write that a link on the way stops; `target` is where that leads."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.target: str | None = None

    def _take(self, payload: bytes) -> None:
        if self.target is not None or not payload.startswith(b"/") or b"\0" in payload:
            raise ProtocolError("no path of a link")
        if len(payload) > LONGEST_PATH:
            raise ProtocolError("a path that is too long")
        self.target = os.fsdecode(payload)


class FileRead(FileRequest):
    """The content of a file."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(path)
        self.content = bytearray()
        self._limit = limit

    def _take(self, payload: bytes) -> None:
        if not payload or len(self.content) + len(payload) > self._limit:
            raise ProtocolError("not the data that was asked for")
        self.content += payload


class Jobs(FileRequest):
    """The command lines of processes in the background."""

    def __init__(self) -> None:
        super().__init__("")
        self.lines: list[str] = []

    def _take(self, payload: bytes) -> None:
        self.lines += parse_lines(payload)
        if len(self.lines) > MOST_JOBS:
            raise ProtocolError("more processes than there can be")


class Listing(FileRequest):
    """The entries of a directory."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(path)
        self.entries: list[FileStat] = []
        self.most_frames = 2 * limit + 1000  # one without rows for each directory
        self._limit = limit

    def _take(self, payload: bytes) -> None:
        self.entries += parse_entries(payload)
        if len(self.entries) > self._limit:
            raise ProtocolError("more entries than were asked for")
