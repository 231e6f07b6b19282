"""Text from outside, made safe for places that show it as it is: terminals, error lines."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["one_line", "printable"]

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, lone surrogates, line separators
_HARMLESS = re.compile(r"\x1b\[[0-9;]{0,32}m|\r")  # colours, and what progress bars need
_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")


def printable(text: str, *, colours: bool = False) -> str:
    """
    `text` without anything that steers a terminal or reorders the line.

    Newlines and tabs stay; other control characters, bidirectional overrides and what cannot be
    encoded become visible (`\\x1b`, `\\u202e`). With `colours`, ANSI colour codes and carriage
    returns stay as well.
    """
    if text.isprintable():
        return text
    if not colours:
        return "".join(map(_visible, _ESCAPES.sub("", text)))
    pieces = _HARMLESS.split(text)
    kept = [*_HARMLESS.findall(text), ""]
    return "".join(printable(p) + c for p, c in zip(pieces, kept, strict=True))


def _visible(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _HIDDEN:
        return char
    if char in "\u200c\u200d\ufeff":  # joiners belong to words and emoji
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str, limit: int = 600) -> str:
    """`text` as one safe line of at most `limit` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
