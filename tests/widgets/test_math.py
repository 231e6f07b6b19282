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


def test_the_saved_form_is_mathml_and_keeps_pages_from_finding_more() -> None:
    html = render_markdown("mean $m_1$ for $5\nor $6\n\n$$\nx < y\n$$\n")
    assert "mean <math><msub><mi>m</mi>" in html
    assert "for <span>$</span>5\nor <span>$</span>6" in html
    assert '<math display="block"><mi>x</mi><mo>&lt;</mo><mi>y</mi></math></div>' in html


def test_nothing_hides_in_a_formula() -> None:
    html = render_markdown("$a\u202eb</var><script>$")
    assert "⟦U+202E⟧" in html
    assert "<script" not in html


@pytest.mark.parametrize("unit", ["$a ", "$$a ", r"\(a ", "$$\n", r"\[ "])
def test_openings_without_ends_cost_no_square(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    assert len(render_markdown(text)) > 30_000
