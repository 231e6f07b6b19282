"""
Lists and facts that a notebook shows as tables, and that are plain Python objects all the same.

Every cell is text: what comes from an agent, a file or a server is escaped, and characters that
hide or reorder text are spelled out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from ._page import page, page_text
from ._visible import readable, without_escapes

__all__ = ["Columns", "Facts", "Listing", "clock", "size_text"]

T = TypeVar("T")

Columns = Mapping[str, Callable[[Any], object]]
"""Heading and value of each column. An empty heading is fine."""

_WIDEST = 60
_LAST_WIDEST = 110
"""Characters of a cell, and of the last in a row, in the plain text."""
_MOST = 1000
"""Characters of a cell in the notebook."""
_MOST_ROWS = 500
_SHORT = 28
"""Characters up to which a cell is not broken into lines: an id, a time, a size."""
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
_SCROLLED = '<div style="overflow-x:auto">'
"""Around a table: where it is too wide it scrolls."""


class Listing(list[T]):
    """
    A list that shows itself as a table.

    `columns` compute the cells, `caption` is a line above, `empty` what is shown without items.
    """

    def __init__(
        self,
        items: Iterable[T],
        columns: Columns,
        *,
        caption: str = "",
        empty: str = "Nothing is there.",
    ) -> None:
        super().__init__(items)
        self._columns = columns
        self._caption = caption
        self._empty = empty

    def _rows(self) -> list[list[str]]:
        shown = self[:_MOST_ROWS]
        return [[_text(value(item)) for value in self._columns.values()] for item in shown]

    def _repr_html_(self) -> str:
        if not self:
            return page(page_text(self._empty))
        head = "".join(f'<th style="{_CELL}">{page_text(name)}</th>' for name in self._columns)
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in self._rows())
        rest = f"<div>{len(self) - _MOST_ROWS} more</div>" if len(self) > _MOST_ROWS else ""
        caption = f"<div>{page_text(_text(self._caption))}</div>" if self._caption else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return page(f"{caption}{_SCROLLED}{table}</div>{rest}")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.text())

    def text(self) -> str:
        """The table as aligned plain text."""
        if not self:
            return self._empty
        rows = [list(self._columns), *self._rows()]
        cells = [
            [*map(_short, row[:-1]), *(_short(text, _LAST_WIDEST) for text in row[-1:])]
            for row in rows
        ]
        widths = [max(len(row[n]) for row in cells) for n in range(len(self._columns))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        if len(self) > _MOST_ROWS:
            lines.append(f"{len(self) - _MOST_ROWS} more")
        return "\n".join([_text(self._caption), *lines] if self._caption else lines)


class Facts:
    """`pairs` of a name and a value, shown as a small table; `value` is what they describe."""

    def __init__(self, pairs: Sequence[tuple[str, object]], value: Any = None) -> None:
        self.pairs = [(name, _text(text)) for name, text in pairs]
        self.value = value

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="{_CELL}">{page_text(name)}</th>{_cell(text)}</tr>'
            for name, text in self.pairs
        )
        return page(f"{_SCROLLED}<table><tbody>{rows}</tbody></table></div>")

    def __repr__(self) -> str:
        width = max((len(name) for name, _ in self.pairs), default=0)
        return "\n".join(f"{name.ljust(width)}  {_short(text, 500)}" for name, text in self.pairs)


def clock(milliseconds: int) -> str:
    """A time on the wire as the user's own date and time; empty for none."""
    if not milliseconds:
        return ""
    return f"{datetime.fromtimestamp(milliseconds / 1000):%Y-%m-%d %H:%M:%S}"


def size_text(size: int) -> str:
    """Bytes for people: 999 B, 1.2 kB, 3.4 MB."""
    for power, unit in enumerate(("kB", "MB"), 1):
        if size < 999.95 * 1000**power:
            return f"{size} B" if size < 1000 else f"{size / 1000**power:.1f} {unit}"
    return f"{size / 1e9:.1f} GB"


def _text(value: object) -> str:
    return readable(without_escapes("" if value is None else str(value)))


def _cell(text: str) -> str:
    cut = text if len(text) <= _MOST else f"{text[:_MOST]} … ({len(text)} characters)"
    wrap = "nowrap" if len(text) <= _SHORT else "normal;overflow-wrap:break-word;min-width:16em"
    inner = page_text(cut).replace("\n", "<br>")
    return f'<td style="{_CELL};white-space:{wrap}">{inner}</td>'


def _short(text: str, most: int = _WIDEST) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
