"""
HTML to Markdown or text: a program, which the `webfetch` tool runs in a process of its own.

A page can be made to keep a parser busy for hours or to fill the memory; here both have limits,
and the process can be killed. HTML comes on stdin, UTF-8 goes to stdout.

    python _html_program.py FORMAT URL [CHARSET]
"""

from __future__ import annotations

import resource
import sys
import warnings
from urllib.parse import urljoin

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter

__all__ = ["convert", "main"]

LARGEST_RESULT = 1_000_000
"""Characters."""
_CPU_SECONDS = 20
_MEMORY = 1 << 30
_INVISIBLE = ("script", "style", "noscript", "template", "svg", "iframe", "object", "embed")


def convert(html: bytes, format: str, url: str, charset: str | None = None) -> str:
    """The page's text; as Markdown with links made absolute, or plain."""
    soup = BeautifulSoup(html, "html.parser", from_encoding=charset)
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
    lines = (" ".join(line.split()) for line in soup.get_text("\n").splitlines())
    return _without_gaps("\n".join(lines))


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
