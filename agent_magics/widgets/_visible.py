"""Text of agents and tools, made visible: nothing in it may hide, reorder or overwrite anything."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["terminal_text", "visible"]

_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
_JOINERS = "\u200c\u200d\ufeff"  # belong to words and emoji
_HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")


def visible(text: str) -> str:
    """
    `text` with every control, format and bidirectional character spelled out.

    Newlines and tabs stay. `U+202E` becomes `⟦U+202E⟧`, an escape character `␛`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _HIDDEN or char in _JOINERS:
        return char
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return f"⟦U+{code:04X}⟧"


def terminal_text(text: str) -> str:
    """
    What a terminal would leave of `text`, in plain characters.

    Colour codes and cursor movements are dropped, a carriage return begins its line anew (so a
    progress bar shows its last state), a backspace takes a character back; the rest is `visible`.
    """
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    if "\b" in text:
        text = _erased(text)
    return visible(text)


def _erased(text: str) -> str:
    kept: list[str] = []
    for char in text:
        if char == "\b" and kept and kept[-1] not in "\n\b":
            kept.pop()
        else:
            kept.append(char)
    return "".join(kept)


def _overwritten(line: str) -> str:
    pieces = [piece for piece in line.split("\r") if piece]
    return pieces[-1] if pieces else ""
