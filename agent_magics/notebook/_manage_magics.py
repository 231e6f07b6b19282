"""
The magics that manage sessions, as IPython gets them: options are read here, the work is imported
when it is wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from IPython.core.magic import no_var_expand

from ._manage_options import PARSERS

__all__ = ["HOMES", "managing_magics"]

HOMES = {
    "_manage_export": ("agent_export",),
    "_manage_help": ("agent_config", "agent_doctor", "agent_help"),
    "_manage_files": ("agent_artifacts", "agent_files", "agent_get", "agent_put"),
    "_manage_sessions": (
        "agent_abort",
        "agent_messages",
        "agent_metrics",
        "agent_model",
        "agent_permissions",
        "agent_revert",
        "agent_session",
        "agent_summarize",
        "agent_todos",
        "agent_wait",
    ),
}
"""Where each magic's function is: it takes the options and returns what is shown."""


def managing_magics() -> dict[str, Callable[[str], Any]]:
    """The line magics by name. Each returns what it shows: `todos = %agent_todos` is a list."""
    return {name: _magic(home, name) for home, names in HOMES.items() for name in names}


def _magic(home: str, name: str) -> Callable[[str], Any]:
    def magic(line: str) -> Any:
        parser = PARSERS[name]()
        if line.split()[:1] in (["-h"], ["--help"]):
            sys.stdout.write(parser.format_help())
            return None
        options = parser.parse_words(line)
        return getattr(import_module(f".{home}", __package__), name)(options)

    magic.__name__ = magic.__qualname__ = name
    magic.__doc__ = PARSERS[name]().format_help()  # what `%name?` shows
    found: Callable[[str], Any] = no_var_expand(magic)
    return found
