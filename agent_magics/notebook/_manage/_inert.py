"""
Markdown for readers that are not ours: code hosts, JupyterLab's preview, site generators.

They fetch pictures, let HTML through and hand formulas to a typesetter. What an agent wrote keeps
its words and its shape, and nothing of that happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from markdown_it import MarkdownIt

from ...widgets import link_address

__all__ = ["inert_markdown"]

_CODE = frozenset(("fence", "code_block"))
_ENTITY = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINE_END = re.compile(r"\r\n?")
_TICKS = re.compile(r"`+")
_CELL_ENDS = re.compile(r"(?<!\\)(\|)")
_DESTINATION = re.compile(r"\](\(|:)[ \t]*\n?[ \t]*([^\s()<>]*)")
_FENCE = re.compile(r"((?:[ \t>]|[-*+] |\d+[.)] )*(?:`{3,}|~{3,})[ \t]*)([\w+#.-]{1,40})?")
_DRAWN = frozenset(("asy", "dot", "geojson", "graphviz", "latex", "math", "mermaid", "plantuml"))
_DRAWN_TOO = frozenset(("stl", "tex", "topojson", "vega", "vega-lite"))
"""Languages of code blocks that some reader draws instead of showing them."""
_BROKEN = {"$": "<span>$</span>", "\\": r"<span>\\</span>", "`": r"<span>\`</span>"}
"""An element of its own ends what a typesetter takes for a formula."""


def inert_markdown(source: str) -> str:
    """
    The whole document `source` without HTML, pictures, formulas and links that we would not make.

    HTML is shown as its source, a picture becomes a link, a formula its TeX. Code stays as it is.
    """
    source = _LINE_END.sub("\n", source)
    lines = source.split("\n")
    made: dict[int, str] = {}
    for first, end, kind in _blocks(source):
        if kind == "code":
            made.update((n, lines[n]) for n in range(first, end))
            made[first] = _without_info(lines[first])
        elif kind == "row":
            pieces = _CELL_ENDS.split(lines[first])
            made[first] = "".join(piece if piece == "|" else _prose(piece) for piece in pieces)
        else:
            text = _prose("\n".join(lines[first:end]))
            made.update(zip(range(first, end), text.split("\n"), strict=True))
    return "\n".join(made.get(n) or _prose(line) for n, line in enumerate(lines))


def _blocks(source: str) -> Iterator[tuple[int, int, str]]:
    """First line, the line after the last, and kind of each block: code, row (of a table), text."""
    rows: set[int] = set()
    for token in MarkdownIt("commonmark", {"html": False}).enable("table").parse(source):
        if token.map is None:
            continue
        first, end = token.map
        if token.type in _CODE:
            yield first, end, "code"
        elif token.type == "table_open":
            rows.update(range(first, end))
            for line in range(first, end):
                yield line, line + 1, "row"
        elif token.type == "inline" and first not in rows:
            yield first, end, "text"


def _without_info(line: str) -> str:
    """The first line of a block of code, its language at most one word that nobody draws."""
    match = _FENCE.match(line)
    if match is None:
        return line
    language = match[2] or ""
    return match[1] + ("text" if language.lower() in _DRAWN | _DRAWN_TOO else language)


def _prose(text: str) -> str:
    pieces: list[str] = []
    at = 0
    while at < len(text):
        piece, taken = _next(text, at)
        pieces.append(piece)
        at += taken
    return "".join(pieces)


def _next(text: str, at: int) -> tuple[str, int]:
    """What stands in the document for the text from `at` on, and for how much of it."""
    char = text[at]
    if char == "\\":
        return _after_backslash(text[at + 1 : at + 2])
    if char == "`":
        return _code_span(text, at)
    if char == "<":
        return "&lt;", 1
    if char == "$":
        return _BROKEN[char], 1
    if char == "&" and (match := _ENTITY.match(text, at)):
        meant = unescape(match[0])
        broken = meant in _BROKEN or meant == "<"
        return (_BROKEN.get(meant, "&lt;") if broken else match[0]), len(match[0])
    if text.startswith("![", at):
        return r"\![", 2
    if char == "]" and (match := _DESTINATION.match(text, at)) and not link_address(match[2]):
        return rf"]\{match[1]}", 2
    return char, 1


def _after_backslash(following: str) -> tuple[str, int]:
    if following == "$":
        return _BROKEN["$"], 2
    if following == "\\":
        return _BROKEN["\\"], 2
    if not following or following in "()[]" or following.isalnum() or following == " ":
        return _BROKEN["\\"], 1
    return f"\\{following}", 2


def _code_span(text: str, at: int) -> tuple[str, int]:
    """The code between two runs of as many backticks, as it is; else these backticks as text."""
    opening = _TICKS.match(text, at)
    assert opening is not None
    ticks = opening[0]
    for closing in _TICKS.finditer(text, opening.end()):
        if closing[0] == ticks:
            return text[at : closing.end()], closing.end() - at
    return _BROKEN["`"] * len(ticks), len(ticks)
