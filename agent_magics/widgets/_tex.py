r"""
The TeX that formulas may be made of: an allow-list of commands and environments, and limits.

Nothing that defines, moves, enlarges, colours, hides or addresses anything is in it. A formula is
taken apart here and written anew for the converter: what was not understood never gets there.
"""

from __future__ import annotations

import re
import unicodedata

from ._visible import visible

__all__ = ["RULE", "rewritten"]

_LONGEST = 4_000
_TOKENS = 1_500
_DEEPEST = 20
_ROWS = 100
_CELLS = 1_000
_STYLES = 20
RULE = "\x00"
"""Stands among a formula's texts for a line above the row that it begins."""
_MARKS = 2
"""Combining marks on one letter."""

_GREEK = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma
tau upsilon phi chi psi omega varepsilon vartheta varpi varrho varsigma varphi varkappa Gamma
Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega digamma
"""
_LETTERS = """
hbar hslash ell imath jmath Re Im wp aleph beth gimel daleth partial nabla infty emptyset
varnothing forall exists nexists top bot angle measuredangle triangle square Box Diamond lozenge
clubsuit diamondsuit heartsuit spadesuit flat natural sharp prime backprime checkmark degree
complement eth mho dagger ddagger blacksquare bigstar intercal S
"""
_OPERATORS = """
pm mp times div cdot ast star circ bullet cap cup uplus sqcap sqcup vee wedge lor land setminus
smallsetminus wr oplus ominus otimes oslash odot amalg triangleleft triangleright bigtriangleup
bigtriangledown bigcirc ltimes rtimes boxplus boxminus boxtimes boxdot veebar barwedge sum prod
coprod int iint iiint oint bigcap bigcup bigsqcup bigvee bigwedge bigodot bigotimes bigoplus
biguplus neg lnot surd bmod pmod mod
"""
_RELATIONS = """
leq le geq ge neq ne lt gt ll gg lll ggg equiv sim simeq cong approx approxeq asymp doteq propto
varpropto models perp parallel nparallel mid nmid vdash dashv Vdash vDash smile frown bowtie in
notin ni subset supset subseteq supseteq subsetneq supsetneq nsubseteq nsupseteq sqsubset
sqsupset sqsubseteq sqsupseteq prec succ preceq succeq lesssim gtrsim lessgtr leqslant geqslant
trianglelefteq trianglerighteq therefore because colon coloneqq triangleq eqsim nless ngtr nleq ngeq
"""
_ARROWS = """
to gets leftarrow rightarrow leftrightarrow Leftarrow Rightarrow Leftrightarrow uparrow
downarrow updownarrow Uparrow Downarrow Updownarrow mapsto longmapsto longleftarrow
longrightarrow longleftrightarrow Longleftarrow Longrightarrow Longleftrightarrow hookleftarrow
hookrightarrow leftharpoonup leftharpoondown rightharpoonup rightharpoondown rightleftharpoons
leftrightharpoons nearrow searrow swarrow nwarrow iff implies impliedby leadsto rightsquigarrow
twoheadrightarrow nrightarrow nleftarrow upharpoonright rightrightarrows leftleftarrows
circlearrowleft
"""
_DOTS = "dots ldots cdots vdots ddots dotsb dotsc dotsi dotsm dotso"
_FUNCTIONS = """
sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth exp log ln lg lim max min sup
inf limsup liminf det dim ker hom deg arg gcd Pr argmax argmin
"""
_SPACES = "quad qquad enspace thinspace space"
_WITH_ARGUMENTS = """
frac dfrac tfrac cfrac binom dbinom tbinom sqrt overline underline overbrace underbrace
overrightarrow overleftarrow overleftrightarrow overset underset stackrel substack xrightarrow
xleftarrow hat widehat bar vec dot ddot tilde widetilde check breve acute grave mathring boxed
not limits nolimits mathbb mathbf mathcal mathfrak mathit mathrm mathsf mathtt mathscr boldsymbol
bm bra ket braket
"""
_STYLE = frozenset(("displaystyle", "textstyle", "scriptstyle"))
_COMMANDS = frozenset(
    " ".join(
        (
            *(_GREEK, _LETTERS, _OPERATORS, _RELATIONS, _ARROWS, _DOTS, _FUNCTIONS, _SPACES),
            *(_WITH_ARGUMENTS, *_STYLE),
        )
    ).split()
)
_DROPPED = frozenset(("nonumber", "notag"))
_SIZED = frozenset(f"{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in " lmr")
_SIZED = frozenset(name.strip() for name in _SIZED) | {"left", "right", "middle"}
"""Commands before a delimiter."""
_FENCES = """
langle rangle lfloor rfloor lceil rceil lbrace rbrace lbrack rbrack vert Vert lvert rvert lVert
rVert
"""
_DELIMITERS = frozenset(_FENCES.split())
_AFTER_SIZED = frozenset("()[]|/.<>") | frozenset((r"\{", r"\}", r"\|"))
_SIGNS = frozenset(f"\\{char}" for char in "{}|,:;!>%$&#_ ")
_TEXTS = frozenset(("textbf", "textit", "textsf", "texttt"))
"""Commands for text that have a letter form of their own; all others are `\\text`."""
_ENVIRONMENTS = {
    "matrix": "matrix",
    "pmatrix": "pmatrix",
    "bmatrix": "bmatrix",
    "Bmatrix": "Bmatrix",
    "vmatrix": "vmatrix",
    "Vmatrix": "Vmatrix",
    "smallmatrix": "smallmatrix",
    "array": "array",
    "cases": "cases",
    "dcases": "cases",
    "aligned": "align*",
    "align": "align*",
    "align*": "align*",
    "alignat": "align*",
    "alignat*": "align*",
    "split": "align*",
    "eqnarray": "align*",
    "eqnarray*": "align*",
    "gathered": "matrix",
    "gather": "matrix",
    "gather*": "matrix",
    "multline": "matrix",
    "multline*": "matrix",
    "equation": "",
    "equation*": "",
}
"""What each is for the converter; nothing: a group."""

_TOKEN = re.compile(
    r"""\\(?P<ends>begin|end)\s*\{(?P<environment>[A-Za-z]+\*?)\}
    |\\(?P<texts>text(?:rm|bf|it|sf|tt|normal|up)?|mbox|hbox|tag\*?)\s*
        \{(?P<text>(?:[^{}\\$]|\\[%&\#_{}\$\ ])*)\}
    |\\label\s*\{(?P<label>[A-Za-z0-9:_. -]{0,80})\}
    |\\text(?:rm)?\s*\{(?P<mixed>(?:[^{}\\$]|\\[%&\#_{}\ ]|\$[^$]+\$)*)\}
    |\\mathop\s*\{\s*\\(?:mathrm|text|textrm|operatorname\*?)\s*
        \{(?P<limited>(?:[A-Za-z -]|\\[,;:! ])*)\}\s*\}
    |\\(?:hspace\*?\s*\{|m(?:kern|skip))\s*(?P<room>-?[0-9]{1,3}(?:\.[0-9]{1,3})?)\s*
        (?P<unit>pt|em|ex|mm|cm|mu)\s*(?P<shut>\}?)
    |\{\s*\\(?P<old>rm|bf|it|cal|sf|tt)(?![A-Za-z])
    |\\operatorname(?P<star>\*?)\s*\{(?P<operator>(?:[A-Za-z -]|\\[,;:! ])*)\}
    |\\\\\*?(?:\s*\[\s*-?[0-9.]+\s*(?:pt|em|ex|mm|cm|mu|in)\s*\])?(?P<row>)
    |\\(?P<command>[A-Za-z]+)
    |(?P<sign>\\.)
    |(?P<number>[0-9]+(?:\.[0-9]+)?)
    |(?P<blank>\s+)
    |(?P<char>.)""",
    re.VERBOSE | re.DOTALL,
)
_COLUMNS = re.compile(r"\s*\{\s*([lcr|\s]{1,60})\}")
_UNIT = re.compile(r"\s*(?:in|mm|cm|pt|em|ex|pc|bp|dd|cc|sp|mu)")
_ONE_LETTER = re.compile(r"\s*\{\s*([A-Za-z])\s*\}")
_PLACE = "k{}"
_NUMBER = re.compile(r"\s*\{\s*[0-9]{1,2}\s*\}")
_EMS = {"pt": 0.1, "em": 1.0, "ex": 0.43, "mm": 0.28, "cm": 2.8, "mu": 1 / 18}
_WIDEST = 3.0
_ROOMS = ((1.5, r"\qquad "), (0.6, r"\quad "), (0.22, r"\; "), (0.05, r"\, "))
"""From how many ems on which of the spaces is taken."""


class _Refused(Exception):
    """Something is not on the list, or more than the limits allow."""


def rewritten(source: str) -> tuple[str, list[str]] | None:
    r"""
    A formula's TeX (without its delimiters) for the converter, or None where it is not allowed.

    Texts are left out: `\text{k0}` stands for the first of the returned list, and so on.
    """
    if len(source) > _LONGEST or not source.strip() or visible(source) != source:
        return None
    if _has_many_marks(source):
        return None
    try:
        return _Writer(source).written()
    except _Refused:
        return None


def _has_many_marks(text: str) -> bool:
    marks = 0
    for char in "" if text.isascii() else text:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        if marks > _MARKS:
            return True
    return False


class _Writer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._pieces: list[str] = []
        self._texts: list[str] = []
        self._open: list[str] = []
        """Braces, environments and \\left that are open."""
        self._tokens = self._rows = self._cells = self._styles = 0
        self._wants_delimiter = False
        self._has_loose_rows = False
        self._is_substack = False

    def written(self) -> tuple[str, list[str]]:
        self._tokens_of(self._source)
        if self._open or self._wants_delimiter:
            raise _Refused
        tex = "".join(self._pieces)
        return (
            rf"\begin{{matrix}}{tex}\end{{matrix}}" if self._has_loose_rows else tex
        ), self._texts

    def _tokens_of(self, source: str) -> None:
        before, self._source = self._source, source
        place = 0
        while place < len(self._source):
            match = _TOKEN.match(self._source, place)
            if match is None:
                raise _Refused
            place = match.end()
            if match["blank"] is None:
                self._count()
                place = self._token(match, place)
            else:
                self._pieces.append(" ")
        self._source = before

    def _count(self) -> None:
        self._tokens += 1
        if self._tokens > _TOKENS or len(self._open) > _DEEPEST:
            raise _Refused

    def _token(self, match: re.Match[str], place: int) -> int:
        """Write one token; where to go on."""
        if self._wants_delimiter:
            self._delimiter(match)
        elif match["ends"]:
            return self._environment(match["ends"], match["environment"], place)
        elif match["texts"]:
            self._text(match["texts"], match["text"])
        elif match["label"] is not None:
            if not any(name in _ENVIRONMENTS for name in self._open):
                raise _Refused  # nothing that could have a number
        elif match["mixed"] is not None:
            self._mixed(match["mixed"])
        elif match["limited"] is not None:
            self._operator("*", match["limited"])
        elif match["room"]:
            self._room(match)
        elif match["old"]:
            self._open.append("{")
            name = "mathit" if match["old"] == "it" else f"math{match['old']}"
            self._pieces.append(rf"\{name}{{ ")  # the blank: as for `\mathrm`
        elif match["operator"] is not None:
            self._operator(match["star"], match["operator"])
        elif match["row"] is not None:
            self._new_row()
        elif match["command"]:
            return self._command(match["command"], place)
        elif match["sign"]:
            if match["sign"] not in _SIGNS:
                raise _Refused
            self._pieces.append(match["sign"] + " ")
        elif match["number"]:
            unit = _UNIT.match(self._source, place)  # the converter would take it for a length
            self._pieces.append(match["number"] + ("{}" if unit else ""))
        else:
            self._char(match["char"])
        return place

    def _command(self, name: str, place: int) -> int:
        if name in _SIZED:
            self._sized(name)
        elif name == "mathrm" and (letter := _ONE_LETTER.match(self._source, place)):
            self._pieces.append(rf"\mathrm{{ {letter[1]}}}")  # else it would be in italics
            return letter.end()
        elif name == "arg":
            self._operator("", name)  # the converter does not know it
        elif name in _COMMANDS or name in _DELIMITERS:
            self._styles += name in _STYLE
            if self._styles > _STYLES:
                raise _Refused
            self._is_substack = name == "substack"
            self._pieces.append(rf"\{name} ")
        elif name == "hline" and self._begins_row():
            self._put_text(RULE)
        elif name not in _DROPPED:
            raise _Refused
        return place

    def _begins_row(self) -> bool:
        """Whether an array's row begins here, or a line above it."""
        last = next((piece for piece in reversed(self._pieces) if piece.strip()), "")
        is_first = last == r"\\ " or re.fullmatch(r"\{[lcr|]+\}", last) is not None
        is_second = last.startswith(r"\text{") and self._texts[-1] == RULE
        return self._open[-1:] == ["array"] and (is_first or is_second)

    def _operator(self, star: str, name: str) -> None:
        # The converter drops blanks, but not narrow ones.
        name = "\u2009".join(re.sub(r"\\.|-", " ", name).split())
        if not name:
            raise _Refused
        self._pieces.append(rf"\operatorname{star}{{{name}}}")

    def _room(self, match: re.Match[str]) -> None:
        """The nearest of the known spaces; none goes back."""
        room = float(match["room"]) * _EMS[match["unit"]]
        is_braced = match[0].startswith(r"\hspace")
        if abs(room) > _WIDEST or bool(match["shut"]) != is_braced:
            raise _Refused
        self._pieces.append(next((made for least, made in _ROOMS if room >= least), " "))

    def _sized(self, name: str) -> None:
        if name == "left":
            self._open.append("left")
        elif name == "right":
            self._close("left")
        elif name == "middle" and self._open[-1:] != ["left"]:
            raise _Refused
        self._wants_delimiter = True
        self._pieces.append(rf"\{name}")

    def _delimiter(self, match: re.Match[str]) -> None:
        name = match["command"]
        if name in _DELIMITERS or name in ("uparrow", "downarrow"):
            self._pieces.append(rf"\{name} ")
        elif match[0] in _AFTER_SIZED:
            # The converter knows these two by their names alone.
            self._pieces.append({"<": r"\langle ", ">": r"\rangle "}.get(match[0], match[0]))
        else:
            raise _Refused
        self._wants_delimiter = False

    def _environment(self, which: str, name: str, place: int) -> int:
        made = _ENVIRONMENTS.get(name)
        if made is None:
            raise _Refused
        if which == "end":
            self._close(name)
            self._pieces.append(rf"\end{{{made}}}}}" if made else "}")
            return place
        self._open.append(name)
        self._rows += 1
        # In braces: the converter would take a matrix with a script apart.
        self._pieces.append(rf"{{\begin{{{made}}}" if made else "{")
        if name == "array":
            columns = _COLUMNS.match(self._source, place)
            if columns is None:
                raise _Refused
            self._pieces.append("{" + "".join(columns[1].split()).strip("|") + "}")
            return columns.end()
        if name.startswith("alignat"):
            pairs = _NUMBER.match(self._source, place)
            if pairs is None:
                raise _Refused
            return pairs.end()
        return place

    def _text(self, name: str, text: str) -> None:
        text = " ".join(re.sub(r"\\(.)", r"\1", text).replace("~", " ").split("\n"))
        if name.startswith("tag"):
            text, name = f"({text})", "text"
            self._pieces.append(r"\qquad ")
        self._put_text(text, name if name in _TEXTS else "text")

    def _mixed(self, text: str) -> None:
        """A text with formulas in it."""
        for number, piece in enumerate(text.split("$")):
            if number % 2:
                self._pieces.append("{")
                self._open.append("{")
                self._tokens_of(piece)
                self._close("{")
                self._pieces.append("}")
            elif piece:
                self._text("text", piece)

    def _put_text(self, text: str, command: str = "text") -> None:
        self._pieces.append(rf"\{command}{{{_PLACE.format(len(self._texts))}}}")
        self._texts.append(text)

    def _new_row(self) -> None:
        self._rows += 1
        if self._rows > _ROWS:
            raise _Refused
        if not self._open:
            self._has_loose_rows = True
        elif self._open[-1] in ("{", "left") or not _ENVIRONMENTS.get(self._open[-1], "matrix"):
            raise _Refused
        self._pieces.append(r"\\ ")

    def _char(self, char: str) -> None:
        if char == "{":
            self._open.append("substack" if self._is_substack else "{")
        elif char == "}":
            self._close("substack" if self._open[-1:] == ["substack"] else "{")
        elif char == "&":
            self._cells += 1
            if self._cells > _CELLS or not _ENVIRONMENTS.get(self._open[-1] if self._open else ""):
                raise _Refused
        elif char in "$#%\\`":
            raise _Refused
        self._is_substack = False
        self._pieces.append(char)

    def _close(self, what: str) -> None:
        if not self._open or self._open.pop() != what:
            raise _Refused
