"""
Text that goes into a page's HTML. Every writer of HTML in this package uses these functions.

A page may typeset what looks like TeX or AsciiMath (MathJax, KaTeX), and a typesetter can fetch
addresses, draw anywhere and define macros for the whole page. They search text node by text node,
and a formula does not go across an element. So each delimiter stands in an element of its own.
"""

from __future__ import annotations

import re
from html import escape

__all__ = ["attribute_text", "code_text", "markup_text", "page", "page_text"]

_DELIMITERS = re.compile(r"[$\\`]")
# Behind a blank line Markdown would be read again: `jupyter nbconvert --to markdown`, for one, puts
# outputs into it as they are.
_BLANK_LINE = re.compile(r"(?<=\n)([^\S\n]*)\n")
_IGNORED = "mathjax_ignore tex2jax_ignore asciimath2jax_ignore"
"""Classes whose content MathJax 4, 3 and 2 pass over."""


def page_text(text: str) -> str:
    """Text between elements, in which no typesetter finds the ends of a formula."""
    html = escape(text, quote=False)
    return _DELIMITERS.sub(lambda match: f"<span>{match[0]}</span>", html)


def code_text(text: str) -> str:
    """Text inside `<code>` or `<pre>`: typesetters pass over these elements."""
    return escape(text, quote=False)


def attribute_text(text: str) -> str:
    """Text of an attribute in double quotes, or of `<title>`."""
    return escape(text, quote=True)


def markup_text(text: str) -> str:
    """Text of HTML that our own script takes apart, which hands it to no typesetter."""
    return escape(text, quote=False)


def page(html: str, style: str = "") -> str:
    """
    HTML of ours as an output by itself: typesetters ignore it, it paints in its own box only, and
    no Markdown around it ends it.

    `style` is added to that of the box.
    """
    html = _BLANK_LINE.sub(r"\1&#10;", html)
    box = "overflow:hidden;contain:paint;isolation:isolate"
    return f'<div class="{_IGNORED}" style="{style}{";" if style else ""}{box}">{html}</div>'
