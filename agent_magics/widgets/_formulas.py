"""
Formulas as MathML: TeX from an allow-list (`_tex`), converted by latex2mathml, and built anew from
an allow-list of elements and attributes.

No page's typesetter is needed, and none gets to see it. What is not on the lists is no formula:
callers show its source as code.

The saved form also reads where a sanitiser drops the tags and keeps their text (notebooks that are
not trusted, code hosts): signs that take no room and are not drawn stand between the parts, so that
a fraction is left as `(a+b)/c` and not as `a+bc`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from typing import TYPE_CHECKING

from ._page import code_text, page_text
from ._tex import RULE, rewritten

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["CLASSES", "ELEMENTS", "formula_html"]

ELEMENTS: dict[str, tuple[str, ...]] = {
    "math": ("display",),
    "mfrac": ("linethickness",),
    "mi": ("mathvariant",),
    "mn": (),
    "mo": ("fence", "form", "largeop", "maxsize", "minsize", "movablelimits", "stretchy"),
    "mover": ("accent",),
    "mpadded": ("depth", "height", "width"),
    "mphantom": (),
    "mroot": (),
    "mrow": ("class",),
    "mspace": ("width",),
    "msqrt": (),
    "mstyle": ("displaystyle", "scriptlevel"),
    "msub": (),
    "msubsup": (),
    "msup": (),
    "mtable": ("class", "displaystyle"),
    "mtd": ("class",),
    "mtext": (),
    "mtr": (),
    "munder": ("accentunder",),
    "munderover": (),
}
"""Every element of a formula and its attributes; the page's script has the same list."""
CLASSES = {
    "agent-boxed": "border:1px solid;padding:.15em .3em",
    "agent-overline": "border-top:1px solid",
    "agent-underline": "border-bottom:1px solid",
    "agent-left": "text-align:left",
    "agent-left-lined": "text-align:left;border-left:1px solid",
    "agent-center-lined": "border-left:1px solid",
    "agent-right": "text-align:right",
    "agent-right-lined": "text-align:right;border-left:1px solid",
    "agent-left-ruled": "text-align:left;border-top:1px solid",
    "agent-left-lined-ruled": "text-align:left;border-left:1px solid;border-top:1px solid",
    "agent-center-ruled": "border-top:1px solid",
    "agent-center-lined-ruled": "border-left:1px solid;border-top:1px solid",
    "agent-right-ruled": "text-align:right;border-top:1px solid",
    "agent-right-lined-ruled": "text-align:right;border-left:1px solid;border-top:1px solid",
    "agent-equation-left": "text-align:left;padding:.3em 0",
    "agent-equation-right": "text-align:right;padding:.3em 0 .3em 1em",
}
"""Classes of elements, for our own style sheet, and their style for pages without it."""

