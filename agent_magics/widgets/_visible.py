"""Text of agents and tools, made visible: nothing in it may hide, reorder or overwrite anything."""

from __future__ import annotations

import re
import unicodedata

__all__ = [
    "TerminalTail",
    "common_prefix",
    "readable",
    "terminal_text",
    "utf16_length",
    "visible",
    "without_escapes",
]

_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
_HALF_ESCAPE = re.compile(r"\x1b(?:\][^\x07\x1b]{0,200}\x1b?|\[[0-?]{0,60}[ -/]{0,8})?\Z")
# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt: shown as nothing at all.
_IGNORABLE = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
# Letters, marks and symbols that are drawn blank although their category says nothing of it.
_BLANK = "\u2800\u2d7f\U00013441\U00013442\U00016fe4\U0001d159"
_HIDDEN = re.compile(
    f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_IGNORABLE}{_BLANK}\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2"
    "\u2028\u2029\ud800-\udfff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f]"
)
_IS_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"))
"""Categories without a shape, or with one that fonts are free to choose."""
_JOINERS = "\u200c\u200d"
_FLAG_TAGS = re.compile(
    "\U0001f3f4(?:\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067|"
    "\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074|\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073)"
    "\U000e007f"
)
_MARKS = 3
"""Marks above and below one letter; more are used for drawing over other lines."""


class _Table(dict[int, str]):
    """For `str.translate`: what is shown for a code point, found out once."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        hidden = char not in " \t\n" and (
            unicodedata.category(char) in _IS_HIDDEN or _HIDDEN.match(char) is not None
        )
        self[code] = shown = _spelled(char) if hidden else char
        return shown


_TABLE = _Table()
_HIDDEN_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MANY_MARKS = re.compile(f"{_MARK}{{{_MARKS + 1},}}")


def visible(text: str) -> str:
    """
    `text` with everything in it spelled out that can't be seen, or reorders what can.

    That are controls, format and bidirectional characters, joiners and variation selectors,
    fillers and other blanks, unusual spaces, private and unassigned code points, heaps of marks.
    Newlines and tabs stay. `U+202E` becomes `⟦U+202E⟧`, an escape character `␛`. For what people
    decide upon: commands, names, titles.
    """
    if text.isascii():
        return _HIDDEN_ASCII.sub(lambda match: _spelled(match[0]), text)
    return _marked(text.translate(_TABLE))


def readable(text: str) -> str:
    """
    As `visible`, for prose and output: unusual spaces and private code points stay, and joiners
    and variation selectors where emoji and scripts need them.
    """
    if text.isascii():
        return _HIDDEN_ASCII.sub(lambda match: _spelled(match[0]), text)
    return _marked(_HIDDEN.sub(_unless_needed, text))


def _marked(text: str) -> str:
    return _MANY_MARKS.sub(
        lambda found: found[0][:_MARKS] + "".join(map(_spelled, found[0][_MARKS:])), text
    )


def _unless_needed(match: re.Match[str]) -> str:
    """A hidden character as it is where it belongs to the characters beside it."""
    char, text, place = match[0], match.string, match.start()
    before, after = text[place - 1 : place] or " ", text[place + 1 : place + 2]
    if char in _JOINERS:  # at the end the other half may be to come
        needed = _joins(before) and (not after or _joins(after))
    elif char in "\ufe0e\ufe0f":
        needed = unicodedata.category(before)[0] in "SP" or (
            before in "0123456789" and after == "\u20e3"
        )
    elif "\u180b" <= char <= "\u180f":
        needed = "\u1820" <= before <= "\u18aa"
    elif "\ufe00" <= char <= "\ufe0d" or "\U000e0100" <= char <= "\U000e01ef":
        needed = unicodedata.name(before, "").startswith("CJK ")
    else:
        needed = "\U000e0020" <= char <= "\U000e007f" and _in_flag(text, place)
    return char if needed else _spelled(char)


def _joins(char: str) -> bool:
    """Whether joiners make sense beside it: emoji, and letters and marks of joining scripts."""
    if char in "\ufe0f\u20e3" or unicodedata.category(char) in ("So", "Sk"):
        return ord(char) > 0xFF
    # Arabic to Khmer and Mongolian, and their supplements; Latin, Greek, Cyrillic need none.
    return 0x600 <= ord(char) <= 0x18AF or 0xA840 <= ord(char) <= 0xABFF or char in "\u2640\u2642"


def _in_flag(text: str, place: int) -> bool:
    """Whether the tag belongs to the flag of England, Scotland or Wales."""
    start = text.rfind("\U0001f3f4", max(place - 6, 0), place)
    flag = _FLAG_TAGS.match(text, start) if start >= 0 else None
    return flag is not None and place < flag.end()


def without_escapes(text: str) -> str:
    """`text` without the sequences that steer a terminal."""
    return _ESCAPES.sub("", text)


def _spelled(char: str) -> str:
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else f"⟦U+{code:04X}⟧"


def utf16_length(text: str) -> int:
    """The length of `text` as JavaScript counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def terminal_text(text: str) -> str:
    """
    What a terminal would leave of `text`, in plain characters.

    Colour codes and cursor movements are dropped, a carriage return begins its line anew (so a
    progress bar shows its last state), a backspace takes a character back; the rest is `readable`.
    """
    if "\x1b" in text:
        text = without_escapes(text)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    if "\b" in text:
        text = _erased(text)
    return readable(text)


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
