r"""Formulas are recognised, prices and shell variables stay text."""

from __future__ import annotations

import pytest

from agent_magics.widgets import render_markdown


def formulas(text: str) -> int:
    return render_markdown(text, colours="runs").count("<math")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a $x_1 * y_2 * z$ b", 1),
        (r"a \(x_1\) b \[y\] c", 2),
        ("so $$ a $$ it is", 1),
        ("$$\na\n- b\n= c\n$$\n", 1),
        ("text\n\\[\nx\n\\]\nmore", 1),
        ("- item\n\n  $$\n  x\n  $$\n", 1),
        (r"$a \$ b$", 1),
        ("| a |\n|---|\n| $x$ |\n", 1),
        ("text:\n\\begin{align}\na&=b\\\\\nc&=d\n\\end{align}\nmore", 1),
        ("- item\n\n  \\begin{equation*}\n  a=b\n  \\end{equation*}\n", 1),
        ("the $n$th of two $k$s, $x$-axis, 中文$x$中文、$y$는", 5),
        ("\\begin{itemize}\n\\item x\n\\end{itemize}\n\\begin{align}\nnever ends\n", 0),
        ("a$b$c, $HOME$PATH, $a = 5$USD", 0),
        ("it costs $5 and then $10, or US$6 and A$7", 0),
        ("`$x$` and $HOME/$USER in ${HOME}", 0),
        ("```\n$$\nx\n$$\n```", 0),
        ("$$\nnever ends\n\nnext", 0),
        ("$ x$ and $x $ and $$", 0),
        (r"\$x\$", 0),
    ],
)
def test_what_is_a_formula(text: str, found: int) -> None:
    assert formulas(text) == found


def test_an_environment_that_is_not_allowed_stays_as_it_was_written() -> None:
    text = "\\begin{align}\na&=\\href{x}{b}\n\\end{align}"
    shown = text.replace("&", "&amp;")
    assert render_markdown(text) == (
        f'<div style="margin:8px 0;overflow-x:auto;overflow-y:hidden"><code>{shown}</code></div>\n'
    )


def test_the_saved_form_is_mathml_and_keeps_pages_from_finding_more() -> None:
    html = render_markdown("mean $m_1$ for $5\nor $6\n\n$$\nx < y\n$$\n")
    assert "mean <math><msub><mi>m</mi>" in html
    assert "for <span>$</span>5\nor <span>$</span>6" in html
    assert '<math display="block"><mi>x</mi><mo>&lt;</mo><mi>y</mi></math></div>' in html


def test_nothing_hides_in_a_formula() -> None:
    html = render_markdown("$a\u202eb</var><script>$")
    assert "⟦U+202E⟧" in html
    assert "<script" not in html


def test_so_many_formulas_of_one_text_are_drawn() -> None:
    html = render_markdown("".join(f"$x^{n % 50}$ " for n in range(6_000)), colours="runs")
    assert 2_000 < html.count("<math") < 3_000
    assert html.count("<code>$x^") == 6_000 - html.count("<math")


@pytest.mark.parametrize("unit", ["$a ", "$$a ", r"\(a ", "$$\n", r"\[ ", "\\begin{align}\n"])
def test_openings_without_ends_cost_no_square(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    assert len(render_markdown(text)) > 30_000
