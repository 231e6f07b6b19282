"""`%load_ext agent_magics` and its reverse."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import Any

from ._frontend import kernel_of
from ._magics import MAGIC_NAMES, AgentMagics
from ._question import QuestionLine
from ._session import Connection, keeper_of

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_REPLACED = "_agent_magics_replaced"


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and get the engine ready in the background."""
    replaced = _foreign_magics(shell)
    for kind, name in replaced:
        mark = "%" if kind == "line" else "%%"
        sys.stderr.write(f"agent_magics takes over {mark}{name} from another extension.\n")
    setattr(shell, _REPLACED, replaced)
    magics = AgentMagics(shell, parent=shell)
    shell.register_magics(magics)
    transformers = shell.input_transformer_manager.token_transformers
    if QuestionLine not in transformers:
        transformers.append(QuestionLine)
    if magics.warm_up:
        keeper_of(shell).warm_up(Connection(magics.url, magics.token))
        if kernel_of(shell) is not None:
            _import_in_background("agent_magics.widgets")


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away again; what they had replaced comes back. The session stays."""
    tables = shell.magics_manager.magics
    for kind in ("line", "cell"):
        for name in MAGIC_NAMES:
            tables[kind].pop(name, None)
    for (kind, name), function in getattr(shell, _REPLACED, {}).items():
        tables[kind][name] = function
    magics = shell.magics_manager.registry.pop(AgentMagics.__name__, None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    transformers = shell.input_transformer_manager.token_transformers
    transformers[:] = [t for t in transformers if t is not QuestionLine]


def _import_in_background(name: str) -> None:
    """What the first turn needs; half of its time to the first pixel would be imports."""
    threading.Thread(
        target=import_module, args=(name,), name="agent-magics imports", daemon=True
    ).start()


def _foreign_magics(shell: Any) -> dict[tuple[str, str], Any]:
    """Magics of our names that somebody else registered."""
    found = {}
    for kind, table in shell.magics_manager.magics.items():
        for name in MAGIC_NAMES:
            function = table.get(name)
            owner = getattr(function, "__self__", None)
            if function is not None and type(owner).__name__ != AgentMagics.__name__:
                found[kind, name] = function
    return found
