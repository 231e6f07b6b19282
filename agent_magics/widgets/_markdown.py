"""
Markdown of an untrusted author to safe HTML, whole or block by block while it streams.

Raw HTML is shown as text, images are not fetched (their description is shown as a link), links
lead to http, https and mail addresses alone. Link reference definitions stay as they are written:
one at the very end would change blocks that were shown long before. The browser's side rebuilds
the result from an allow-list once more.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._highlight import highlight_html, highlight_runs
from ._links import link_address, link_host
from ._math import MATH_BLOCK, add_math
from ._page import attribute_text, code_text, markup_text, page_text
from ._visible import readable, visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["MarkdownStream", "fences", "render_markdown"]

_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,32}")
_PRE = (
    "background:rgba(127,127,127,.12);border-radius:4px;margin:4px 0;padding:6px 8px;"
    "overflow-x:auto;color:inherit"
)
_SETTLED = 2048
"""Characters up to which an open block is worth a new rendering each time."""
_LARGE = 16_000
# A blank line, then a line that goes on with neither a list nor a quotation.
_AFTER_BLANK = re.compile(r"\n[ \t]*\n(?![ \t>|\n]|[-*+]|\d+[.)])[^\n]+\n")
_ENDS_AT_BLANK = ("paragraph_open", "table_open", "blockquote_open", "code_block")
_ENDS_BY_ITSELF = ("heading_open", "hr", "fence", MATH_BLOCK)
_CELL = "border:1px solid rgba(127,127,127,.35);padding:3px 10px;text-align:"
_WIDE_CELL = 28
"""Characters up to which a table's cell is not broken into lines."""


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    options = {"html": False, "linkify": False, "typographer": False, "maxNesting": 20}
    parser = MarkdownIt("js-default", options).disable(["image", "reference"])
    parser.validateLink = lambda url: link_address(url) is not None  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("link_close", _link_close)
    parser.add_render_rule("fence", _code_block)
    parser.add_render_rule("code_block", _code_block)
    parser.add_render_rule("code_inline", _code_inline)
    parser.add_render_rule("text", _text)
    for name in ("table_open", "table_close", "th_open", "td_open"):
        parser.add_render_rule(name, _table)
    add_math(parser)
    return parser


