"""Text from outside, made safe for places that show it as it is: terminals, error lines."""

from __future__ import annotations

import re

__all__ = ["fenced", "one_line", "printable"]

_HARMLESS = re.compile(r"\x1b\[[0-9;]{0,32}m|\r")  # colours, and what progress bars need


def printable(text: str, *, colours: bool = False) -> str:
    """
    `text` without anything that steers a terminal or reorders the line.

    Escape sequences are dropped; what is left of control characters, bidirectional overrides and
    lone surrogates is spelled out as in the widgets. With `colours`, ANSI colour codes and
    carriage returns stay.
    """
    if text.isascii() and text.isprintable():
        return text
    if not colours:
        from agent_magics.widgets import readable, without_escapes

        return readable(without_escapes(text))
    pieces = _HARMLESS.split(text)
    kept = [*_HARMLESS.findall(text), ""]
    return "".join(printable(p) + c for p, c in zip(pieces, kept, strict=True))


def one_line(text: str, limit: int = 600) -> str:
    """`text` as one safe line of at most `limit` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def fenced(text: str, language: str = "text") -> str:
    """`text` as a code block of Markdown that nothing in it can end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
