"""Rendering while the text grows gives what rendering at the end gives, at a linear price."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_magics.widgets import MarkdownStream, render_markdown

SAMPLES = [
    "A *paragraph*, `code`.\n\n- one\n- two\n\n  more of two\n\n1. first\n2. second\n\n> end\n",
    "# Title\n\n```python\nprint('x')\n\n\nprint('y')\n```\n\nso\n\n|a|b|\n|-|-:|\n|1|2|\n",
    "Setext\n===\n\ntext\nmore\n---\n\n***\n\n~~gone~~ **bold**\n\n    indented\n\n    code\n\nend",
    "a\r\nb\r\n\r\n- c\r\n\r\n```\r\nd\r\n```\r\n",
    "\u2028 line\u2028separator \x0b\x0c tab\t\n\nnext\n\n* * *\n\n- [ ] x\n",
]


def streamed(text: str, cuts: list[int]) -> str:
    stream, html, begin = MarkdownStream(), "", 0
    for end in [*sorted({c for c in cuts if c < len(text)}), len(text)]:
        stream.feed(text[begin:end])
        begin = end
        if stream.due:
            html += "".join(stream.finished())
    stream.feed("\n")
    return html + "".join(stream.finished()) + stream.open_html()


@given(st.sampled_from(SAMPLES), st.lists(st.integers(0, 200), max_size=30))
def test_any_chunking_gives_the_whole_rendering(text: str, cuts: list[int]) -> None:
    assert streamed(text, cuts) == render_markdown(text + "\n")


@given(st.text(alphabet="ab *_`#>-\n|[]()\r", max_size=120), st.lists(st.integers(0, 120)))
def test_any_text_streams_without_losing_words(text: str, cuts: list[int]) -> None:
    words = "".join(c if c in "ab" else " " for c in text).split()
    html = streamed(text, cuts)
    assert all(word in html for word in words)


def test_a_block_is_returned_once() -> None:
    stream = MarkdownStream()
    stream.feed("one\n\ntwo")
    assert stream.finished() == ["<p>one</p>\n"]
    stream.feed(" and more")
    assert stream.finished() == []
    assert stream.open_html() == "<p>two and more</p>\n"


def test_a_giant_block_is_parsed_a_bounded_number_of_times() -> None:
    stream, parses = MarkdownStream(), 0
    for _ in range(25_000):
        stream.feed("word ")
        if stream.due and len(stream.open_text) > 2048:
            stream.finished()
            parses += 1
    assert parses < 40


def test_broken_text_renders() -> None:
    assert "\ufffd" in render_markdown("a\0b")
    assert "?" in render_markdown("lone \ud800 surrogate")
    assert "<p>" in render_markdown("[" * 5000)
    assert render_markdown("> " * 500 + "deep").count("<blockquote>") <= 21
