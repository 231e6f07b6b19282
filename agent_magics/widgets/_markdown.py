"""
Markdown of an untrusted author to safe HTML, whole or block by block while it streams.

Raw HTML is shown as text, images are not fetched (their description is shown as a link), links
lead to http, https and mail addresses alone. The browser's side rebuilds the result from an
allow-list once more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["MarkdownStream", "render_markdown"]

_LINK = re.compile(r"(?:https?://|mailto:)[^\s\\]", re.IGNORECASE)
_SETTLED = 2048
"""Characters up to which an open block is worth a new rendering each time."""


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    options = {"html": False, "linkify": False, "typographer": False, "maxNesting": 20}
    parser = MarkdownIt("js-default", options).disable("image")
    parser.validateLink = lambda url: _LINK.match(url.strip()) is not None  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link_open)
    return parser


def _link_open(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    token.attrSet("target", "_blank")
    token.attrSet("rel", "noopener noreferrer nofollow")
    token.attrSet("title", token.attrGet("href") or "")
    return str(renderer.renderToken(tokens, index, options, env))


def render_markdown(text: str) -> str:
    """Safe HTML of a whole text."""
    return _render(_clean(text))


def _render(text: str) -> str:
    return str(_parser().render(text))


def _clean(text: str) -> str:
    """Lone surrogates can't be encoded; the parser itself replaces NUL."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


class MarkdownStream:
    """
    Renders a text that grows at its end.

    A block that is followed by another one is finished: it is rendered once. Looking for finished
    blocks costs a parse of the open text, so it is done when that has grown by a share of its
    length: the work stays linear, whatever the text is like.
    """

    def __init__(self) -> None:
        self._open = ""
        self._parsed = 0
        self._carry = ""

    def feed(self, delta: str) -> str:
        """Append text; returns it as it was understood (a line end may wait for its other half)."""
        text = _clean(self._carry + delta)
        self._carry = ""
        if text.endswith("\r"):
            text, self._carry = text[:-1], "\r"
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        self._open += text
        return text

    @property
    def due(self) -> bool:
        """Whether enough has come to make a parse worth its cost."""
        grown = len(self._open) - self._parsed
        return grown > 0 and (len(self._open) <= _SETTLED or grown >= len(self._open) // 3)

    def finished(self) -> list[str]:
        """HTML of the blocks that are finished now and have not been returned before."""
        tokens = _parser().parse(self._open)
        starts = [t.map[0] for t in tokens if t.level == 0 and t.map and t.nesting >= 0]
        done = []
        if len(starts) > 1:
            lines = self._open.split("\n")
            begin = 0
            for end in starts[1:]:
                done.append(_render("\n".join(lines[begin:end])))
                begin = end
            self._open = "\n".join(lines[begin:])
        self._parsed = len(self._open)
        return done

    def open_html(self) -> str:
        """HTML of the block that is still growing."""
        return _render(self._open)

    @property
    def open_text(self) -> str:
        """The text of the block that is still growing."""
        return self._open
