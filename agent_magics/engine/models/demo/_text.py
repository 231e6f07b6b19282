"""Text of others in the demo model's Markdown."""

from __future__ import annotations

import re

__all__ = ["cell", "code", "number", "table", "tail"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$-])")
_BLANKS = re.compile(r"\s+")
MAX_CELL = 120


def code(text: str, limit: int = 200) -> str:
    """`text` as inline code, on one line."""
    line = _shorten(_BLANKS.sub(" ", text).strip(), limit) or " "
    runs = [len(run) for run in re.findall(r"`+", line)]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {line} {fence}" if runs else f"`{line}`"


def cell(text: str) -> str:
    """`text` for a cell of a table or an entry of a list, shown as it is."""
    line = _shorten(_BLANKS.sub(" ", text).strip(), MAX_CELL)
    return _SPECIAL.sub(r"\\\1", line) or " "


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    marks = ["---", *("--:" for _ in header[1:])]
    escaped = [[cell(text) for text in row] for row in [header, *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [escaped[0], marks, *escaped[1:]])


def number(value: float) -> str:
    """A number as people write it: 3,700.66 or 0.00123."""
    if value and abs(value) < 0.1:
        return f"{value:.4g}"
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".")


def tail(text: str, lines: int = 6) -> str:
    """The last lines of `text` as an indented block."""
    last = [line[:300] for line in text.strip().splitlines()[-lines:]]
    return "\n".join(f"    {line}" for line in last)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
