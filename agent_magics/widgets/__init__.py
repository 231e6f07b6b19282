"""
What a turn looks like in a notebook: the live widget and the static record.

Whatever an agent or a tool says is data here; no path leads from it to a page's HTML except
through `render_markdown` and, in the browser, an allow-list of elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._describe import (
    TODO_MARKS,
    always_label,
    ask_blocks,
    ask_title,
    tool_blocks,
    tool_facts,
    tool_title,
)
from ._inert_markdown import inert_markdown
from ._listing import Columns, Facts, Listing, clock, size_text
from ._markdown import MarkdownStream, render_markdown
from ._page import attribute_text, page, page_text
from ._questions import Questions
from ._record import MIME, TurnRecord
from ._visible import TerminalTail, readable, terminal_text, visible, without_escapes

if TYPE_CHECKING:
    from ._turn_widget import TurnWidget

__all__ = [
    "MIME",
    "TODO_MARKS",
    "Columns",
    "Facts",
    "Listing",
    "MarkdownStream",
    "Questions",
    "TerminalTail",
    "TurnRecord",
    "TurnWidget",
    "always_label",
    "ask_blocks",
    "ask_title",
    "attribute_text",
    "clock",
    "inert_markdown",
    "page",
    "page_text",
    "readable",
    "render_markdown",
    "size_text",
    "terminal_text",
    "tool_blocks",
    "tool_facts",
    "tool_title",
    "visible",
    "without_escapes",
]


def __getattr__(name: str) -> Any:
    if name == "TurnWidget":  # imports ipywidgets; terminals and headless runs need none
        from ._turn_widget import TurnWidget

        return TurnWidget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
