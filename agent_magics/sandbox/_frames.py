"""
The host's side of the frames. Every byte that comes out of a container is hostile.

Whatever is not exactly as it should be is a `ProtocolError`; the channel then ends the container.
"""

from __future__ import annotations

import asyncio
import errno
import json
from dataclasses import dataclass
from typing import Any

from ._agent import protocol
from ._errors import SandboxError
from ._types import FileStat

__all__ = [
    "Exit",
    "Frame",
    "ProtocolError",
    "encode",
    "encode_json",
    "file_error",
    "load",
    "parse_entries",
    "parse_exit",
    "parse_failure",
    "parse_lines",
    "read_frame",
]

KINDS = frozenset({"file", "directory", "link", "other"})
REASONS = frozenset(
    {
        *("memory", "processes", "open files", "disk", "files"),
        *("timeout", "cancelled", "interrupted"),
    }
)
LONGEST_MESSAGE = 500
LARGEST_INTEGER = 1 << 63
LONGEST_PATH = 8192
_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        *("E2BIG", "EACCES", "EBUSY", "EDQUOT", "EEXIST", "EFBIG", "EINVAL", "EIO", "EISDIR"),
        *("ELOOP", "EMFILE", "EMLINK", "ENAMETOOLONG", "ENFILE", "ENODEV", "ENOENT", "ENOMEM"),
        *("ENOSPC", "ENOTDIR", "ENOTEMPTY", "ENXIO", "EPERM", "EROFS", "ESTALE", "ETXTBSY"),
        "EXDEV",
    )
)


class ProtocolError(SandboxError):
    """The container sent something that its agent program never sends."""


@dataclass(frozen=True)
class Frame:
    """A frame from the container; `request` is 0 for the greeting."""

    kind: int
    request: int
    payload: bytes


@dataclass(frozen=True)
class Exit:
    """The end of a command."""

    code: int
    killed_by: str | None
    truncated: bool


def encode(kind: int, request: int, payload: bytes = b"") -> bytes:
    """A frame as it travels."""
    return protocol.HEADER.pack(kind, request, len(payload)) + payload


def encode_json(kind: int, request: int, value: Any) -> bytes:
    """A frame with a JSON payload."""
    return encode(kind, request, json.dumps(value).encode())


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """
    The next frame.

    Raises:
        ProtocolError: unknown type, too long, or cut in the middle.
        EOFError: the stream ended between two frames.
    """
    try:
        header = await reader.readexactly(protocol.HEADER.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ProtocolError("the container's answer was cut") from None
        raise EOFError from None
    kind, request, length = protocol.HEADER.unpack(header)
    if not protocol.HELLO <= kind <= protocol.NET_CLOSED:
        raise ProtocolError(f"unknown frame type {kind}")
    if length > protocol.MAX_PAYLOAD:
        raise ProtocolError(f"frame of {length} bytes")
    try:
        payload = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ProtocolError("the container's answer was cut") from None
    return Frame(kind, request, payload)


def parse_exit(payload: bytes) -> Exit:
    """The payload of EXIT."""
    value = load(payload, dict)
    code, killed_by, truncated = (value.get(k) for k in ("code", "killed_by", "truncated"))
    if type(code) is not int or not -64 <= code <= 255 or type(truncated) is not bool:
        raise ProtocolError("bad exit")
    if killed_by is not None and (type(killed_by) is not str or killed_by not in REASONS):
        raise ProtocolError("bad exit")
    return Exit(code, killed_by, truncated)


def parse_failure(payload: bytes) -> tuple[int, str]:
    """The payload of FAIL: error number and message."""
    value = load(payload, dict)
    number, message = value.get("errno"), value.get("message")
    if type(number) is not int or not 0 <= number < 4096 or type(message) is not str:
        raise ProtocolError("bad failure")
    return file_error(number), _printable(message[:LONGEST_MESSAGE])


def file_error(number: int) -> int:
    """An error that files have; any other, such as a time-out, would be taken for our own."""
    return number if number in _ERRORS else errno.EIO


def parse_entries(payload: bytes) -> list[FileStat]:
    """The payload of DATA that answers LIST."""
    return [_entry(row) for row in load(payload, list)]


def parse_lines(payload: bytes) -> list[str]:
    """The payload of DATA that answers JOBS: texts of one line each, fit to be shown."""
    lines = load(payload, list)
    if any(type(line) is not str or len(line) > LONGEST_MESSAGE for line in lines):
        raise ProtocolError("bad line")
    return [_printable(line) for line in lines]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _entry(row: Any) -> FileStat:
    if type(row) is not list or len(row) != 4:
        raise ProtocolError("bad entry")
    path, kind, size, mtime = row
    if (
        type(path) is not str
        or type(kind) is not str
        or kind not in KINDS
        or "\0" in path
        or len(path) > LONGEST_PATH
    ):
        raise ProtocolError("bad entry")
    if type(size) is not int or type(mtime) is not int:
        raise ProtocolError("bad entry")
    if not 0 <= size < LARGEST_INTEGER or abs(mtime) >= LARGEST_INTEGER:
        raise ProtocolError("bad entry")
    return FileStat(path, kind, size, mtime)


def load(payload: bytes, kind: type) -> Any:
    """JSON of this type at its top."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        raise ProtocolError("bad JSON") from None
    if type(value) is not kind:
        raise ProtocolError("bad JSON")
    return value