_SWITCHES = frozenset(("true", "false"))
_VALUES: dict[str, frozenset[str]] = {
    "accent": _SWITCHES,
    "displaystyle": _SWITCHES,
    "fence": _SWITCHES,
    "form": frozenset(("prefix", "infix", "postfix")),
    "largeop": _SWITCHES,
    "linethickness": frozenset("0"),
    "movablelimits": _SWITCHES,
    "scriptlevel": frozenset("012"),
    "stretchy": _SWITCHES,
}
_SIZE = re.compile(r"[0-2](?:\.[0-9]+)?em")
_SPACES = {"thinmathspace": "0.167em", "thickmathspace": "0.278em"}
_ARITY = {"mfrac": 2, "mover": 2, "mroot": 2, "msub": 2, "msubsup": 3, "msup": 2}
_ARITY |= {"munder": 2, "munderover": 3}
_SCRIPTS = frozenset(_ARITY) - {"mfrac"}
_AS_ROW = frozenset(("mpadded", "mrow", "mstyle", "menclose"))
_LEAVES = frozenset(("mi", "mn", "mo", "ms", "mtext"))
_DEEPEST = 60
_MOST = 4_000
"""Elements of a formula."""
_LONGEST = 100_000
"""Characters of a formula's MathML."""
_PLACE = re.compile(r"k([0-9]+)")
_BREAKS = re.compile(r"([$\\`])")
_LIMITS = frozenset(
    (
        *"∑∏∐⋂⋃⋀⋁⨀⨁⨂⨄⨆",  # noqa: RUF001
        *("lim", "max", "min", "sup", "inf", "argmax", "argmin", "Pr", "det", "gcd"),
        *("lim\u2006sup", "lim\u2006inf", "arg\u2009max", "arg\u2009min"),
    )
)
"""What takes its limits below and above in a formula by itself."""
_ORDINARY = frozenset("∞∅∠⊤△□◊")  # noqa: RUF001
"""Letters that the converter takes for operators, which would get room around them."""
_FENCES = frozenset("⟨⟩⌊⌋⌈⌉{}[]()|‖∣∥")  # noqa: RUF001
_SIZED = (
    {r"\{": "{", r"\}": "}", r"\|": "‖", r"\uparrow": "↑", r"\downarrow": "↓"}
    | {
        rf"\{side}{name}": char
        for name, chars in {
            "angle": "⟨⟩",
            "floor": "⌊⌋",
            "ceil": "⌈⌉",
            "brace": "{}",
            "brack": "[]",
            "vert": "||",
            "Vert": "‖‖",
        }.items()
        for side, char in zip("lr", chars, strict=True)
    }
    | {r"\vert": "|", r"\Vert": "‖"}
)
"""Delimiters that the converter leaves as they are behind `\\big` and its like."""
_CLOSING = frozenset(")]}⟩⌋⌉!")
_FACTORS = frozenset("([{⟨⌊⌈√∑∏∐∫∬∭∮⋂⋃∂∇")  # noqa: RUF001
_ACCENTS = {"^": "ˆ", "~": "˜", "`": "ˋ", "\u2015": "¯", "\u203e": "¯"}  # noqa: RUF001
_ACCENTED = frozenset("ˆ˜ˋ¯´˘ˇ˙¨˚→←↔⏞⏟⎴⎵⏜⏝\u20db\u20dc")  # noqa: RUF001
_LINE = "&#x02015;"
_SOLIDUS = "\u29f8"
_STYLES = {
    "bold": "BOLD",
    "bold-italic": "BOLD ITALIC",
    "double-struck": "DOUBLE-STRUCK",
    "fraktur": "FRAKTUR",
    "italic": "ITALIC",
    "monospace": "MONOSPACE",
    "sans-serif": "SANS-SERIF",
    "sans-serif-italic": "SANS-SERIF ITALIC",
    "script": "SCRIPT",
}


class _NotAllowed(Exception):
    """The converter made something that is not on the lists."""


def formula_html(tex: str, *, block: bool, standalone: bool) -> str | None:
    """
    MathML of a formula, or None for one that is not allowed or not understood.

    `tex` is without delimiters. `block`: it stands by itself. `standalone`: for pages without our
    style sheet, legible when a sanitiser drops the tags. Never raises.
    """
    return _formula_html(tex.strip(), block, standalone)


@lru_cache(maxsize=256)
def _formula_html(tex: str, block: bool, standalone: bool) -> str | None:
    taken = rewritten(tex)
    if taken is None:
        return None
    try:
        tree = _converted(taken[0], block)
        return _Builder(taken[1], standalone).math(tree, block)
    except Exception:  # a library's bug must not cost a transcript: the source is shown
        return None


def _converted(tex: str, block: bool) -> Element:
    from latex2mathml.converter import convert_to_element

    return convert_to_element(tex, display="block" if block else "inline")


@dataclass(slots=True)
class _Made:
    """HTML of a part, its text as it reads in a line, and whether that is one word.

    `is_name`: it is the name of a function, which has room around it, or that with scripts.
    """

    html: str
    is_word: bool = True
    tag: str = ""
    text: str = ""
    is_name: bool = False


