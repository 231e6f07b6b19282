"""`--cells`: cells of the notebook that the user names, as they were run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from IPython.core.error import UsageError

from .._text import fenced

__all__ = ["chosen_cells", "outline"]

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_EXCERPT = 100


def chosen_cells(history: Sequence[str], choice: str) -> str:
    """
    The cells of `history` (IPython's `In`) that `choice` names, as a text for the model.

    "3", "2-5", "1,4-6" mean the numbers before the cells, "outline" the first line of each, "all"
    all of them; the cell that is running is left out. Raises `UsageError`.
    """
    past = history[:-1]
    if choice == "outline":
        return outline(past)
    numbers = range(1, len(past)) if choice == "all" else _numbers(choice, len(past))
    cells = [f"In [{n}]:\n{fenced(past[n], 'python')}" for n in numbers if past[n].strip()]
    if not cells:
        raise UsageError(f"--cells {choice}: no such cell has been run")
    return "\n\n".join(["Cells of the notebook, as they were run:", *cells])


def outline(past: Sequence[str]) -> str:
    """One line for each cell that was run."""
    lines = [
        f"In [{number}]: {_first_line(source)}"
        for number, source in enumerate(past)
        if number and source.strip()
    ]
    return "\n".join(["The cells of the notebook that were run, by their first lines:", *lines])


def _first_line(source: str) -> str:
    line = source.strip().splitlines()[0]
    others = len(source.strip().splitlines()) - 1
    more = f"  (+{others} lines)" if others else ""
    return f"{line[:_EXCERPT]}{'…' if len(line) > _EXCERPT else ''}{more}"


def _numbers(choice: str, count: int) -> list[int]:
    numbers: list[int] = []
    for piece in choice.split(","):
        match = _RANGE.fullmatch(piece.strip())
        if match is None:
            raise UsageError(f"--cells {choice}: say 3, 2-5, 1,4-6, outline or all")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last < count:
            most = f"the cells run from 1 to {count - 1}" if count > 1 else "no cell has been run"
            raise UsageError(f"--cells {choice}: {most}")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))
