"""
HTML to Markdown or text: a program, which the `webfetch` tool runs in a process of its own.

A page can be made to keep a parser busy for hours or to fill the memory; here both have limits,
and the process can be killed. HTML comes on stdin, UTF-8 goes to stdout.

    python _html_program.py FORMAT URL [CHARSET]
"""

from __future__ import annotations

import re
import resource
import sys
import warnings
from typing import Any
from urllib.parse import urljoin

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PreformattedString, Tag
from markdownify import MarkdownConverter

__all__ = ["convert", "main"]

LARGEST_RESULT = 1_000_000
"""Characters."""
_CPU_SECONDS = 20
_MEMORY = 1 << 30
_INVISIBLE = ("script", "style", "noscript", "template", "svg", "iframe", "object", "embed")

_SECTIONS = frozenset({"thead", "tbody", "tfoot"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_CELLS = frozenset({"td", "th", "caption"})
_SCOPE = _CELLS | {"table", "html", "body", "object", "button"}
"""What is open outside of these is not closed by a tag inside."""
_TABLE = _SECTIONS | _CELLS | {"table", "tr", "colgroup", "html", "body"}
_IN_TABLE = frozenset({"table", "html", "body"})
_BLOCKS = (
    _LISTS
    | _HEADINGS
    | {"address", "article", "aside", "blockquote", "center", "details", "div", "dl", "fieldset"}
    | {"figcaption", "figure", "footer", "form", "header", "hr", "main", "nav", "p", "pre"}
    | {"section", "summary", "table", "li", "dt", "dd"}
)
"""These end a paragraph."""
_ENDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "li": (frozenset({"li"}), _SCOPE | _LISTS),
    "dt": (frozenset({"dt", "dd"}), _SCOPE | {"dl"}),
    "dd": (frozenset({"dt", "dd"}), _SCOPE | {"dl"}),
    "td": (_CELLS, _IN_TABLE | {"tr"}),
    "th": (_CELLS, _IN_TABLE | {"tr"}),
    "tr": (_CELLS | {"tr", "colgroup"}, _IN_TABLE),
    **dict.fromkeys(_SECTIONS, (_CELLS | _SECTIONS | {"tr", "colgroup"}, _IN_TABLE)),
    "a": (frozenset({"a"}), _SCOPE),
    "option": (frozenset({"option"}), _SCOPE | {"select"}),
    "optgroup": (frozenset({"option", "optgroup"}), _SCOPE | {"select"}),
}
"""Start tag -> the elements it ends that nobody closed, and those beyond which it ends none."""
_PARAGRAPH = (frozenset({"p"}), _SCOPE)
_ITEMS = ("li", "dt", "dd")
_FORMATTING = ("b", "strong", "i", "em", "u", "s", "font", "span", "big", "small", "tt")
_RENAMED = {"tfoot": "tbody", "select": "ul", "option": "li", "menu": "ul", "dir": "ul"}
"""For the converter, which knows fewer elements."""
_LINES = ("li", "dt", "dd", "tr", "br", "option", "div")
"""These stand on lines of their own in plain text; other blocks have blank lines around them."""
_FARTHEST = 200
"""How many open elements are looked at: no page of people nests deeper."""
_SPACE = re.compile(r"\s+")


class _Soup(BeautifulSoup):
    """
    Ends elements where browsers do: few pages close each `li`, `p` and `td`.

    Without that each item would lie inside the one before it.
    """

    def handle_starttag(self, name: str, *arguments: Any, **options: Any) -> Tag | None:
        if name in _ENDS:
            self._end(*_ENDS[name])
        if name in _BLOCKS:
            self._end(*_PARAGRAPH)
        if name in _ITEMS:
            while self.currentTag is not None and self.currentTag.name in _FORMATTING:
                self.endData()
                self.popTag()
        if name in _HEADINGS and self.currentTag is not None and self.currentTag.name in _HEADINGS:
            self._end(_HEADINGS, _SCOPE)
        return super().handle_starttag(name, *arguments, **options)

    def handle_endtag(self, name: str, nsprefix: str | None = None) -> None:
        within = _IN_TABLE if name in _TABLE else _SCOPE
        if self.open_tag_counter.get(name):
            for element in reversed(self.tagStack[-_FARTHEST:]):
                if element.name == name:
                    break
                if element.name in within:
                    return  # what it would close lies outside of the table
        super().handle_endtag(name, nsprefix)

    def _end(self, names: frozenset[str], within: frozenset[str]) -> None:
        found = self._outermost(names, within)
        if found is not None:
            self.endData()
            while len(self.tagStack) > found:
                self.popTag()

    def _outermost(self, names: frozenset[str], within: frozenset[str]) -> int | None:
        """Where in the stack of open elements the first of these is, inside of `within`."""
        if not any(self.open_tag_counter.get(name) for name in names):
            return None
        found = None
        depth = len(self.tagStack)
        for index in range(depth - 1, max(0, depth - _FARTHEST), -1):
            if self.tagStack[index].name in within:
                break
            if self.tagStack[index].name in names:
                found = index
        return found


def convert(html: bytes, format: str, url: str, charset: str | None = None) -> str:
    """The page's text; as Markdown with links made absolute, or plain."""
    soup = _Soup(html, "html.parser", from_encoding=charset)
    for element in soup.find_all(_INVISIBLE):
        element.decompose()
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    if soup.head:
        soup.head.decompose()
    text = _plain(soup) if format == "text" else _markdown(soup, url)
    if title and title not in text[:500]:
        text = f"{'' if format == 'text' else '# '}{title}\n\n{text}"
    return text[:LARGEST_RESULT]


def _markdown(soup: BeautifulSoup, url: str) -> str:
    for tag, name in (("a", "href"), ("img", "src")):
        for element in soup.find_all(tag):
            target = str(element.get(name) or "")
            if tag == "img" and (not target or target.startswith("data:")):
                element.decompose()
            elif target.startswith(("data:", "javascript:")):
                del element[name]
            elif target:
                element[name] = _absolute(url, target)
    for tag, name in _RENAMED.items():
        for element in soup.find_all(tag):
            element.name = name
    try:
        text: str = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(soup)
    except RecursionError:
        return _plain(soup)
    lines = (line.rstrip() for line in text.splitlines())
    return _without_gaps("\n".join(lines))


def _absolute(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError:
        return target


def _plain(soup: BeautifulSoup) -> str:
    pieces: list[str] = []
    todo = [(iter(soup.contents), "", False)]
    while todo:  # not recursive: pages may be nested deeply
        children, end, as_it_is = todo[-1]
        node = next(children, None)
        if node is None:
            pieces.append(end)
            todo.pop()
        elif isinstance(node, Tag):
            if node.name in _BLOCKS or node.name in _LINES:
                pieces.append("\n")
            todo.append((iter(node.contents), _end(node.name), as_it_is or node.name == "pre"))
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            pieces.append(str(node) if as_it_is else _SPACE.sub(" ", node))
    lines = (" ".join(line.split()) for line in "".join(pieces).splitlines())
    return _without_gaps("\n".join(lines))


def _end(name: str) -> str:
    """What stands behind an element in plain text."""
    if name in _CELLS:
        return " "
    return "\n" if name in _BLOCKS and name not in _LINES else ""


def _without_gaps(text: str) -> str:
    """At most one blank line in a row."""
    kept: list[str] = []
    for line in text.split("\n"):
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).strip()


def main() -> None:
    """Convert stdin to stdout within the limits."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    warnings.simplefilter("ignore")
    format, url, *rest = sys.argv[1:]
    text = convert(sys.stdin.buffer.read(), format, url, rest[0] if rest else None)
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
