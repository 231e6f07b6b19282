"""Text of agents and tools, made visible: nothing in it may hide, reorder or overwrite anything."""

from __future__ import annotations

import re

__all__ = [
    "TerminalTail",
    "common_prefix",
    "terminal_text",
    "utf16_length",
    "visible",
    "without_escapes",
]

_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
_HALF_ESCAPE = re.compile(r"\x1b(?:\][^\x07\x1b]{0,200}\x1b?|\[[0-?]{0,60}[ -/]{0,8})?\Z")
# Control and format characters, surrogates, separators; letters and marks without a shape. Joiners
# and variation selectors stay: words and emoji are made with them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff"
    "\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """
    `text` with every control, format and bidirectional character spelled out.

    Newlines and tabs stay. `U+202E` becomes `⟦U+202E⟧`, an escape character `␛`.
    """
    return _HIDDEN.sub(_shown, text)


def without_escapes(text: str) -> str:
    """`text` without the sequences that steer a terminal."""
    return _ESCAPES.sub("", text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else f"⟦U+{code:04X}⟧"


def utf16_length(text: str) -> int:
    """The length of `text` as JavaScript counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def terminal_text(text: str) -> str:
    """
    What a terminal would leave of `text`, in plain characters.

    Colour codes and cursor movements are dropped, a carriage return begins its line anew (so a
    progress bar shows its last state), a backspace takes a character back; the rest is `visible`.
    """
    if "\x1b" in text:
        text = without_escapes(text)
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


class TerminalTail:
    """
    `terminal_text` for output that is still coming, whatever it is cut up into.

    Its last line may yet be overwritten or go on with the other half of an escape sequence, so an
    update says how much of what was shown before is to be taken back.
    """

    _LONG = 4_000
    """Longer lines are not rewritten any more; a line without an end must not cost its square."""

    def __init__(self) -> None:
        self._line = ""
        self._shown = ""

    def feed(self, text: str) -> tuple[int, str]:
        """`(back, more)`: remove `back` UTF-16 units from the end, then append `more`."""
        text = self._line + text
        # A last CR may belong to a CR LF; half an escape sequence is not shown yet.
        half = _HALF_ESCAPE.search(text)
        end = half.start() if half else len(text)
        if text.endswith("\r"):
            end = min(end, len(text) - 1)
        clean, rest = without_escapes(text[:end]), text[end:]
        shown = terminal_text(clean)
        kept = common_prefix(self._shown, shown)
        back, more = utf16_length(self._shown[kept:]), shown[kept:]
        self._line = _last_state(clean.rpartition("\n")[2]) + rest
        self._shown = shown.rpartition("\n")[2]
        if len(self._line) > self._LONG:
            self._line, self._shown = rest, ""
        return back, more


def _last_state(line: str) -> str:
    """What of an unfinished line still counts: all before the last rewriting does not."""
    return _overwritten(line) + ("\r" if line.endswith("\r") else "")


def common_prefix(a: str, b: str) -> int:
    """How many characters `a` and `b` begin with alike."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
