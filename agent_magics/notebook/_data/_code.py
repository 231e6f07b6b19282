"""Code that an agent proposes in its text."""

from __future__ import annotations

from typing import Any

__all__ = ["propose", "proposed_code"]

_PYTHON = frozenset({"", "python", "python3", "py", "ipython"})


def proposed_code(text: str) -> str:
    """The last fenced block of Python in `text`, empty without one."""
    from markdown_it import MarkdownIt

    blocks = (token for token in MarkdownIt().parse(text) if token.type == "fence")
    found = [token.content for token in blocks if token.info.strip().lower() in _PYTHON]
    return found[-1].rstrip("\n") if found else ""


def propose(shell: Any, text: str) -> bool:
    """Put the code of `text` into a new cell below, unexecuted. False when there is none."""
    code = proposed_code(text)
    if code:
        shell.set_next_input(code)
    return bool(code)
