"""The end of a widget: nothing of it stays open in the kernel or in the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipywidgets import Widget

__all__ = ["close_widgets"]


def close_widgets(widget: Widget) -> None:
    """Close `widget` and all widgets that it holds: its children, and their layouts and styles."""
    for each in _held(widget, {}):
        each.close()


def _held(value: Any, seen: dict[int, Any]) -> Iterator[Widget]:
    """The widgets in `value`, each before those that it holds, so that their views go first."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _held(item, seen)
    elif isinstance(value, Widget) and id(value) not in seen:
        seen[id(value)] = value
        yield value
        for name in value.keys:
            yield from _held(getattr(value, name), seen)
