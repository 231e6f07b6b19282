"""Changes of files as unified diffs, for tool calls and for the requests to allow them."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._visible import visible

__all__ = ["Block", "change_blocks", "changed_lines"]

_DIFF_LIMIT = 200_000
_HEAD = re.compile(r"\A--- [^\n]*\n\+\+\+ [^\n]*\n")


class Block(NamedTuple):
    """A labelled piece of text. `kind`: code, diff, line (a short piece of code) or words."""

    label: str
    text: str
    kind: str = "code"


def change_blocks(path: str, left: dict[str, Any], metadata: Mapping[str, Any]) -> list[Block]:
    """
    The difference a change makes, or a file's new content; takes these arguments out of `left`.

    What the tool found it had changed, once it has, is better than what can be told before.
    """
    content = left.pop("content", None)
    old, new = left.pop("oldString", None), left.pop("newString", None)
    if diff := _stated(metadata):
        return [Block("", visible(diff), "diff")]
    if isinstance(content, str):
        return [Block("", visible(content))]
    if not isinstance(old, str):
        return []
    new = new if isinstance(new, str) else ""
    if len(old) + len(new) > _DIFF_LIMIT:
        return [Block("old", visible(old)), Block("new", visible(new))]
    name = posixpath.basename(path)
    before, after = old.split("\n"), new.split("\n")
    lines = difflib.unified_diff(before, after, name, name, lineterm="", n=len(before))
    # One hunk; where in the file it belongs is not known yet.
    return [Block("", visible("\n".join(list(lines)[3:])), "diff")]


def changed_lines(metadata: Mapping[str, Any]) -> str:
    """How many lines a change added and removed, `+2 \u22121`; empty when that is not known."""
    lines = _stated(metadata).split("\n")
    added = sum(line.startswith("+") for line in lines)
    removed = sum(line.startswith("-") for line in lines)
    return f"+{added} \u2212{removed}" if added or removed else ""


def _stated(metadata: Mapping[str, Any]) -> str:
    """The tool's own diff without its head, which repeats the path."""
    diff = metadata.get("diff")
    return _HEAD.sub("", diff).rstrip("\n") if isinstance(diff, str) else ""
