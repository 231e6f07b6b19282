"""`%load_ext agent_magics` and its reverse."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ._frontend import kernel_of
from ._magics import AgentMagics
from ._manage._completion import add_completion, remove_completion
from ._manage._magics import HOMES, managing_magics
from ._manage._question import QuestionLine
from ._session import Connection, keeper_of
from ._turn._result_view import show_results_short, show_results_whole

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_PACKAGE = __name__.partition(".")[0] + "."
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
    for watch in _watches(magics):
        shell.events.register("post_run_cell", watch)
    for name, function in managing_magics().items():
        shell.register_magic_function(function, "line", name)
    show_results_short(shell)
    add_completion(shell, magics, keeper_of(shell))
    transformers = shell.input_transformer_manager.token_transformers
    if QuestionLine not in transformers:
        transformers.append(QuestionLine)
    if kernel_of(shell) is not None:
        from ._hub._door import open_door

        open_door(shell)
    if magics.warm_up:
        keeper_of(shell).warm_up(Connection(magics.url, magics.token))
        if kernel_of(shell) is not None:
            _import_in_background("agent_magics.widgets")


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away again; what they had replaced comes back. The session stays."""
    from ._hub._door import close_door

    close_door(shell)
    remove_completion(shell)
    show_results_whole(shell)
    tables = shell.magics_manager.magics
    for kind, name in _names():
        tables[kind].pop(name, None)
    for (kind, name), function in getattr(shell, _REPLACED, {}).items():
        tables[kind][name] = function
    magics = shell.magics_manager.registry.pop(AgentMagics.__name__, None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    if magics is not None:
        for watch in _watches(magics):
            shell.events.unregister("post_run_cell", watch)
    transformers = shell.input_transformer_manager.token_transformers
    transformers[:] = [t for t in transformers if t is not QuestionLine]


def _watches(magics: AgentMagics) -> tuple[Callable[..., None], ...]:
    """What is called after every cell."""
    return (magics.failures.remember, magics.announce)


def _import_in_background(name: str) -> None:
    """What the first turn needs; half of its time to the first pixel would be imports."""
    threading.Thread(
        target=import_module, args=(name,), name="agent-magics imports", daemon=True
    ).start()


def _foreign_magics(shell: Any) -> dict[tuple[str, str], Any]:
    """Magics of our names that somebody else registered."""
    found = {}
    for kind, name in _names():
        function = shell.magics_manager.magics[kind].get(name)
        if function is not None and not getattr(function, "__module__", "").startswith(_PACKAGE):
            found[kind, name] = function
    return found


def _names() -> list[tuple[str, str]]:
    """Kind and name of every magic of ours."""
    own = [(kind, name) for kind, table in AgentMagics.magics.items() for name in table]
    return [*own, *(("line", name) for names in HOMES.values() for name in names)]
