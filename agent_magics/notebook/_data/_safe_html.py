"""HTML of others, made anew from the few elements that tables and text need."""

from __future__ import annotations

from html.parser import HTMLParser

from ...widgets import page_text, readable

__all__ = ["safe_html"]

_TABLES_AND_TEXT = (
    "b blockquote br caption code col colgroup dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p "
    "pre s small span strong sub sup table tbody td tfoot th thead tr u ul"
)
_NOT_FOR_READERS = (
    "applet audio canvas embed head iframe math noembed noframes noscript object script style svg "
    "template textarea title video xmp"
)
_KEPT = frozenset(_TABLES_AND_TEXT.split())
_EMPTY = frozenset({"br", "col", "hr"})
_DROPPED = frozenset(_NOT_FOR_READERS.split())
"""Elements whose content goes with them."""
_SPANS = frozenset({"colspan", "rowspan"})
_MOST_SPAN = 1000
_DEEPEST = 60


def safe_html(source: str, limit: int = 200_000) -> tuple[str, bool]:
    """
    `source` without anything active, styled or fetched, well-formed, and whether it was cut.

    Only elements of tables and text stay, without attributes but colspan and rowspan. Of the rest
    the text stays, scripts and styles go. At most about `limit` characters are made.
    """
    maker = _Maker(limit)
    maker.feed(source)
    maker.close()
    return maker.finished(), maker.cut


class _Maker(HTMLParser):
    def __init__(self, limit: int) -> None:
        super().__init__(convert_charrefs=True)
        self._left = limit
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._dropped: list[str] = []
        self.cut = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self._dropped.append(tag)
        elif self._dropped or tag not in _KEPT or len(self._open) >= _DEEPEST:
            return
        elif self._put(f"<{tag}{_spans(attrs)}>") and tag not in _EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _DROPPED:  # as browsers read it, where the slash says nothing
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._dropped:
            while self._dropped.pop() != tag:
                continue
        elif not self._dropped and tag in self._open:
            while self._open:
                last = self._open.pop()
                self._pieces.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self._put(page_text(readable(data)))

    def finished(self) -> str:
        """What was made, with all elements closed."""
        return "".join([*self._pieces, *(f"</{tag}>" for tag in reversed(self._open))])

    def _put(self, piece: str) -> bool:
        if self.cut or len(piece) > self._left:
            self.cut = True
            return False
        self._left -= len(piece)
        self._pieces.append(piece)
        return True


def _spans(attrs: list[tuple[str, str | None]]) -> str:
    kept: dict[str, int] = {}
    for name, value in attrs:
        if name in _SPANS and value and value.isascii() and value.isdecimal() and len(value) <= 4:
            kept[name] = min(int(value), _MOST_SPAN)
    return "".join(f' {name}="{number}"' for name, number in kept.items())
