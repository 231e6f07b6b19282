"""
/workspace as a whole: what is in it, contents of many files, changes in order.

All of it is done by the agent program inside the container, which follows no link; so it works
with every kind of container. What it answers is as hostile as all that comes from there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._agent import protocol
from ._frames import LARGEST_INTEGER, LONGEST_PATH, ProtocolError, file_error, load
from ._requests import FileRequest, FileWrite

if TYPE_CHECKING:
    from ._channel import Channel

__all__ = ["FetchedFile", "TreeRow", "WorkspaceTree"]

KINDS = frozenset({"file", "directory", "link", "other", "closed"})
MOST_STEPS = 500
"""Steps in one frame."""
PIECE = 4 << 20
"""Bytes of a large file read at a time."""

OpenRequest = Callable[
    [FileRequest, int, dict[str, Any]], AbstractAsyncContextManager[tuple["Channel", int]]
]


@dataclass(frozen=True, slots=True)
class TreeRow:
    """
    An entry of the workspace; `path` is relative to it, without dots, as `os.fsdecode` has it.

    `kind`: file, directory, link, other (sockets, pipes), closed (a directory that can't be
    listed or lies too deep). `mode` are the permission bits; `mtime`, `ctime` in ns. `target` is
    where a link leads, and of a file with several names here the first of them, but for that.
    """

    path: str
    kind: str
    mode: int
    size: int
    mtime: int
    ctime: int
    inode: int
    target: str = ""


@dataclass(slots=True)
class FetchedFile:
    """
    A file as it was read. `content` is None when it could not be, for the reason `errno`.

    `settled`: a later change shows in `size`, `mtime`, `ctime` or `inode`.
    """

    path: str
    mode: int = 0
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    inode: int = 0
    settled: bool = False
    content: bytearray | None = None
    errno: int = 0


class WorkspaceTree:
    """
    Made by the sandbox that it belongs to. Every method raises SandboxGone, as the sandbox does.

    Directories more than 100 deep are not looked into.
    """

    def __init__(self, open_request: OpenRequest) -> None:
        self._open = open_request

    async def scan(self, *, skip: Sequence[str] = (), limit: int = 100_000) -> list[TreeRow]:
        """
        All that is there, but the top-level names in `skip`; directories before what is in them.

        Raises:
            OSError: E2BIG, there are more than `limit` entries.
        """
        request = _Scan(limit)
        async with self._open(request, protocol.SCAN, {"skip": list(skip), "limit": limit}) as (
            channel,
            _,
        ):
            await channel.answered(request)
        return request.rows

    async def fetch(self, paths: Sequence[str], *, limit: int, budget: int) -> list[FetchedFile]:
        """
        Contents of regular files, in the order of `paths`: at most `limit` bytes of each and
        `budget` of all; those beyond have the errno EFBIG.
        """
        request = _Fetch(paths, limit, budget)
        order = {"paths": list(paths), "limit": limit, "budget": budget, "offset": None}
        async with self._open(request, protocol.FETCH, order) as (channel, _):
            await channel.answered(request)
        if len(request.files) != len(paths):
            raise ProtocolError("not all files were answered")
        return request.files

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """
        The content of one regular file, however large, in pieces.

        Raises:
            OSError: it can't be read.
        """
        offset = 0
        while True:
            request = _Fetch([path], PIECE, PIECE)
            order = {"paths": [path], "limit": PIECE, "budget": PIECE, "offset": offset}
            async with self._open(request, protocol.FETCH, order) as (channel, _):
                await channel.answered(request)
            content = request.files[0].content if request.files else None
            if content is None:
                number = request.files[0].errno if request.files else errno.EIO
                raise OSError(number, os.strerror(number), path)
            if not content:
                return
            yield bytes(content)
            offset += len(content)

    async def change(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """
        Do `{"do", "path", ...}` one after the other: `remove` (a directory only when empty),
        `directory` and `mode` with `mode`, `link` with `target`, `name` with `source`: another
        name of that regular file. Each may have been done before. With `expect`, as in `put`.

        Raises:
            OSError: the first that failed; its message names the path.
        """
        todo = list(steps)
        for start in range(0, len(todo), MOST_STEPS):
            request = FileWrite("/workspace")
            order = {"steps": todo[start : start + MOST_STEPS]}
            async with self._open(request, protocol.CHANGE, order) as (channel, _):
                await channel.answered(request)

    async def put(
        self,
        path: str,
        content: Iterable[bytes] | AsyncIterable[bytes],
        *,
        mode: int,
        mtime: int | None = None,
        expect: Sequence[int] | None = None,
    ) -> None:
        """
        Make or replace a file at once, in a directory that is there.

        `expect`, `[size, mtime, ctime, inode]` or `[]` for nothing, is what may be replaced; a
        ctime of 0 stands for any.

        Raises:
            OSError: it can't be written. ESTALE: something else is there than was expected.
        """
        request = FileWrite(path)
        order = {"path": path, "mode": mode, "mtime": mtime, "expect": expect}
        async with self._open(request, protocol.PUT, order) as (channel, number):
            async for data in _pieces(content):
                await channel.send_data(protocol.WRITE_DATA, number, data, request.done)
            channel.send(protocol.WRITE_END, number)
            await channel.answered(request)


async def _pieces(content: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(content, AsyncIterable):
        async for data in content:
            yield data
    else:
        for data in content:
            yield data


class _Scan(FileRequest):
    def __init__(self, limit: int) -> None:
        super().__init__("/workspace")
        self.rows: list[TreeRow] = []
        self.most_frames = limit + 1000
        self._limit = limit

    def _take(self, payload: bytes) -> None:
        self.rows += [_row(value) for value in load(payload, list)]
        if len(self.rows) > self._limit:
            raise ProtocolError("more entries than were asked for")


class _Fetch(FileRequest):
    """Files come in order; of each its facts, its content, its end."""

    def __init__(self, paths: Sequence[str], limit: int, budget: int) -> None:
        super().__init__("/workspace")
        self.files: list[FetchedFile] = []
        self._paths = paths
        self._limit = limit
        self._budget = budget
        self._current: FetchedFile | None = None

    def _take(self, payload: bytes) -> None:
        letter, rest = payload[:1], payload[1:]
        if letter == protocol.FILE_BEGIN and self._current is None:
            self._begin(load(rest, list))
        elif letter == protocol.FILE_DATA and self._current is not None:
            self._add(self._current, rest)
        elif letter == protocol.FILE_END and self._current is not None:
            self.files.append(self._current)
            self._current = None
        elif letter == protocol.FILE_FAIL:
            self._fail(load(rest, list))
        else:
            raise ProtocolError("a file out of order")

    def _begin(self, facts: list[Any]) -> None:
        index, *numbers = facts if len(facts) == 7 else [-1]
        if type(index) is not int or not index == len(self.files) < len(self._paths):
            raise ProtocolError("a file out of order")
        settled = numbers.pop()
        if type(settled) is not bool:
            raise ProtocolError("bad facts of a file")
        mode, size, mtime, ctime, inode = _numbers(numbers)
        self._current = FetchedFile(
            self._paths[index], mode, size, mtime, ctime, inode, settled, bytearray()
        )

    def _add(self, file: FetchedFile, data: bytes) -> None:
        assert file.content is not None
        if not data:
            raise ProtocolError("content without content")
        file.content += data
        self._budget -= len(data)
        if len(file.content) > self._limit or self._budget < 0:
            raise ProtocolError("more content than was asked for")

    def _fail(self, facts: list[Any]) -> None:
        index, number = facts if len(facts) == 2 else (-1, 0)
        if type(number) is not int or type(index) is not int:
            raise ProtocolError("a file out of order")
        if not index == len(self.files) < len(self._paths):
            raise ProtocolError("a file out of order")
        self.files.append(FetchedFile(self._paths[index], errno=file_error(number)))
        self._current = None


def _row(value: Any) -> TreeRow:
    if type(value) is not list or len(value) != 8:
        raise ProtocolError("bad row")
    path, kind, *numbers, target = value
    if type(kind) is not str or kind not in KINDS or not _is_inside(path):
        raise ProtocolError("bad row")
    if kind == "link":
        if not (type(target) is str and target and _is_name(target)):
            raise ProtocolError("bad row")
    elif target is not None and not (kind == "file" and _is_inside(target)):
        raise ProtocolError("bad row")
    mode, size, mtime, ctime, inode = _numbers(numbers)
    return TreeRow(path, kind, mode, size, mtime, ctime, inode, target or "")


def _numbers(values: list[Any]) -> tuple[int, int, int, int, int]:
    if any(type(value) is not int or abs(value) >= 2 * LARGEST_INTEGER for value in values):
        raise ProtocolError("bad facts of a file")
    mode, size, mtime, ctime, inode = values
    if not 0 <= mode <= 0o7777 or size < 0:
        raise ProtocolError("bad facts of a file")
    return mode, size, mtime, ctime, inode


def _is_inside(path: Any) -> bool:
    if type(path) is not str or not _is_name(path):
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))


def _is_name(text: str) -> bool:
    """Whether it can be a path: no NUL, and nothing that is no name of a file in any encoding."""
    try:
        return len(text) <= LONGEST_PATH and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
