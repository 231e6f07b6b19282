"""The search tools: `grep` and `glob`."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from pathlib import Path
from typing import Any

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed

from .._paths import WORKSPACE, container_path, is_below, short_path
from ._context import ToolContext, TurnDeps, checked, file_errors, meant, tool_context, tool_path
from ._output import cap_text, valid_text

__all__ = ["glob", "glob_pattern", "grep"]

MAX_FILES = 100
MAX_MATCHES = 200
GREP_TIMEOUT = 30.0
_GREP_PROGRAM = (Path(__file__).parent / "_grep_program.py").read_text(encoding="utf-8")


@checked
async def grep(
    ctx: RunContext[TurnDeps], pattern: str, path: str = WORKSPACE, include: str | None = None
) -> str:
    """Search the contents of files for a regular expression.

    Returns `file:line: text`, most recently changed files first, at most 200 lines. Skips binary
    files, files over 10 MB and the directories .git, node_modules and __pycache__.

    Args:
        pattern: A regular expression in Python's syntax.
        path: The file or directory to search; default /workspace.
        include: Only files whose name matches this pattern, such as "*.py" or "*.{csv,tsv}".
    """
    if not pattern:
        raise ModelRetry("`pattern` is empty.")
    try:
        re.compile(pattern)
        names = None if include is None else glob_pattern(include)
    except re.error as error:
        raise ModelRetry(f"`pattern` is not a valid regular expression: {error}") from None
    call = tool_context(ctx)
    root = tool_path(path)
    base, relative = _base(await meant(call, root))
    request = {"pattern": pattern, "path": relative, "include": names, "limit": MAX_MATCHES}
    # A pattern may take for ever, so it runs in the container, where the timeout can kill it.
    result = await call.sandbox.run(
        f"exec python3 -I -c {shlex.quote(_GREP_PROGRAM)}",
        cwd=base,
        timeout=GREP_TIMEOUT,
        stdin=json.dumps(request).encode(),
    )
    if result.timed_out:
        raise ToolFailed("The search took too long. Use a simpler pattern or a narrower path.")
    if result.exit_code == 2:
        raise ToolFailed(f"{short_path(root)} does not exist.")
    if result.exit_code:
        reason = result.stderr.decode(errors="replace").strip()[-500:]
        raise ToolFailed(f"The search failed (exit code {result.exit_code}): {reason}")
    return _matches(call, base, json.loads(result.stdout))


def _base(path: str) -> tuple[str, str]:
    """
    A directory to start in, and `path` as seen from there.

    Without isolation /workspace and /tmp are other directories, known only to the sandbox.
    """
    base = next((d for d in (WORKSPACE, "/tmp") if is_below(path, d)), "/")
    return base, posixpath.relpath(path, base)


def _matches(call: ToolContext, base: str, answer: dict[str, Any]) -> str:
    found = answer["matches"]
    call.metadata(matches=len(found), truncated=answer["more"])
    if not found:
        return "No matches."
    lines = [
        f"{short_path(posixpath.join(base, file))}:{number}: {text}" for file, number, text in found
    ]
    if answer["more"]:
        lines.append(f"[more than {MAX_MATCHES} matches; narrow the search]")
    return cap_text(valid_text("\n".join(lines)))


@checked
async def glob(ctx: RunContext[TurnDeps], pattern: str, path: str = WORKSPACE) -> str:
    """Find files by name.

    Returns paths, most recently changed first, at most 100. `*` matches within one directory,
    `**` any number of directories, `{a,b}` either text; a pattern without a slash is looked for
    in every directory. Skips .git, node_modules and __pycache__.

    Args:
        pattern: The pattern, such as "*.csv" or "data/**/*.json".
        path: The directory to search; default /workspace.
    """
    if not pattern:
        raise ModelRetry("`pattern` is empty.")
    call = tool_context(ctx)
    root, relative = _split_absolute(pattern, tool_path(path))
    try:
        expression = re.compile(glob_pattern(relative))
    except re.error:
        raise ModelRetry(f"{pattern!r} is not a valid pattern.") from None
    with file_errors(root):
        real = await meant(call, root)
        entries = await call.sandbox.list_files(real, recursive=True)
    prefix = real.rstrip("/") + "/"
    found = [
        entry
        for entry in entries
        if entry.kind != "directory" and expression.fullmatch(entry.path.removeprefix(prefix))
    ]
    found.sort(key=lambda entry: entry.mtime, reverse=True)
    call.metadata(count=len(found), truncated=len(found) > MAX_FILES)
    if not found:
        return "No files found."
    lines = [entry.path for entry in found[:MAX_FILES]]
    if len(found) > MAX_FILES:
        lines.append(f"[{len(found)} files in all, the newest {MAX_FILES} are shown]")
    return valid_text("\n".join(lines))


def _split_absolute(pattern: str, root: str) -> tuple[str, str]:
    """Where an absolute pattern like `/tmp/**/*.csv` starts to vary."""
    if not pattern.startswith("/"):
        return root, pattern
    fixed = re.split(r"[*?\[{]", pattern, maxsplit=1)[0].rpartition("/")[0]
    return container_path(fixed or "/"), pattern[len(fixed) + 1 :]


def glob_pattern(pattern: str) -> str:
    """
    A regular expression for the whole of a relative path.

    Raises `re.error` (when compiled) for character sets that make no sense.
    """
    if "/" not in pattern:
        pattern = "**/" + pattern
    out, position, depth = [], 0, 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**/", position):
            out.append("(?:[^/]+/)*")
            position += 3
            continue
        if pattern.startswith("**", position):
            out.append(".*")
            position += 2
            continue
        if char == "[" and (end := pattern.find("]", position + 2)) > 0:
            inner = pattern[position + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            out.append("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
            position = end + 1
            continue
        if char == "{" and "}" in pattern[position:]:
            depth += 1
            out.append("(?:")
        elif char == "}" and depth:
            depth -= 1
            out.append(")")
        elif char == "," and depth:
            out.append("|")
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
        position += 1
    return "(?s:" + "".join(out) + ")" + (")" * depth)
