"""
agent-magics: work with a coding agent from notebook cells.

`%load_ext agent_magics` brings `%%agent` and `%agent_shell`; `ask()` does the same from Python,
and `current_session()` is the session behind both. `Client` makes sessions without a notebook; all
of the client is in `agent_magics.client`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AgentError, AsyncClient, Client, SessionHandle
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
    "AgentError",
    "AsyncClient",
    "Client",
    "InvalidReply",
    "SessionHandle",
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

_OF_THE_CLIENT = frozenset({"AgentError", "AsyncClient", "Client", "SessionHandle"})


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only that: `import agent_magics` itself costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(".client" if name in _OF_THE_CLIENT else ".notebook", __name__)
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
