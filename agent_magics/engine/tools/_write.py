"""The tools that change files: `write` and `edit`."""

from __future__ import annotations

import difflib

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed

from agent_magics.sandbox import PathIsLink

from .._paths import short_path
from ._context import ToolContext, TurnDeps, checked, file_errors, meant, tool_context, tool_path
from ._output import cap_text

__all__ = ["edit", "write"]

MAX_FILE = 10 << 20
MAX_DIFF_LINES = 2000
_LINES_NAMED = 5


@checked
async def write(ctx: RunContext[TurnDeps], filePath: str, content: str) -> str:
    """Write a whole file; replaces what was there, makes missing directories.

    For a change in an existing file use edit: it is shorter and safer.

    Args:
        filePath: The file; absolute or relative to /workspace.
        content: The complete new text of the file.
    """
    call = tool_context(ctx)
    path = tool_path(filePath)
    data = _encode(content)
    before = await _existing(call, path)
    real = await _put(call, path, data)
    call.edited(real)
    call.metadata(diff=_diff(before or "", content, path), created=before is None)
    verb = "Wrote" if before is None else "Replaced"
    return f"{verb} {path}: {_lines(content)} lines, {len(data)} bytes."


@checked
async def edit(
    ctx: RunContext[TurnDeps],
    filePath: str,
    oldString: str,
    newString: str,
    replaceAll: bool = False,
) -> str:
    """Replace a piece of text in a file by another, exactly.

    `oldString` must be in the file character for character, with its indentation and without the
    line numbers that read shows, and only once: give enough lines around it, or set `replaceAll`.

    Args:
        filePath: The file; absolute or relative to /workspace.
        oldString: The text to replace.
        newString: The text to put in its place; empty to delete it.
        replaceAll: Replace every occurrence.
    """
    if not oldString:
        raise ModelRetry("`oldString` is empty. Use write to make a file.")
    if oldString == newString:
        raise ModelRetry("`oldString` and `newString` are identical.")
    call = tool_context(ctx)
    path = tool_path(filePath)
    before = await _text(call, path)
    old, new = _match_line_ends(before, oldString, newString)
    found = before.count(old)
    if not found:
        raise ToolFailed(_not_found(before, old, path))
    if found > 1 and not replaceAll:
        raise ToolFailed(_ambiguous(before, old, found))
    after = before.replace(old, new)
    real = await _put(call, path, _encode(after))
    call.edited(real)
    call.metadata(diff=_diff(before, after, path), replacements=found)
    return f"Edited {path}: {found} replacement{'s' if found > 1 else ''}."


async def _put(call: ToolContext, path: str, data: bytes) -> str:
    """
    Write the file; where a link leads elsewhere, only after that path was permitted, too.

    The path as the container has it.
    """
    with file_errors(path):
        real = await meant(call, path)
        try:
            await call.sandbox.write_file(real, data, follow=False)
        except PathIsLink as link:
            await call.permit_write(link.target)
            await call.sandbox.write_file(link.target, data, follow=False)
    return real


def _encode(text: str) -> bytes:
    data = text.encode("utf-8")
    if len(data) > MAX_FILE:
        raise ToolFailed(f"The file would have {len(data)} bytes; the limit is {MAX_FILE}.")
    return data


async def _existing(call: ToolContext, path: str) -> str | None:
    """The text that a write replaces: None if there is no file, "" if it is no text."""
    try:
        real = await meant(call, path)
        return (await call.sandbox.read_file(real, max_bytes=MAX_FILE)).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""


async def _text(call: ToolContext, path: str) -> str:
    with file_errors(path):
        data = await call.sandbox.read_file(await meant(call, path), max_bytes=MAX_FILE)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ToolFailed(f"{short_path(path)} is not UTF-8 text; edit can't change it.") from None


def _match_line_ends(text: str, old: str, new: str) -> tuple[str, str]:
    """Models write \\n; a file with Windows line ends keeps its own."""
    if old in text or "\r\n" not in text:
        return old, new
    windows = old.replace("\r\n", "\n").replace("\n", "\r\n")
    if windows not in text:
        return old, new
    return windows, new.replace("\r\n", "\n").replace("\n", "\r\n")


def _not_found(text: str, old: str, path: str) -> str:
    message = f"`oldString` is not in {short_path(path)}."
    wanted = [line.strip() for line in old.strip().splitlines()]
    lines = [line.strip() for line in text.splitlines()]
    for i in range(len(lines) - len(wanted) + 1):
        if wanted and lines[i : i + len(wanted)] == wanted:
            return f"{message} Line {i + 1} differs from it only in blanks; read it again."
    close = difflib.get_close_matches(wanted[0] if wanted else "", lines[:5000], n=1)
    if close:
        number = lines.index(close[0]) + 1
        return f"{message} The nearest is line {number}: {cap_text(close[0], 200)}"
    return f"{message} Read the file again."


def _ambiguous(text: str, old: str, found: int) -> str:
    numbers, position = [], -1
    for _ in range(min(found, _LINES_NAMED)):
        position = text.index(old, position + 1)
        numbers.append(str(text.count("\n", 0, position) + 1))
    more = ", ..." if found > _LINES_NAMED else ""
    return (
        f"`oldString` is in the file {found} times (lines {', '.join(numbers)}{more}). "
        "Give more lines around it, or set replaceAll."
    )


def _lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n") and text != "")


def _diff(before: str, after: str, path: str) -> str:
    """A unified diff for display; empty where it would take long to make."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if len(old) + len(new) > MAX_DIFF_LINES:
        return ""
    name = short_path(path)
    lines = difflib.unified_diff(old, new, name, name, n=3)
    return cap_text("".join(line if line.endswith("\n") else line + "\n" for line in lines))
