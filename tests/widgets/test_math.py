r"""Formulas stay TeX, prices and shell variables stay text."""

from __future__ import annotations

import re

import pytest

from agent_magics.widgets import render_markdown


def formulas(text: str) -> list[str]:
    return re.findall(r"<var>(.*?)</var>", render_markdown(text, colours="runs"), re.DOTALL)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a $x_1 * y_2 * z$ b", ["$x_1 * y_2 * z$"]),
        (r"a \(x_1\) b \[y\] c", ["$x_1$", "$$y$$"]),
        ("so $$ a $$ it is", ["$$ a $$"]),
        ("$$\na\n- b\n= c\n$$\n", ["$$a\n- b\n= c$$"]),
        ("text\n\\[\nx\n\\]\nmore", ["$$x$$"]),
        ("- item\n\n  $$\n  x\n  $$\n", ["$$x$$"]),
        (r"$a \$ b$", [r"$a \$ b$"]),
        ("| a |\n|---|\n| $x$ |\n", ["$x$"]),
        ("it costs $5 and then $10, or US$6 and A$7", []),
        ("`$x$` and $HOME/$USER in ${HOME}", []),
        ("```\n$$\nx\n$$\n```", []),
        ("$$\nnever ends\n\nnext", []),
        ("$ x$ and $x $ and $$", []),
        (r"\$x\$", []),
    ],
)
def test_what_is_a_formula(text: str, found: list[str]) -> None:
    assert formulas(text) == found


def test_the_saved_form_shows_tex_and_keeps_pages_from_finding_more() -> None:
    html = render_markdown("mean $m_1$ for $5\nor $6\n\n$$\nx < y\n$$\n")
    assert "<span>$m_1$</span>" in html
    assert "for <span>$</span>5\nor <span>$</span>6" in html
    assert ">$$x &lt; y$$</div>" in html


def test_nothing_hides_in_a_formula() -> None:
    html = render_markdown("$a\u202eb</var><script>$")
    assert "⟦U+202E⟧" in html
    assert "<script" not in html


@pytest.mark.parametrize("unit", ["$a ", "$$a ", r"\(a ", "$$\n", r"\[ "])
def test_openings_without_ends_cost_no_square(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    assert len(render_markdown(text)) > 30_000
