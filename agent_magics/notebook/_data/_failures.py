"""The cell that failed last: what `%agent_fix` shows the agent."""

from __future__ import annotations

import ast
import traceback
from dataclasses import dataclass
from typing import Any

from .._text import fenced, printable

__all__ = ["FailedCell", "FailureWatch"]

_LONGEST_CELL = 20_000
_LONGEST_TRACEBACK = 20_000
_MOST_FRAMES = 20


@dataclass(frozen=True, slots=True)
class FailedCell:
    """`source` of the cell and its `error` as text, both cut in the middle when very long."""

    source: str
    error: str

    def names(self) -> list[str]:
        """The names that the cell uses, each once, as they come."""
        try:
            tree = ast.parse(_python(self.source))
        except (SyntaxError, ValueError, RecursionError):
            return []
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        found.sort(key=lambda node: (node.lineno, node.col_offset))
        return list(dict.fromkeys(node.id for node in found))

    def prompt(self, more: str, variables: str = "") -> str:
        """
        What the agent is asked; `more` is what the user adds, `variables` what there is to know of
        those that the cell names.
        """
        known = f"\n\nThe variables that it names:\n{fenced(variables)}" if variables else ""
        wish = f"\n\nThe user adds: {more}" if more.strip() else ""
        return (
            "This cell of my Jupyter notebook failed. Say in two or three sentences why, then "
            "give the whole corrected cell as one block of Python. It runs in the notebook's own "
            "kernel, whose variables you can't see; don't run it in your container.\n\n"
            f"The cell:\n{fenced(self.source, 'python')}\n\n"
            f"The error:\n{fenced(self.error)}{known}{wish}"
        )


class FailureWatch:
    """
    Remembers the last cell that failed. `remember` is for IPython's `post_run_cell`.

    Cells of the agent's own magics and interrupted ones don't count.
    """

    def __init__(self) -> None:
        self.last: FailedCell | None = None

    def remember(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        source = getattr(result.info, "raw_cell", "") or ""
        if not isinstance(error, Exception) or _is_ours(source, error):
            return
        self.last = FailedCell(
            _cut(source.strip("\n"), _LONGEST_CELL), _cut(_told(error), _LONGEST_TRACEBACK)
        )


def _python(source: str) -> str:
    """The cell without IPython's own lines, which are no Python."""
    lines = source.split("\n")
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines)


def _is_ours(source: str, error: Exception) -> bool:
    return source.lstrip().startswith(("%agent", "%%agent")) or hasattr(error, "_render_traceback_")


def _told(error: Exception) -> str:
    """The traceback without IPython's own frames and without colours."""
    told = traceback.TracebackException.from_exception(error, limit=-_MOST_FRAMES)
    return printable("".join(told.format()))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - limit} characters left out ...]\n{text[-half:]}"