class _Builder:
    def __init__(self, texts: Sequence[str], standalone: bool) -> None:
        self._texts = texts
        self._standalone = standalone
        self._left = _MOST

    def math(self, tree: Element, block: bool) -> str:
        rows = list(tree)
        elements = list(rows[0]) if len(rows) == 1 and rows[0].tag == "mrow" else rows
        html = "".join(part.html for part in self._row(elements, block, 0))
        if len(html) > _LONGEST:
            raise _NotAllowed
        return f'<math display="block">{html}</math>' if block else f"<math>{html}</math>"

    # -- elements

    def _row(self, elements: Sequence[Element], display: bool, depth: int) -> list[_Made]:
        """The parts of a row, with what the converter leaves out between them."""
        made: list[_Made] = []
        negated = False
        for element in elements:
            if element.tag == "mpadded" and _is_solidus(element):
                negated = True
                continue
            if negated and element.tag not in _LEAVES:
                raise _NotAllowed
            part = self._made(element, display, depth, negated)
            negated = False
            if part.html:
                made += self._between(made[-1], part) if made else ()
                made.append(part)
        if negated:
            raise _NotAllowed
        if self._standalone:
            self._close_fractions(made)
        return made

    def _between(self, last: _Made, part: _Made) -> Sequence[_Made]:
        """The room and the signs between two parts of a row."""
        if last.is_name and part.text not in ("(", "[", "{"):
            return [self._space("0.167em")] if part.tag not in ("mo", "mspace") else ()
        if part.is_name and (last.tag not in ("mo", "mspace") or last.text in _CLOSING):
            return [self._space("0.167em")]
        if "mod" in (one.text for one in (last, part) if one.tag == "mo"):
            return [_Made(self._sign(" "))]
        if last.tag in _SCRIPTS and part.tag not in ("mo", "mspace"):
            return [_Made(self._sign(" "))]
        return ()

    def _close_fractions(self, made: list[_Made]) -> None:
        """Brackets around fractions that a factor follows."""
        follows = False
        for place in range(len(made) - 1, -1, -1):
            part = made[place]
            if follows and part.tag == "mfrac":
                made[place] = _Made(self._around("(", part, ")"), tag="mrow")
            if part.tag not in ("", "mspace"):
                follows = part.tag not in ("mo", "mtext") or part.text in _FACTORS

    def _made(self, element: Element, display: bool, depth: int, negated: bool = False) -> _Made:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise _NotAllowed
        tag = element.tag
        if tag in _LEAVES:
            return self._leaf(element, negated)
        if tag == "mspace":
            return self._space(element.get("width", ""))
        if tag in _AS_ROW:
            return self._group(element, display, depth)
        if tag == "mtable":
            return self._table(element, depth)
        if tag == "msqrt":
            inner = self._inner(list(element), display, depth)
            return _Made(f"<msqrt>{self._around('√(', inner, ')')}</msqrt>", tag=tag)
        if tag not in _ARITY:
            raise _NotAllowed
        return self._scripts(element, display, depth)

    def _inner(self, elements: Sequence[Element], display: bool, depth: int) -> _Made:
        """Several elements as one."""
        parts = self._row(elements, display, depth + 1)
        if len(parts) == 1:
            return parts[0]
        return _Made(
            f"<mrow>{''.join(p.html for p in parts)}</mrow>", is_word=not parts, tag="mrow"
        )

    def _group(self, element: Element, display: bool, depth: int) -> _Made:
        if element.tag == "menclose":
            if element.get("notation") != "box":
                raise _NotAllowed
            inner = self._inner(list(element), display, depth)
            boxed = _Made(f"<mrow{self._class('agent-boxed')}>{inner.html}</mrow>", tag="mrow")
            return _Made(self._around("[", boxed, "]"), tag="mrow")
        attributes = self._attributes(element, "mstyle") if element.tag == "mstyle" else ""
        display = {"true": True, "false": False}.get(element.get("displaystyle", ""), display)
        inner = self._inner(list(element), display, depth)
        if not attributes:
            return inner
        return _Made(f"<mstyle{attributes}>{inner.html}</mstyle>", inner.is_word, "mstyle")

    def _scripts(self, element: Element, display: bool, depth: int) -> _Made:
        tag, children = element.tag, list(element)
        kept = display and tag != "mfrac"
        if len(children) == _ARITY[tag] + 2 and _is_binomial(children[:3]):
            first = self._inner(children[:3], kept, depth)
            children = children[2:]
        elif len(children) == _ARITY[tag]:
            first = self._made(children[0], kept, depth + 1)
        else:
            raise _NotAllowed
        rest = [self._made(child, False, depth + 1) for child in children[1:]]
        if tag in ("mover", "munder") and element[-1].text == _LINE:
            name = "agent-overline" if tag == "mover" else "agent-underline"
            lined = _Made(f"<mrow{self._class(name)}>{first.html}</mrow>", tag="mrow")
            return _Made(self._around("line(", lined, ")"), tag="mrow")
        if tag == "mfrac":
            is_choice = element.get("linethickness") == "0"
            below = self._around(" over " if is_choice else "/", self._closed(rest[0]))
            html = self._closed(first).html + below
            return _Made(f"<mfrac{self._attributes(element, tag)}>{html}</mfrac>", False, tag)
        if tag == "mroot":
            index = self._around("^(1/", rest[0], ")")
            return _Made(f"<mroot>{self._closed(first).html}{index}</mroot>", tag=tag)
        if tag in ("mover", "munder") and rest[0].text in _ACCENTED:
            return self._accent(tag, first, rest[0])
        if display and first.text in _LIMITS:
            tag = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}.get(tag, tag)
        first, rest = self._apart(first), [self._apart(part) for part in rest]
        signs = {"msub": "_", "munder": "_", "msup": "^", "mover": "^"}.get(tag, "_^")
        scripts = "".join(
            self._around("" if _is_prime(part) else sign, self._closed(part))
            for sign, part in zip(signs, rest, strict=True)
        )
        html = f"<{tag}>{self._closed(first).html}{scripts}</{tag}>"
        return _Made(html, tag=tag, is_name=first.is_name)

    def _apart(self, part: _Made) -> _Made:
        """Something with scripts, that has or is one itself, is more than a word."""
        is_word = part.is_word and part.tag not in _SCRIPTS
        return _Made(part.html, is_word, part.tag, part.text, part.is_name)

    def _accent(self, tag: str, base: _Made, accent: _Made) -> _Made:
        name = "accent" if tag == "mover" else "accentunder"
        both = self._around("", base) + self._around("", accent)
        # signs inside would be higher than a letter and lift the accent
        made = _Made(f'<{tag} {name}="true">{both}</{tag}>', tag=tag)
        return _Made(self._around("(", made, ")"), tag="mrow")

    def _table(self, element: Element, depth: int) -> _Made:
        rows = []
        is_equation = element.get("displaystyle") == "true"
        lines = element.get("columnlines", "").split()
        for number, row in enumerate(element):
            if row.tag != "mtr":
                raise _NotAllowed
            is_ruled = self._take_rules(row)
            cells = "".join(
                self._cell(cell, place, lines, is_equation, is_ruled, depth)
                for place, cell in enumerate(row)
            )
            sign = self._sign("; ") if number else ""
            rows.append(f"<mtr>{_put(cells, sign) if sign else cells}</mtr>")
        display = ' displaystyle="true"' if is_equation else ""
        return _Made(f"<mtable{display}>{''.join(rows)}</mtable>", False, "mtable")

    def _take_rules(self, row: Element) -> bool:
        """Whether a line is above the row; one below the last row is above an empty one."""
        if not len(row):
            return False
        rules = [part for part in row[0] if self._text_of(part) == RULE]
        for rule in rules:
            row[0].remove(rule)
        return bool(rules)

    def _text_of(self, element: Element) -> str:
        place = _PLACE.fullmatch(element.text or "") if element.tag == "mtext" else None
        return self._texts[int(place[1])] if place else ""

    def _cell(
        self,
        cell: Element,
        place: int,
        lines: Sequence[str],
        is_equation: bool,
        is_ruled: bool,
        depth: int,
    ) -> str:
        if cell.tag != "mtd":
            raise _NotAllowed
        self._left -= 1
        parts = self._row(
            [e for e in cell if e.text or len(e) or e.tag == "mspace"], is_equation, depth + 1
        )
        side = cell.get("columnalign", "center")
        if side not in ("left", "center", "right"):
            raise _NotAllowed
        if is_equation:
            name = f"agent-equation-{'right' if side == 'right' else 'left'}"
        else:
            lined = place and place <= len(lines) and lines[place - 1] == "solid"
            name = f"agent-{side}{'-lined' if lined else ''}{'-ruled' if is_ruled else ''}"
        sign = self._sign(", ") if place and not is_equation else ""
        return f"<mtd{self._class(name)}>{sign}{''.join(p.html for p in parts)}</mtd>"

    # -- leaves

    def _leaf(self, element: Element, negated: bool) -> _Made:
        if len(element):
            raise _NotAllowed
        tag = "mtext" if element.tag == "ms" else element.tag
        text = unescape(element.text or "")
        if tag == "mtext" and (place := _PLACE.fullmatch(text)):
            text = self._texts[int(place[1])]
        text = _SIZED.get(text, text)
        if ("\\" in text and text != "\\") or RULE in text:
            raise _NotAllowed
        if not text:
            return _Made("<mrow></mrow>", tag="mrow")
        text = _ACCENTS.get(text, text) if tag == "mo" else text
        attributes = ""
        if tag in ("mi", "mo", "mn"):
            tag = _better_tag(tag, text)
        variant = element.get("mathvariant", "")
        if variant in _STYLES:
            text = "".join(_styled(char, variant) for char in text)
        elif variant == "normal" and tag == "mi" and len(text) == 1:
            attributes = ' mathvariant="normal"'
        if tag == "mo":
            attributes = self._attributes(element, tag)
            if text in _FENCES and "stretchy" not in element.attrib and element.tag == "mi":
                attributes += ' stretchy="false"'
        if negated:
            text = unicodedata.normalize("NFC", text + "\u0338")
        # Each delimiter of TeX in an element of its own: a typesetter would find pairs of them.
        pieces = [_with_edges(piece) for piece in _BREAKS.split(text) if piece]
        # In the saved form also where the tags of formulas are dropped: those of HTML stay.
        shown = page_text if self._standalone else code_text
        html = "".join(f"<{tag}{attributes}>{shown(piece)}</{tag}>" for piece in pieces)
        is_word = tag in ("mi", "mn") or len(text) == 1
        html = html if len(pieces) == 1 else f"<mrow>{html}</mrow>"
        return _Made(html, is_word, tag, text, tag == "mi" and len(text) > 1)

    def _space(self, width: str) -> _Made:
        """Room; none of it moves anything back."""
        width = _SPACES.get(width, width)
        if not _SIZE.fullmatch(width):
            return _Made("")
        sign = self._sign("\u00a0") if float(width[:-2]) >= 0.16 else ""
        return _Made(f'<mspace width="{width}"></mspace>{sign}', tag="mspace")

    # -- pieces

    def _attributes(self, element: Element, tag: str) -> str:
        found = []
        for name in ELEMENTS[tag]:
            value = element.get(name, "")
            if value in _VALUES.get(name, ()) or (
                name in ("minsize", "maxsize") and _SIZE.fullmatch(value)
            ):
                found.append(f' {name}="{value}"')
        return "".join(found)

    def _class(self, name: str) -> str:
        if name not in CLASSES:
            return ""
        return f' style="{CLASSES[name]}"' if self._standalone else f' class="{name}"'

    def _sign(self, text: str) -> str:
        """Text that is there for readers without MathML alone."""
        if not text or not self._standalone:
            return ""
        return (
            '<mpadded width="0" height="0" depth="0"><mphantom>'
            f"<mtext>{text}</mtext></mphantom></mpadded>"
        )

    def _around(self, before: str, part: _Made, after: str = "") -> str:
        """A part as one element, with signs around it."""
        html = self._sign(before) + part.html + self._sign(after)
        is_one = html == part.html and part.tag not in ("", "mspace")
        return html if is_one else f"<mrow>{html}</mrow>"

    def _closed(self, part: _Made) -> _Made:
        """A part in brackets where it is more than a word, as one element."""
        bracket = ("", "") if part.is_word else ("(", ")")
        html = self._around(bracket[0], part, bracket[1])
        return _Made(html, part.is_word, "mrow", part.text, part.is_name)


