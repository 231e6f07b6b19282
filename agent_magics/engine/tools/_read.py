"""The `read` tool."""

from __future__ import annotations

import difflib
import posixpath

from pydantic_ai import BinaryContent, ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.models import Model

from agent_magics.sandbox import Sandbox

from .._paths import short_path
from ._context import ToolContext, TurnDeps, checked, file_errors, meant, tool_context, tool_path
from ._output import MAX_OUTPUT, valid_text

__all__ = ["read"]

DEFAULT_LINES = 2000
MAX_LINE = 2000
MAX_FILE = 32 << 20
MAX_IMAGE = 4 << 20
MAX_ENTRIES = 500
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@checked
async def read(
    ctx: RunContext[TurnDeps],
    filePath: str,
    offset: int = 1,
    limit: int = DEFAULT_LINES,
) -> str | BinaryContent:
    """Read a file, or list a directory.

    Text comes back with line numbers, as `12: text`; the number and the blank after the colon are
    not part of the file. Long lines and long files are cut; read on with `offset`. Images (PNG,
    JPEG, GIF, WebP) are shown to you if you can see images. Read a file before you edit it.

    Args:
        filePath: The file; absolute or relative to /workspace.
        offset: The first line to read, counted from 1.
        limit: How many lines to read at most.
    """
    if offset < 0 or limit < 1:
        raise ModelRetry("`offset` counts from 1 and `limit` must be at least 1.")
    call = tool_context(ctx)
    path = tool_path(filePath)
    try:
        with file_errors(path):
            data = await call.sandbox.read_file(await meant(call, path), max_bytes=MAX_FILE)
    except ToolFailed as failed:
        if isinstance(failed.__cause__, IsADirectoryError):
            return await _directory(call, path)
        if isinstance(failed.__cause__, FileNotFoundError):
            raise ToolFailed(f"{failed}{await _suggestion(call.sandbox, path)}") from failed
        raise
    if media_type := _image_type(data):
        return _image(ctx, data, media_type, path)
    if data.startswith(_UTF16):
        data = data.decode("utf-16", errors="replace").encode()
    if b"\0" in data[:8192]:
        raise ToolFailed(f"{short_path(path)} is a binary file of {len(data)} bytes.")
    return _numbered(data, max(offset, 1), limit)


def _image_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _IMAGES if data.startswith(magic)), None)


def _image(
    ctx: RunContext[TurnDeps], data: bytes, media_type: str, path: str
) -> str | BinaryContent:
    fact = f"{short_path(path)} is an image ({media_type}, {len(data)} bytes)"
    sees = isinstance(ctx.model, Model) and ctx.model.profile.get("supports_image_input", True)
    if not sees:
        return f"{fact}. You can't see images; the user sees images that you save."
    if len(data) > MAX_IMAGE:
        return f"{fact}, too big to be shown to you. Make a smaller copy."
    return BinaryContent(data=data, media_type=media_type)


def _numbered(data: bytes, offset: int, limit: int) -> str:
    lines = data.decode("utf-8-sig", errors="replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        return "(the file is empty)"
    if offset > len(lines):
        raise ToolFailed(f"The file has only {len(lines)} lines.")
    shown: list[str] = []
    size = 0
    for number, line in enumerate(lines[offset - 1 : offset - 1 + limit], offset):
        text = line.rstrip("\r")
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]} [... line of {len(text)} characters]"
        size += len(text) + 8
        if shown and size > MAX_OUTPUT:
            break
        shown.append(f"{number}: {text}")
    last = offset + len(shown) - 1
    if last < len(lines):
        shown.append(f"[{len(lines)} lines in all; read on with offset={last + 1}]")
    return "\n".join(shown)


async def _directory(call: ToolContext, path: str) -> str:
    with file_errors(path):
        entries = await call.sandbox.list_files(await meant(call, path), limit=MAX_ENTRIES + 1)
    if not entries:
        return f"{path} is an empty directory."
    marks = {"directory": "/", "link": "@"}
    lines = [
        f"{posixpath.basename(entry.path)}{marks.get(entry.kind, '')}"
        + (f"  ({entry.size} bytes)" if entry.kind == "file" else "")
        for entry in entries[:MAX_ENTRIES]
    ]
    if len(entries) > MAX_ENTRIES:
        lines.append(f"[more than {MAX_ENTRIES} entries]")
    return valid_text("\n".join([f"{path} is a directory:", *lines]))


async def _suggestion(sandbox: Sandbox, path: str) -> str:
    """Names in the same directory that look like the missing one."""
    directory, name = posixpath.split(path)
    try:
        entries = await sandbox.list_files(directory, limit=2000)
    except OSError:
        return ""
    names = [posixpath.basename(entry.path) for entry in entries]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return valid_text(f" Did you mean {' or '.join(close)}?") if close else ""
