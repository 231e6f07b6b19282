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

from ._options import PARSERS

__all__ = ["HOMES", "ManagingMagic", "managing_magics"]

HOMES = {
    "_export": ("agent_export",),
    "_help": ("agent_config", "agent_doctor", "agent_help"),
    "_files": ("agent_artifacts", "agent_files", "agent_get", "agent_put"),
    "_sessions": (
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


class ManagingMagic:
    """One line magic. Its documentation, what `%name?` shows, is made when it is asked for."""

    def __init__(self, name: str, home: str) -> None:
        self.__name__ = self.__qualname__ = name
        self._home = home

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return PARSERS[self.__name__]().format_help()

    def __call__(self, line: str) -> Any:
        parser = PARSERS[self.__name__]()
        if line.split()[:1] in (["-h"], ["--help"]):
            sys.stdout.write(parser.format_help())
            return None
        options = parser.parse_words(line)
        return getattr(import_module(f".{self._home}", __package__), self.__name__)(options)


def managing_magics() -> dict[str, Callable[[str], Any]]:
    """The line magics by name. Each returns what it shows: `todos = %agent_todos` is a list."""
    return {
        name: no_var_expand(ManagingMagic(name, home))
        for home, names in HOMES.items()
        for name in names
    }
