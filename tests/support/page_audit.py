"""
What is wrong with HTML of ours: everything that is not on the lists here, whatever the product's
own lists say, and everything that a page's typesetter would take for a formula.
"""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

__all__ = ["NO_REL", "find_hidden", "find_problems"]

NO_REL = "a link without noopener noreferrer"

_HTML = """
p br hr strong em s code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 table thead tbody tfoot tr th td
a div span b i u small sub sup details summary img caption col colgroup dd del dl dt
"""
_MATH = """
math mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable
mtd mtext mtr munder munderover
"""
_ATTRIBUTES = {
    "a": "href target rel title",
    "img": "src alt title",
    "ol": "start",
    "td": "colspan rowspan",
    "th": "colspan rowspan",
    "math": "display",
    "mfrac": "linethickness",
    "mi": "mathvariant",
    "mo": "fence form largeop maxsize minsize movablelimits stretchy",
    "mover": "accent",
    "mpadded": "depth height width",
    "mspace": "width",
    "mstyle": "displaystyle scriptlevel",
    "mtable": "displaystyle",
    "munder": "accentunder",
    "data": "value",
}
_CLASS = re.compile(
    r"(?:language-[\w+#.-]{1,40}|agent-[a-z-]+|(?:mathjax|tex2jax|asciimath2jax)_ignore| )+"
)
_ADDRESS = re.compile(r"(?:https?://[a-z0-9_.-]+(?::\d+)?(?:[/?#][!-~]*)?|mailto:[!-~]+)", re.I)
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*")
_SHORT_VALUE = re.compile(r"[a-z]{1,10}|\d{1,4}|[0-2](?:\.\d+)?em")
_PROPERTY_NAMES = """
background border border-bottom border-left border-radius border-top color contain display
font-family font-size font-style font-weight isolation line-height margin max-width min-width
opacity overflow overflow-wrap overflow-x overflow-y padding tab-size text-align text-decoration
vertical-align white-space word-break
"""
_PROPERTIES = frozenset(_PROPERTY_NAMES.split())
_VALUE = re.compile(r"[a-z0-9.,#%()\s!-]*")


# What typesetters find.
_TRANSPARENT = frozenset(("br", "wbr"))
"""MathJax's `includeHtmlTags`: formulas go on across these, and across comments."""
_SKIPPED = "script noscript style textarea pre code annotation annotation-xml select option"
_PASSED_OVER = frozenset(_SKIPPED.split())
"""`skipHtmlTags`, as far as MathJax 2, 3, 4 and KaTeX agree; MathJax 2 looks into `<math>`."""
_FORMULA = re.compile(
    r"\$.*\$"
    r"|\\\(|\\\[|\\\$"  # a formula that is not closed is one, for a finder that goes on elsewhere
    r"|\\begin\s*\{|\\(?:eq|page)?ref\s*\{"
    r"|`.*`",  # AsciiMath
    re.DOTALL,
)


