"""
Markdown for a file of its own, in which other programs' viewers find nothing active.

Such viewers take raw HTML, fetch pictures, follow any link and typeset formulas. Text and layout
stay; formulas stay readable as their source.
"""

from __future__ import annotations

import re

from ._links import link_address
from ._markdown import fences
from ._page import page_text

__all__ = ["inert_markdown"]

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_ACTIVE = re.compile(r"[&<$]|\\(?=[A-Za-z\\])|!(?=\[)|\](?=\()|\](?=:)")
_ADDRESS = re.compile(r"\(([^\s()<>]*)")


def inert_markdown(text: str) -> str:
    """
    `text` without HTML, pictures, links other than http, https and mail, and formulas.

    Blocks of code stay as they are.
    """
    lines = text.split("\n")
    kept = {number for start, end in fences(text) for number in range(start, end)}
    return "\n".join(
        line if number in kept else _inert_line(line) for number, line in enumerate(lines)
    )


def _inert_line(line: str) -> str:
    """Code in the line stays, where all viewers agree that it is code."""
    if "|" in line or "\\`" in line:
        return _inert(line)
    pieces, place = [], 0
    for code in _CODE.finditer(line):
        pieces += [_inert(line[place : code.start()]), code[0]]
        place = code.end()
    return "".join([*pieces, _inert(line[place:])])


def _inert(text: str) -> str:
    def shown(match: re.Match[str]) -> str:
        char = match[0]
        if char == "]":
            address = _ADDRESS.match(text, match.end())
            return char if address and link_address(address[1]) else "]\\"
        if char == "!":
            return "\\!"
        return "<span>&#92;</span>" if char == "\\" else page_text(char)

    return _ACTIVE.sub(shown, text)
