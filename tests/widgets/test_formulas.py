# ruff: noqa: RUF001
r"""Formulas are made on our side: common ones read right, hostile ones stay inert source."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.widgets import _tex, render_markdown
from agent_magics.widgets._formulas import CLASSES, ELEMENTS, formula_html
from agent_magics.widgets._script import STATIC


def made(tex: str, *, block: bool = True, standalone: bool = False) -> str:
    html = formula_html(tex, block=block, standalone=standalone)
    assert html is not None, tex
    assert_allowed(html)
    return html


def in_a_line(tex: str, *, block: bool = True) -> str:
    """What is left of the saved form where the tags are dropped."""
    html = made(tex, block=block, standalone=True)
    return unescape(re.sub(r"<[^>]*>", "", html)).replace("\u00a0", " ")


def assert_allowed(html: str) -> None:
    """Elements, attributes and styles are of the lists, and no text has two delimiters."""
    for element in ElementTree.fromstring(html).iter():
        if element.tag == "span":  # around a delimiter, where the tags of formulas are dropped
            assert not element.attrib and element.text and element.text in "$\\`"
            continue
        assert element.tag in ELEMENTS
        for name, value in element.attrib.items():
            assert value in CLASSES.values() if name == "style" else name in ELEMENTS[element.tag]
        assert len(re.findall(r"[$\\`]", element.text or "")) == 0 or len(element.text or "") == 1
        if element.tag == "mpadded":  # takes no room: nothing in it can be seen
            assert element.attrib == dict.fromkeys(("depth", "height", "width"), "0")


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\frac{a+b}{c}", "(a+b)/c"),
        (r"\frac12", "1/2"),
        (r"\dfrac{1}{1+\frac{1}{x}}", "1/(1+1/x)"),
        (r"\frac{-b\pm\sqrt{b^2-4ac}}{2a}", "(−b±√(b^2−4ac))/(2a)"),
        (r"\sqrt{x}", "√(x)"),
        (r"\sqrt[3]{x+1}", "(x+1)^(1/3)"),
        (r"x^2", "x^2"),
        (r"x_i^{n+1}", "x_i^(n+1)"),
        (r"x_{i,j} y", "x_(i,j) y"),
        (r"\sum_{i=1}^n i", "∑_(i=1)^n i"),
        (r"\prod_{k} a_k", "∏_k a_k"),
        (r"\int_0^\infty e^{-x^2}\,dx", "∫_0^∞ e^(−x^2) dx"),
        (r"\iint f", "∬f"),
        (r"\oint_C F", "∮_C F"),
        (r"\lim_{x\to 0} f(x)", "lim_(x→0) f(x)"),
        (r"\max_x f", "max_x f"),
        (r"\bigcup_{i} A_i", "⋃_i A_i"),
        (r"\alpha\beta\Gamma\Omega", "αβΓΩ"),
        (r"\varepsilon, \varphi", "ε,φ"),
        (r"\hat{x}+\bar{y}+\vec{v}", "(xˆ)+(y¯)+(v→)"),
        (r"\dot x \ddot y \tilde z", "(x˙)(y¨)(z˜)"),
        (r"\widehat{xy}", "(xyˆ)"),
        (r"\overline{AB}", "line(AB)"),
        (r"\underbrace{a+b}_{n}", "(a+b⏟)_n"),
        (r"\overbrace{a}^{n}", "(a⏞)^n"),
        (r"\mathbb{R}^n", "ℝ^n"),
        (r"\mathcal{L}", "ℒ"),
        (r"\mathcal{AB}", "𝒜ℬ"),
        (r"\mathbf{x}", "𝐱"),
        (r"\mathbf{Ax}", "𝐀𝐱"),
        (r"\mathfrak{gH}", "𝔤ℌ"),
        (r"\mathbb{CN}", "ℂℕ"),
        (r"\boldsymbol{\beta}", "𝜷"),
        (r"\mathrm{d}x", "dx"),
        (r"5\,\mathrm{kg}", "5 kg"),
        (r"\text{if } x>0", "if x>0"),
        (r"\text{a_b \% c}", "a_b % c"),
        (r"\operatorname{softmax}(x)", "softmax(x)"),
        (r"\operatorname*{arg\,max}_x f", "arg\u2009max_x f"),
        (r"\sin x + \cos(x)", "sin x+cos(x)"),
        (r"\log_2 n", "log_2 n"),
        (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", "[1, 2; 3, 4]"),
        (r"\begin{pmatrix}a\\b\end{pmatrix}^T", "((a; b))^T"),
        (r"\begin{vmatrix}a&b\\c&d\end{vmatrix}", "|a, b; c, d|"),
        (r"\left[\begin{array}{c|c}1&2\end{array}\right]", "[1, 2]"),
        (r"\begin{cases}x&y>0\\-x&\text{else}\end{cases}", "{x, y>0; −x, else"),
        (r"\begin{aligned}a&=b\\&=c\end{aligned}", "a=b; =c"),
        (r"\begin{align*}a&=b\end{align*}", "a=b"),
        (r"\begin{align}a&=b\\c&=d\end{align}", "a=b; c=d"),
        (r"\begin{equation}E=mc^2\end{equation}", "E=mc^2"),
        (r"\begin{gather}a\\b\end{gather}", "a; b"),
        (r"a \\ b", "a; b"),
        (r"\binom{n}{k}^2", "((n over k))^2"),
        (r"\left(\frac{a}{b}\right)^2", "((a/b))^2"),
        (r"\left.x\right|_0", "(x|)_0"),
        (r"\big( x \Bigr]", "(x]"),
        (r"\|x\| \leq |y|", "‖x‖≤|y|"),
        (r"\{a \mid b\} \langle x\rangle", "{a∣b}⟨x⟩"),
        (r"\lfloor x\rfloor", "⌊x⌋"),
        (r"A\cup B\subseteq C\setminus\emptyset", "A∪B⊆C⧵∅"),
        (r"x\in\mathbb{R}\notin y", "x∈ℝ∉y"),
        (r"\not= \not\in", "≠∉"),
        (r"\forall x\,\exists y", "∀x ∃y"),
        (r"a\Rightarrow b\iff c\mapsto d", "a⇒b⟺c↦d"),
        (r"A\xrightarrow{f}B", "A→^f B"),
        (r"a\overset{!}{=}b", "a=^! b"),
        (r"\nabla\cdot\partial_t", "∇·∂_t"),
        (r"f'(x)+g''", "f′(x)+g″"),
        (r"1,\ldots,n \cdots", "1,…,n⋯"),
        (r"a\equiv b\pmod n", "a≡b (mod n)"),
        (r"50\%", "50%"),
        (r"\boxed{42}", "[42]"),
        (r"E=mc^2\tag{1}", "E=mc^2 (1)"),
        (r"\displaystyle\sum_i x", "∑_i x"),
        (r"2cm + 3ex", "2cm+3ex"),
        (r"a\quad b", "a b"),
        (r"\text{\$5 and \$6}", "$5 and $6"),
        (r"\bigl\{ x \Bigm\| \bigl\langle y \bigg\rVert", "{x‖⟨y‖"),
        (r"n\log n + x\cosh y + 2\log_2 n", "n log n+x cosh y+2 log_2 n"),
        (r"(a)\sin x \sin(x)", "(a) sin x sin(x)"),
        (r"a \bmod n", "a mod n"),
        (r"\frac{1}{2}x + \frac12(y) + \frac1n\sum_i z", "(1/2)x+(1/2)(y)+(1/n)∑_i z"),
        (r"\frac{1}{2}\,x = \frac12", "(1/2) x=1/2"),
        (r"a_{n_k}^2 e^{z_i} {x_i}^2", "a_(n_k)^2 e^(z_i) (x_i)^2"),
        (r"\begin{array}{|c|c|}\hline a&b\\\hline c&d\\\hline\end{array}", "a, b; c, d; "),
        (r"\mathop{\mathrm{argmin}}_{x} f", "argmin_x f"),
        (r"\mathop{\text{min}}\limits_{x} f", "min_x f"),
        (r"\begin{cases}x & \text{if $x>0$ and $y$}\\0\end{cases}", "{x, if x>0 and y; 0"),
        (r"\begin{equation}\label{eq:1}a=b\end{equation}", "a=b"),
        (r"\begin{alignat}{2}a&=b\\c&=d\end{alignat}", "a=b; c=d"),
        (r"{\rm d}x + {\bf v}", "dx+𝐯"),
        (r"a\hspace{1cm}b\mkern2mu c\hspace{-1em}d", "a b cd"),
        (r"x\coloneqq A^\intercal \overleftrightarrow{AB}", "x≔A^⊺ (AB↔)"),
        ("α + β", "α+β"),
    ],
)
def test_common_formulas_read_right(tex: str, text: str) -> None:
    assert in_a_line(tex) == text
    made(tex, block=False)


def test_every_sign_on_the_list_is_known_to_the_converter() -> None:
    lists = (_tex._GREEK, _tex._LETTERS, _tex._OPERATORS, _tex._RELATIONS, _tex._ARROWS, _tex._DOTS)
    for name in " ".join((*lists, _tex._FUNCTIONS)).split():
        made(rf"a \{name} b")
        made(rf"\{name}_x b")
    assert in_a_line(r"\arg\min_{x} f(x)") == "arg min_x f(x)"


def test_every_delimiter_has_every_size() -> None:
    names = [
        "langle",
        "rangle",
        "lfloor",
        "rceil",
        "lbrace",
        "rbrace",
        "lbrack",
        "vert",
        "Vert",
        "lvert",
        "rVert",
        "uparrow",
    ]
    for delimiter in [*(f"\\{name}" for name in names), r"\{", r"\}", r"\|", *"()[]|/<>."]:
        for size in ("big", "Bigl", "biggr", "Biggm"):
            assert "\\" not in made(rf"\{size}{delimiter} x")
        assert "\\" not in made(rf"\left{delimiter} x \middle{delimiter} y\right{delimiter}")


def test_lines_of_a_table() -> None:
    html = made(r"\begin{array}{|l|c|}\hline a&b\\ c&d\\ \hline\hline e&f\end{array}")
    assert re.findall(r'class="agent-([^"]*)"', html) == [
        *("left-ruled", "center-lined-ruled", "left", "center-lined"),
        *("left-ruled", "center-lined-ruled"),
    ]


def test_delimiters_stay_apart_where_the_tags_of_formulas_are_dropped() -> None:
    html = made(r"\$x\$ \text{\$y\$}", standalone=True)
    left = re.sub(r"</?m[^>]*>", "", html)
    assert left.count("<span>$</span>") == 4 and "$x" not in left and "y$" not in left


def test_what_a_formula_looks_like() -> None:
    assert made(r"\frac{a}{b}", block=False) == "<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>"
    limits = made(r"\sum_{i}^n x")
    assert limits.startswith('<math display="block"><munderover><mo>∑</mo>')
    assert "<msubsup>" in made(r"\sum_{i}^n x", block=False)
    assert "<munder><mi>lim</mi>" in made(r"\lim_{x} y")
    assert '<mi mathvariant="normal">d</mi>' in made(r"\mathrm{d}")
    assert made(r"\infty+\langle", block=False) == (
        '<math><mi>∞</mi><mo>+</mo><mo stretchy="false">⟨</mo></math>'
    )
    accent = '<mover accent="true"><mi>m</mi><mo stretchy="true">¯</mo></mover>'
    assert made(r"\bar m", block=False) == f"<math>{accent}</math>"
    assert accent in made(r"\bar m", standalone=True)
    rows = made(r"\begin{aligned}a&=b\end{aligned}")
    assert 'class="agent-equation-right"' in rows
    assert 'style="text-align:right;padding:.3em 0 .3em 1em"' in made(
        r"\begin{aligned}a&=b\end{aligned}", standalone=True
    )


@pytest.mark.parametrize(
    "tex",
    [
        r"\style{cursor:url(http://evil.test/leak),auto}{1}",
        r"\unicode[x; background:url(http://evil.test)]{x41}",
        r"\unicode{x41}",
        r"\mmlToken{mglyph}[src='http://evil.test']{x}",
        r"\href{javascript:alert(1)}{x}",
        r"\url{http://evil.test}",
        r"\smash{\rlap{\raise{-60em}{\rule{90em}{120em}}}}",
        r"\rlap{x}", r"\llap{x}", r"\clap{x}", r"\mathrlap{x}", r"\mathllap{x}", r"\smash{x}",
        r"\raise{9em}{x}", r"\lower{9em}{x}", r"\moveleft{9em}{x}", r"\moveright{9em}{x}",
        r"\rule{9em}{9em}", r"\bbox[white]{x}", r"\colorbox{red}{x}", r"\fcolorbox{red}{red}{x}",
        r"\color{red}x", r"\textcolor{red}{x}", r"\class{jp-Dialog}{x}", r"\cssId{main}{x}",
        r"\data{a=b}{x}", r"\require{html}", r"\begingroup x \endgroup", r"\def\frac#1#2{#2}",
        r"\def\x{y}\x", r"\let\frac\sqrt", r"\gdef\x{y}", r"\newcommand{\x}{y}\x",
        r"\renewcommand{\frac}[2]{x}", r"\DeclareMathOperator{\x}{y}", r"\newenvironment{a}{b}{c}",
        r"\hspace{90em}", r"\hspace{-9em}x", r"\kern-9em x", r"\mkern-90mu x", r"\hskip 9em",
        r"\mskip90mu", r"\vspace{9em}", r"\phantom{x}", r"\hphantom{x}", r"\vphantom{x}",
        r"\Huge x", r"\tiny x", r"\large x", r"\label{a}", r"\ref{a}", r"\eqref{a}", r"\verb|x|",
        r"\sideset{_1}{_2}\sum", r"\skew{9}{x}y", r"\genfrac(){9em}{0}{a}{b}", r"\above{9em}",
        r"a\abovewithdelims(){9em}b", r"\cancel{x}", r"\enclose{box}{x}", r"\includegraphics{x}",
        r"\input{x}", r"\write18{x}", r"\catcode`\x=1", r"\csname frac\endcsname", r"\LaTeX",
        r"\mathchoice{a}{b}{c}{d}", r"\vcenter{x}", r"\shoveleft{x}", r"\ce{H2O}", r"\frak x",
        r"\begin{html}x\end{html}", r"\begin{alignat}x\end{alignat}",
        r"\begin{array}{p{9em}}x\end{array}",
        r"\begin{matrix}x", r"x\end{matrix}", r"\begin{matrix}x\end{pmatrix}", "{x", "x}",
        r"\left(x", r"x\right)", r"\left x\right)", r"\big\frac12", r"a&b", r"x#1", "x%y", "x$y",
        "x`y", r"\(x\)", r"\text{a $\style{x}{y}$ b}", r"\text{\href{x}{y}}", r"\text{a",
        "\\text{a\u202eb}", "a\u200bb", "x\x00y", "x" + "\u0301" * 3, r"\frac", "^", r"\frac{a}",
        r"\not\!\!D", r"\not", r"\hline", r"\begin{matrix}\hline a\end{matrix}", r"\rm x",
        r"\hspace 1em", r"\mkern1mu}", r"\begin{array}{c}a\hline\end{array}",
        "x_a_b", r"\limits", r"\unknown x", r"\constructor", "\\", "\\\n", "", "  ",
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_shown_as_code(tex: str) -> None:
    for block in (False, True):
        for standalone in (False, True):
            assert formula_html(tex, block=block, standalone=standalone) is None


def test_the_source_of_what_is_not_allowed_stays_to_be_read() -> None:
    tex = r"\style{color:red}{1}"
    for colours in ("spans", "runs", "none"):
        assert f"a <code>${tex}$</code> b" in render_markdown(f"a ${tex}$ b", colours=colours)
        assert f"<code>$${tex}$$</code>" in render_markdown(f"$$\n{tex}\n$$", colours=colours) or (
            f"<code>$$\n{tex}\n$$</code>" in render_markdown(f"$$\n{tex}\n$$", colours=colours)
        )
    assert "<code>$x&lt;\\href{a}{b}$</code>" in render_markdown(r"$x<\href{a}{b}$")


@pytest.mark.parametrize(
    "tex",
    [
        "x" * 4_001,
        "x+" * 800,
        "{" * 21 + "x" + "}" * 21,
        r"\begin{matrix}" + r"a\\" * 101 + r"\end{matrix}",
        r"\begin{matrix}" + "&" * 1_001 + r"\end{matrix}",
        r"\left(" * 30 + "x" + r"\right)" * 30,
        r"\displaystyle" * 21 + " x",
        r"\sqrt" * 500 + "x",
        r"\hat" * 500 + "x",
        r"\overline" * 100 + "x",
        "x" + "^{y" * 21 + "}" * 21,
    ],
)
def test_formulas_have_limits(tex: str) -> None:
    assert formula_html(tex, block=True, standalone=True) is None


def test_room_goes_forward_only_and_not_far() -> None:
    html = made(r"a\!\!b\quad\qquad c")
    assert re.findall(r'width="([^"]*)"', html) == ["1em", "2em"]
    assert "bbox" not in made(r"\Bigg( x \Bigg)")
    assert re.findall(r'maxsize="([^"]*)"', made(r"\Bigg( x")) == ["2.470em"]


_COMMANDS = r"""
\frac \sqrt \left \right \hat \over \sum \text{a} \begin{matrix} \end{matrix} \not { } [ ] ( ) ^ _ &
' a 1 + \\ \{ \big \limits \begin{cases} \end{cases} \href \operatorname{f} \xrightarrow \middle |
\substack \tag{1} # % $ ~ \, 2em \binom é 𝒜
"""
_PIECES = st.sampled_from([*_COMMANDS.split(), "\u0301", "\u202e", " ", "\n", "\ud800"])


@given(st.lists(_PIECES, max_size=25).map("".join), st.booleans())
def test_no_text_is_too_odd(tex: str, block: bool) -> None:
    html = formula_html(tex, block=block, standalone=True)
    if html is not None:
        assert_allowed(html)


def test_the_page_has_the_same_list() -> None:
    source = (STATIC / "safe.js").read_text("utf-8")
    table = source.partition("const FORMULA = {")[2].partition("};")[0]
    found: dict[str, Any] = {
        name: tuple(re.findall(r"'(\w+)'", names))
        for name, names in re.findall(r"(\w+): \[([^\]]*)\]", table)
    }
    assert found == ELEMENTS
    classes = re.compile((source.partition("const CLASS =")[2].partition("/;")[0]).strip(" \n/"))
    assert all(classes.search(name) for name in CLASSES)
    css = (STATIC / "turn.css").read_text("utf-8")
    assert all(f".{name}" in css for name in CLASSES)


def test_the_converter_is_loaded_for_the_first_formula() -> None:
    program = (
        "import sys, agent_magics\n"
        "from agent_magics.widgets import render_markdown\n"
        "render_markdown('costs $5 or $6, `$x$`')\n"
        "assert 'latex2mathml' not in sys.modules\n"
        "assert '<math' in render_markdown('$x$')\n"
        "assert 'latex2mathml' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