def _link_open(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """The live view's script adds the same by itself, so they need not travel."""
    token = tokens[index]
    if env["colours"] == "spans":
        token.attrSet("target", "_blank")
        token.attrSet("rel", "noopener noreferrer nofollow")
        token.attrSet("title", str(token.attrGet("href") or ""))
    return str(renderer.renderToken(tokens, index, options, env))


def _link_close(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Where the text looks like another address than the link's, that one follows it."""
    start = next(i for i in range(index - 1, -1, -1) if tokens[i].type == "link_open")
    text = "".join(token.content for token in tokens[start + 1 : index])
    host = link_host(str(tokens[start].attrGet("href") or ""), text)
    return f"</a> [{markup_text(host)}]" if host else "</a>"


def _text(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    text = readable(tokens[index].content)
    return page_text(text) if env["colours"] == "spans" else markup_text(text)


def _table(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Tables that scroll instead of breaking ids and numbers; the live view has its own style."""
    token = tokens[index]
    if env["colours"] != "spans":
        return str(renderer.renderToken(tokens, index, options, env))
    if token.tag == "table":
        wrapped = ('<div style="overflow-x:auto"><table>\n', "</table></div>\n")
        return wrapped[token.type == "table_close"]
    text = tokens[index + 1].content
    wrap = "nowrap" if len(text) <= _WIDE_CELL else "normal;min-width:12em"
    align = str(token.attrGet("style") or "text-align:left").removeprefix("text-align:")
    return f'<{token.tag} style="{_CELL}{align};white-space:{wrap}">'


def _code_inline(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    return f"<code>{code_text(visible(tokens[index].content))}</code>"


def _code_block(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """
    A block of code, in colours once it is complete.

    For the live view these follow as `<data>`: short, and the HTML before stays as it was.
    """
    token = tokens[index]
    code = visible(token.content)
    words = token.info.split()
    language = words[0] if words and _LANGUAGE.fullmatch(words[0]) else ""
    name = f' class="language-{attribute_text(language)}"' if language else ""
    body, runs = code_text(code), ""
    if language and env["colours"] == "spans":
        body = highlight_html(code, language) or body
    elif language and env["colours"] == "runs":
        runs = highlight_runs(code, language)
    tail = f'<data value="{runs}"></data>' if runs else ""
    if env["colours"] == "spans":  # for pages with any style sheet or none
        return f'<pre style="{_PRE}"><code{name} style="background:none">{body}</code></pre>\n'
    return f"<pre><code{name}>{body}</code>{tail}</pre>\n"


def render_markdown(text: str, *, colours: str = "spans") -> str:
    """
    Safe HTML of a whole text.

    `colours` of code: "spans" (styled by themselves), "runs" (for our front end) or "none".
    """
    return _render(_parse(_lines(_clean(text))), colours)


def fences(text: str) -> list[tuple[int, int]]:
    """The fenced blocks of code in `text`: first line, and the one after the last."""
    found = (token.map for token in _parse(text) if token.type == "fence")
    return [(lines[0], lines[1]) for lines in found if lines]


def _parse(text: str) -> list[Token]:
    return _parser().parse(text, {})


def _render(tokens: Sequence[Token], colours: str) -> str:
    parser = _parser()
    return str(parser.renderer.render(tokens, parser.options, {"colours": colours}))


def _clean(text: str) -> str:
    """Lone surrogates can't be encoded; the parser itself replaces NUL."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class MarkdownStream:
    """
    Renders a text that grows at its end.

    A block is finished when nothing that may follow can change it; it is rendered once. Finished
    and open blocks together are what rendering the whole text gives, however it is cut up.

    Looking for finished blocks costs a parse of the open text, so it is done when that has grown
    by a share of its length, or looks as if a long block had ended: the work stays linear,
    whatever the text is like.
    """

    def __init__(self) -> None:
        self._open = ""
        self._parsed = 0
        self._tokens: list[Token] = []
        self._carry = ""
        self._closing = _AFTER_BLANK
        self._looked_at = 0

    def feed(self, delta: str) -> str:
        """Append text; returns it as it was understood (a line end may wait for its other half)."""
        text = _clean(self._carry + delta)
        self._carry = ""
        if text.endswith("\r"):
            text, self._carry = text[:-1], "\r"
        text = _lines(text)
        self._open += text
        return text

    @property
    def due(self) -> bool:
        """Whether enough has come to make a parse worth its cost."""
        size = len(self._open)
        grown = size - self._parsed
        if grown <= 0:
            return False
        enough = size // 3 if size <= _LARGE else size // 2
        return size <= _SETTLED or grown >= enough or self._may_have_ended()

    def _may_have_ended(self) -> bool:
        """Whether new lines look like the end of a long block. Wrong guesses are rationed."""
        if len(self._open) < 1.3 * self._looked_at:
            return False
        begin = self._open.rfind("\n", 0, max(self._parsed - 1, 0))
        if self._closing.search(self._open, max(begin, 0)) is None:
            return False
        self._looked_at = len(self._open)
        return True

    def finished(self) -> list[str]:
        """HTML of the blocks that are finished now and have not been returned before."""
        tokens = _parse(self._open)
        first, line = self._first_open(tokens)
        done = []
        if first:
            begin = 0
            for end in [i for i in _starts(tokens) if i <= first][1:]:
                done.append(_render(tokens[begin:end], "runs"))
                begin = end
            self._open = self._open.split("\n", line)[line]
            self._looked_at = 0
        self._tokens, self._parsed = tokens[first:], len(self._open)
        self._closing = _closing(self._tokens)
        return done

    def open_html(self, *, final: bool = False) -> str:
        """HTML of what is still growing. `final`: it won't any more, so code gets its colours."""
        if self._parsed != len(self._open):
            self._tokens, self._parsed = _parse(self._open), len(self._open)
        return _render(self._tokens, "runs" if final else "none")

    @property
    def open_text(self) -> str:
        """The text of what is still growing."""
        return self._open

    def _first_open(self, tokens: Sequence[Token]) -> tuple[int, int]:
        """The first block that more text may change: its index in `tokens`, its first line."""
        lines = self._open.split("\n")
        whole = len(lines) - 1
        starts = _starts(tokens)
        for before, index in reversed(list(itertools.pairwise(starts))):
            place = tokens[index].map
            if place and _is_final(tokens[before].type, lines, place[0], whole):
                return index, place[0]
        return 0, 0


def _is_final(kind: str, lines: Sequence[str], start: int, whole: int) -> bool:
    """
    Whether a block of this kind stays as it is, given that the next one begins at line `start`.

    The last line may still grow: `2` begins a paragraph, `2.` goes on with a list. Without a
    blank line between them two lines must be complete, as the second can undo the first: a
    table's head without its rule is text of the paragraph before.
    """
    if kind in _ENDS_BY_ITSELF:
        return True
    if not lines[start - 1].strip(" \t"):
        return kind in _ENDS_AT_BLANK or start < whole
    return start + 2 <= whole


def _starts(tokens: Sequence[Token]) -> list[int]:
    return [i for i, t in enumerate(tokens) if t.level == 0 and t.nesting >= 0]


def _closing(tokens: Sequence[Token]) -> re.Pattern[str]:
    """What the end of the open block would look like."""
    if tokens and tokens[-1].type == "fence":
        return re.compile(rf"\n {{0,3}}{re.escape(tokens[-1].markup)}")
    return _AFTER_BLANK