def _with_edges(text: str) -> str:
    """Blanks at the ends of a text in a formula count only when they may not be broken."""
    lead, end = text != text.lstrip(" "), text != text.rstrip(" ")
    return "\u00a0" * lead + " ".join(text.split()) + "\u00a0" * end if lead or end else text


def _put(cells: str, sign: str) -> str:
    """`cells` with `sign` at the beginning of the first."""
    end = cells.find(">") + 1
    return cells[:end] + sign + cells[end:] if end else cells


def _is_solidus(element: Element) -> bool:
    return len(element) == 1 and unescape(element[0].text or "") == _SOLIDUS


def _is_binomial(elements: Sequence[Element]) -> bool:
    """Whether it is a fraction without a line in brackets, which the converter leaves loose."""
    opening, fraction, closing = elements
    return opening.tag == closing.tag == "mo" and fraction.get("linethickness") == "0"


def _is_prime(part: _Made) -> bool:
    return bool(part.text) and not part.text.strip("′″‴⁗")  # noqa: RUF001


def _better_tag(tag: str, text: str) -> str:
    """Names of functions and letters are no operators, brackets and signs no letters."""
    if tag == "mo" and (
        (len(text) > 1 and text[0].isalpha() and text != "mod") or text in _ORDINARY
    ):
        return "mi"
    if tag == "mi" and (text in _FENCES or (len(text) == 1 and unicodedata.category(text) == "Sm")):
        return "mi" if text in _ORDINARY or text in "∂∇" else "mo"
    return tag


def _styled(char: str, variant: str) -> str:
    """The letter in this style, where Unicode has one: browsers know `mathvariant` no more."""
    name = unicodedata.name(char, "")
    for old, new in (("LATIN ", ""), ("GREEK ", ""), (" LETTER", "")):
        name = name.replace(old, new)
    style = _STYLES[variant]
    for candidate in _candidates(name, style):
        try:
            return unicodedata.lookup(candidate)
        except KeyError:
            continue
    return char


def _candidates(name: str, style: str) -> Iterator[str]:
    yield f"MATHEMATICAL {style} {name}"
    if style == "DOUBLE-STRUCK":
        yield f"DOUBLE-STRUCK {name}"
    elif style == "FRAKTUR":
        yield f"BLACK-LETTER {name}"
    elif style == "SCRIPT":
        yield f"SCRIPT {name}"
    elif style == "ITALIC" and name == "SMALL H":
        yield "PLANCK CONSTANT"
