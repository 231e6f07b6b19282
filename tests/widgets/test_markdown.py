"""Rendering while the text grows gives what rendering at the end gives, at a linear price."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it.token import Token

from agent_magics.widgets import MarkdownStream, _markdown, render_markdown

SAMPLES = [
    "A *paragraph*, `code`.\n\n- one\n- two\n\n  more of two\n\n1. first\n2. second\n\n> end\n",
    "# Title\n\n```python\nprint('x')\n\n\nprint('y')\n```\n\nso\n\n|a|b|\n|-|-:|\n|1|2|\n",
    "Setext\n===\n\ntext\nmore\n---\n\n***\n\n~~gone~~ **bold**\n\n    indented\n\n    code\n\nend",
    "a\r\nb\r\n\r\n- c\r\n\r\n```\r\nd\r\n```\r\n",
    "\u2028 line\u2028separator \x0b\x0c tab\t\n\nnext\n\n* * *\n\n- [ ] x\n",
    "see [r]\n\npara\n#no head\n\n1. a\n\n2. b\n2) c\n\n[r]: http://x.example\n",
]
PIECES = [
    *("plain words\n", "more **bold** `code`\n", "\n", "\n\n", " ", "\t tab\n", "🐧 é", "\\"),
    *("# head\n", "#", "---\n", "===\n", "***", "- item\n", "  - nested\n", "    indented\n"),
    *("1. one\n", "2", "2. two\n", "2) two\n", "> quote\n", ">", "-", "+ x\n", "&amp; &lt;"),
    *("```python\n", "```\n", "~~~~\n", "`", "x = 1  # c\n", "<b>raw</b>\n", "[", "](http://a.b)"),
    *("| a | b |\n", "|---|:-:|\n", "| 1 | 2 |", "[ref]: http://x.example\n", "[ref]\n"),
    *("a\r\nb\r\n", "c\r", "\u2028", "\x00\x1b[31m\u202e", "\ud800"),
    *("$x_1$ $", "$$\n", "$$", "a+b $$ c\n", "\\[\n", "\\]", "\\(z\\) ", "- $$\n  y\n"),
]


def streamed(text: str, cuts: list[int]) -> str:
    stream, html, begin = MarkdownStream(), "", 0
    for end in [*sorted({c for c in cuts if c < len(text)}), len(text)]:
        stream.feed(text[begin:end])
        begin = end
        if stream.due:
            html += "".join(stream.finished())
    return html + "".join(stream.finished()) + stream.open_html(final=True)


def whole(text: str) -> str:
    return render_markdown(text, colours="runs")


@given(st.sampled_from(SAMPLES), st.lists(st.integers(0, 200), max_size=30))
def test_any_chunking_gives_the_whole_rendering(text: str, cuts: list[int]) -> None:
    assert streamed(text + "\n", cuts) == whole(text + "\n")


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.integers(0, 300), max_size=40),
)
def test_any_blocks_in_any_order(text: str, cuts: list[int]) -> None:
    assert streamed(text + "\n", cuts) == whole(text + "\n")


@given(st.text(alphabet="ab *_`#>-\n|[]()\r12.$\\", max_size=120), st.lists(st.integers(0, 120)))
def test_any_text(text: str, cuts: list[int]) -> None:
    assert streamed(text + "\n", cuts) == whole(text + "\n")


@pytest.mark.parametrize("text", SAMPLES)
def test_character_by_character(text: str) -> None:
    assert streamed(text + "\n", list(range(len(text)))) == whole(text + "\n")


def test_a_block_is_returned_once() -> None:
    stream = MarkdownStream()
    stream.feed("one\n\ntwo")
    assert stream.finished() == ["<p>one</p>\n"]
    stream.feed(" and more")
    assert stream.finished() == []
    assert stream.open_html() == "<p>two and more</p>\n"


def test_a_line_that_may_still_grow_ends_nothing() -> None:
    stream = MarkdownStream()
    stream.feed("paragraph\n#")
    assert stream.finished() == []
    stream.feed("no head\n")
    assert stream.finished() == []
    assert stream.open_html() == "<p>paragraph\n#no head</p>\n"
    stream = MarkdownStream()
    stream.feed("1. one\n\n2")
    assert stream.finished() == []


def test_a_giant_block_is_parsed_a_bounded_number_of_times() -> None:
    stream, parses = MarkdownStream(), 0
    for _ in range(25_000):
        stream.feed("word ")
        if stream.due and len(stream.open_text) > 2048:
            stream.finished()
            parses += 1
    assert parses < 40


@pytest.mark.parametrize(
    "unit",
    [
        *("word and **bold** text. ", "- item with some words\n", "- item\n\n", "> quoted words\n"),
        *("```python\n", "| cell | cell |\n", "[", "![", "[a](", "*a **b ", "`", "<", "> ", "1. "),
        *("&#x41;", "\\", "#", "[a]\n", "1) a\n\n", "\n\nx\n\n", "```\n\n"),
    ],
)
def test_no_text_is_parsed_too_often(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, parse = 0, _markdown._parse

    def counted(text: str) -> list[Token]:
        nonlocal parsed
        parsed += len(text)
        return parse(text)

    monkeypatch.setattr(_markdown, "_parse", counted)
    text = "| a | b |\n|---|---|\n" * unit.startswith("|") + unit * (40_000 // len(unit))
    stream = MarkdownStream()
    for at in range(0, len(text), 350):
        stream.feed(text[at : at + 350])
        if stream.due:
            stream.finished()
            stream.open_html()
    assert 0 < parsed < 12 * len(text)  # a block at a time: no more than its share of growth


@pytest.mark.parametrize(
    ("long", "end"),
    [("```text\n" + "line of code\n" * 8_000, "```\n\n"), ("word " * 12_000, "\n\n")],
)
def test_what_follows_a_long_block_is_rendered_soon(long: str, end: str) -> None:
    stream = MarkdownStream()
    stream.feed(long)
    stream.finished()
    stream.feed(f"{end}The *end*.\n\nOne more line\n")
    assert stream.due
    html = "".join(stream.finished()) + stream.open_html()
    assert "<em>end</em>" in html
    assert len(stream.open_text) < 100


def test_closed_code_is_coloured() -> None:
    text = "```python\nif a < '<b>':\n    pass  # 🐧\n```\n\nnext\n"
    html = render_markdown(text)
    assert re.search(r'<span style="color:var\([^"]*\)">if ?</span>', html)
    assert "<b>" not in html
    stream = MarkdownStream()
    stream.feed(text)
    (code,) = stream.finished()
    runs = re.search(r'</code><data value="([^"]*)"></data></pre>', code)
    assert runs is not None
    lengths = [int(n) for n in re.findall(r"\d+", runs[1])]
    assert sum(lengths) == len("if a < '<b>':\n    pass  # 🐧\n") + 1  # as JavaScript counts
    assert render_markdown("```python onload=x\nx\n```\n").startswith("<pre style=")
    assert "class" not in render_markdown('```x"y\nx\n```\n')
    assert "span" not in render_markdown("```python\n" + "x = 1\n" * 5_000 + "```\n")


def test_code_hides_nothing() -> None:
    html = render_markdown("`a\u202eb`\n\n```\nif x: # \u2066\x1b[8m\n```\n")
    assert "⟦U+202E⟧" in html
    assert "⟦U+2066⟧␛[8m" in html


def test_broken_text_renders() -> None:
    assert "\ufffd" in render_markdown("a\0b")
    assert "?" in render_markdown("lone \ud800 surrogate")
    assert "<p>" in render_markdown("[" * 5000)
    assert render_markdown("> " * 500 + "deep").count("<blockquote>") <= 21