class _Audit(HTMLParser):
    """
    Collects what is not on the lists, and what a typesetter finds.

    Texts are joined as in MathJax's `HTMLDomStrings`: an element ends one, but for a few.
    """

    def __init__(self, *, live: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self._live = live  # then the script adds what a link needs
        self.formulas: list[str] = []
        self._text = ""
        self._passed_over = 0
        self._tags = frozenset(f"{_HTML} {_MATH}".split()) | ({"data", "var"} if live else set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TRANSPARENT:
            self._text += "\n"
        else:
            self._end_text()
            self._passed_over += tag in _PASSED_OVER
        if tag not in self._tags:
            self.problems.append(f"<{tag}>")
        allowed = (*_ATTRIBUTES.get(tag, "").split(), "class", "style")
        for name, value in attrs:
            if name not in allowed or not self._may_be(tag, name, value or ""):
                self.problems.append(f"{tag} {name}={(value or '')[:80]!r}")
        names = dict(attrs)
        if (
            tag == "a"
            and "href" in names
            and not self._live
            and "noopener noreferrer" not in (names.get("rel") or "")
        ):
            self.problems.append(NO_REL)

    def handle_endtag(self, tag: str) -> None:
        self._end_text()
        if tag in _PASSED_OVER and self._passed_over:
            self._passed_over -= 1

    def handle_data(self, data: str) -> None:
        if not self._passed_over:
            self._text += data

    def close(self) -> None:
        super().close()
        self._end_text()

    def _end_text(self) -> None:
        if match := _FORMULA.search(self._text):
            self.formulas.append(f"a typesetter finds {match[0][:80]!r}")
        self._text = ""

    def _may_be(self, tag: str, name: str, value: str) -> bool:
        match name:
            case "href":
                return bool(_ADDRESS.fullmatch(value))
            case "src":
                return bool(_PICTURE.fullmatch(value))
            case "style":
                return all(map(_is_plain, value.split(";")))
            case "class":
                return bool(_CLASS.fullmatch(value))
            case "title" | "alt":
                return not find_hidden(value)
            case "rel" | "target":
                return not set(value) - set("abcdefghijklmnopqrstuvwxyz _")
            case "value":
                return bool(re.fullmatch(r"(?:\d+[a-z ])*", value))
            case _:
                return bool(_SHORT_VALUE.fullmatch(value)) or (name, value) == ("start", value[:9])

    def handle_comment(self, data: str) -> None:
        self.problems.append("a comment")

    def handle_decl(self, decl: str) -> None:
        self.problems.append("a declaration")

    def handle_pi(self, data: str) -> None:
        self.problems.append("an instruction")

    def unknown_decl(self, data: str) -> None:
        self.problems.append("a declaration")


def _is_plain(declaration: str) -> bool:
    name, _, value = declaration.partition(":")
    if not declaration.strip():
        return True
    moves = name.strip().startswith("margin") and "-" in value
    fetches = "url" in value or "image" in value
    return name.strip() in _PROPERTIES and bool(_VALUE.fullmatch(value)) and not (moves or fetches)


def find_problems(html: str, *, live: bool = False) -> list[str]:
    """
    Elements, attributes, addresses and styles in `html` that are not ours, and what MathJax 2 to
    4, KaTeX or AsciiMath, however a page configures them, would take for a formula.

    The classes that tell typesetters to ignore an element are not counted on. `live` is for what
    the turn widget's own script takes apart: it knows more elements, makes the links, and hands no
    text to a typesetter.
    """
    audit = _Audit(live=live)
    audit.feed(html)
    audit.close()
    return audit.problems if live else audit.problems + audit.formulas


# -- characters -----------------------------------------------------------------------------------

_INVISIBLE = re.compile(
    # Default_Ignorable_Code_Point, and what has no shape without being one
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_ODD = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f")
_REORDERS = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\u200b\u2060\ufeff\xad\U000e0000-\U000e007f]"
)
_IN_PROSE = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""Words and emoji are made with these."""


def find_hidden(text: str, *, is_command: bool = False) -> list[str]:
    """
    Code points in `text` that hide, reorder or steer.

    In a command also joiners, variation selectors and spaces that look like others. In prose the
    tags that make a flag may stay.
    """
    if not is_command:
        text = _FLAG.sub("", text)
    return [f"U+{ord(c):04X}" for c in dict.fromkeys(text) if _is_hidden(c, is_command)]


def _is_hidden(char: str, is_command: bool) -> bool:
    if char.isascii():
        return (char < " " and char not in "\n\t") or char == "\x7f"
    category = unicodedata.category(char)
    if is_command:
        return bool(_INVISIBLE.match(char)) or category in _ODD or category == "Zs"
    if char in _IN_PROSE:
        return False
    return category in ("Cc", "Cs", "Zl", "Zp") or bool(_REORDERS.match(char))
