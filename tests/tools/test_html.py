"""HTML as it is in the world: what nobody closed ends where browsers end it."""

from __future__ import annotations

import pytest

from agent_magics.engine.tools._html_program import convert

PAGES = [
    ("<ul><li>one<li>two<li>three</ul>", "- one\n- two\n- three", "one\ntwo\nthree"),
    ("<UL><LI>one\n<LI>two</UL>", "- one\n- two", "one\ntwo"),
    (
        "<ol><li>one<ul><li>a<li>b</ul><li>two</ol>end",
        "1. one\n   - a\n   - b\n2. two\n\nend",
        "one\n\na\nb\n\ntwo\nend",
    ),
    ("<ul><b><li>one</b><li>two</ul>", "- one\n- two", "one\ntwo"),
    ("<div><ul><li>a<p>b<li>c</div>d", "- a\n\n  b\n- c\n\nd", "a\nb\n\nc\nd"),
    ("<p>one<p>two<div>three</div>", "one\n\ntwo\n\nthree", "one\n\ntwo\n\nthree"),
    ("<p>one<ul><li>a</ul>two", "one\n\n- a\n\ntwo", "one\n\na\ntwo"),
    ("<p>a</b></i></div>b</p>c", "ab\n\nc", "ab\nc"),
    (
        "<dl><dt>term<dd>meaning<dt>other<dd>thing</dl>",
        "term\n:   meaning\n\nother\n:   thing",
        "term\nmeaning\nother\nthing",
    ),
    (
        "<table><tr><th>a<th>b<tr><td>1<td>2<tr><td>3<td>4</table>after",
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n\nafter",
        "a b\n1 2\n3 4\nafter",
    ),
    (
        "<table><thead><tr><th>a<th>b<tbody><tr><td>1<td>2<tfoot><tr><td>s<td>t</table>",
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| s | t |",
        "a b\n1 2\ns t",
    ),
    (
        "<table><tr><th>a<th>b<form><tr><td>1</form><td>2</div></table>",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "a b\n\n1 2",
    ),
    (
        "<ul><li>x<table><tr><th>a</li><th>b<tr><td>1<td>2</table><li>y</ul>",
        "- x\n\n  | a | b |\n  | --- | --- |\n  | 1 | 2 |\n- y",
        "x\n\na b\n1 2\n\ny",
    ),
    (
        "See <a href=/x>x <a href=y>y</a> <b>end</b>",
        "See [x](https://a.example/x) [y](https://a.example/y) **end**",
        "See x y end",
    ),
    ("<h1>One<h2>Two</h2><p>text", "# One\n\n## Two\n\ntext", "One\n\nTwo\n\ntext"),
    ("<select><option>a<option>b</select>", "- a\n- b", "a\nb"),
    ("a <b>bold</b>\n word<br>next<!-- x -->", "a **bold**\nword\nnext", "a bold word\nnext"),
    ("<pre>a\n  b</pre>", "```\na\n  b\n```", "a\nb"),
    ("</li></ul></td><p></p>", "", ""),
]


@pytest.mark.parametrize(("html", "markdown", "text"), PAGES)
def test_pages_as_they_are(html: str, markdown: str, text: str) -> None:
    assert convert(html.encode(), "markdown", "https://a.example/") == markdown
    assert convert(html.encode(), "text", "https://a.example/") == text


@pytest.mark.parametrize(
    "piece", ["<div>x", "<ul><li>x", "<p><button><b>", "<table><tr><td>", "<a>"]
)
def test_pages_without_end(piece: str) -> None:
    """Work that grows with the square of this would take minutes."""
    for format in ("markdown", "text"):
        convert(piece.encode() * 4_000, format, "https://a.example/")
