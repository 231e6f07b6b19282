"""
The notebook's side: magics, the foreground turn and the comm pump.

Importing this package is cheap; what a turn needs is imported when one runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import InvalidReply, TurnFailed, TurnInterrupted

if TYPE_CHECKING:
    from ._core import ask, ask_in_background, current_session, shell
    from ._data._structured import ask_json
    from ._extension import load_ipython_extension, unload_ipython_extension
    from ._magics import AgentMagics
    from ._turn._pump import CommPump

__all__ = [
    "AgentMagics",
    "CommPump",
    "InvalidReply",
    "TurnFailed",
    "TurnInterrupted",
    "ask",
    "ask_in_background",
    "ask_json",
    "current_session",
    "load_ipython_extension",
    "shell",
    "unload_ipython_extension",
]

_HOMES = {
    "AgentMagics": "_magics",
    "CommPump": "_turn._pump",
    "ask": "_core",
    "ask_in_background": "_core",
    "ask_json": "_data._structured",
    "current_session": "_core",
    "load_ipython_extension": "_extension",
    "shell": "_core",
    "unload_ipython_extension": "_extension",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
