"""A file of the container that is read piece by piece, however large it is."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._agent import protocol
from ._frames import LARGEST_INTEGER, ProtocolError, load
from ._requests import FileRequest

if TYPE_CHECKING:
    from ._channel import Channel

__all__ = ["PIECE", "OpenFile", "open_file"]

PIECE = 4 << 20
"""Bytes that are held at a time."""

OpenRequest = Callable[
    [FileRequest, int, dict[str, Any]], AbstractAsyncContextManager[tuple["Channel", int]]
]


@dataclass(frozen=True)
class OpenFile:
    """
    A file as it was when `open_file` looked at it: `size` in bytes.

    `whole` is its content where that is small, else None.
    """

    path: str
    size: int
    whole: bytes | None
    _inode: int
    _open: OpenRequest

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """
        The bytes from `start` to `stop`, default: to the end, in pieces.

        Raises:
            OSError: ESTALE, the file was replaced or cut meanwhile; what reading a file raises.
            SandboxGone: the container ended.
        """
        stop = self.size if stop is None else min(stop, self.size)
        if self.whole is not None:
            if start < stop:
                yield self.whole[start:stop]
            return
        while start < stop:
            piece = await _read(self._open, self.path, start, min(PIECE, stop - start))
            if piece.inode != self._inode or len(piece.content) < min(PIECE, stop - start):
                raise OSError(errno.ESTALE, "The file was changed while it was read", self.path)
            start += len(piece.content)
            yield bytes(piece.content)


async def open_file(open_request: OpenRequest, path: str) -> OpenFile:
    """Look at a file; see `Sandbox.open_file`."""
    first = await _read(open_request, path, 0, PIECE)
    if len(first.content) < PIECE:  # to its end: what the size says of /proc's files is not true
        whole = bytes(first.content)
        return OpenFile(path, len(whole), whole, first.inode, open_request)
    return OpenFile(path, max(first.size, PIECE), None, first.inode, open_request)


async def _read(open_request: OpenRequest, path: str, offset: int, length: int) -> _Piece:
    request = _Piece(path, length)
    order = {"path": path, "offset": offset, "length": length}
    async with open_request(request, protocol.PIECE, order) as (channel, _):
        await channel.answered(request)
    return request


class _Piece(FileRequest):
    """First the file's facts, then bytes of it."""

    def __init__(self, path: str, length: int) -> None:
        super().__init__(path)
        self.content = bytearray()
        self.size = self.inode = -1
        self._length = length

    def _take(self, payload: bytes) -> None:
        if self.inode < 0:
            self.size, self.inode = _facts(load(payload, list))
        elif not payload or len(self.content) + len(payload) > self._length:
            raise ProtocolError("not the data that was asked for")
        else:
            self.content += payload


def _facts(values: list[Any]) -> tuple[int, int]:
    if len(values) != 2 or any(type(value) is not int for value in values):
        raise ProtocolError("bad facts of a file")
    size, inode = values
    if not 0 <= size < LARGEST_INTEGER or not 0 <= inode < 2 * LARGEST_INTEGER:
        raise ProtocolError("bad facts of a file")
    return size, inode
