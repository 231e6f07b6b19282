"""
agent-magics: work with a coding agent from notebook cells.

`%load_ext agent_magics` brings `%%agent` and `%agent_shell`; `ask()` does the same from Python,
and `current_session()` is the session behind both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .notebook import (
        InvalidReply,
        TurnFailed,
        TurnInterrupted,
        ask,
        ask_in_background,
        ask_json,
        current_session,
        load_ipython_extension,
        unload_ipython_extension,
    )

__version__ = "0.1.0"

__all__ = [
    "InvalidReply",
    "TurnFailed",
    "TurnInterrupted",
    "__version__",
    "ask",
    "ask_in_background",
    "ask_json",
    "current_session",
    "load_ipython_extension",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only that: `import agent_magics` itself costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import notebook

    value = getattr(notebook, name)
    globals()[name] = value
    return value
