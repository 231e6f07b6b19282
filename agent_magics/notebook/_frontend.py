"""What kind of front end this code runs under, as far as asking a person goes."""

from __future__ import annotations

import sys
from typing import Any, Literal

__all__ = [
    "BACKGROUND_TURNS",
    "FrontEnd",
    "cell_id",
    "current_shell",
    "front_end",
    "is_watched",
    "kernel_of",
]

BACKGROUND_TURNS = "_agent_magics_background"
"""The shell's attribute that holds its turns in the background, once there has been one."""

FrontEnd = Literal["kernel", "headless", "terminal", "plain"]
"""
- `kernel`: a Jupyter kernel whose client answers `input()`; widgets may work.
- `headless`: a kernel whose client refuses input (nbclient, papermill): nobody to ask.
- `terminal`: no kernel, a person at a terminal.
- `plain`: no kernel and no terminal (a pipe, a script): nobody to ask.
"""


def current_shell() -> Any:
    """The running `InteractiveShell`, `None` in plain Python. Never imports IPython."""
    # another thread may be importing it
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def kernel_of(shell: Any) -> Any:
    """The ipykernel `Kernel` behind `shell`, `None` where there is none."""
    return getattr(shell, "kernel", None)


def cell_id(shell: Any) -> str:
    """
    The id, in the notebook's file, of the cell that runs; empty where nobody tells it.

    JupyterLab, Notebook 7 and VS Code do, consoles have no such cells.
    """
    try:
        found = kernel_of(shell).get_parent("shell")["metadata"]["cellId"]
    except (AttributeError, LookupError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def front_end(shell: Any) -> FrontEnd:
    """The kind of front end; ask anew for every turn, one kernel can serve several."""
    kernel = kernel_of(shell)
    if kernel is not None:
        return "kernel" if getattr(kernel, "_allow_stdin", False) else "headless"
    return "terminal" if _is_tty(sys.stdin) and _is_tty(sys.stdout) else "plain"


def is_watched(shell: Any) -> bool:
    """
    Whether what the running cell displays is drawn at once and can be replaced later.

    It is not where `%%capture` collects it, nor in an engine of ipyparallel, whose client is sent
    what the cell displayed but no change of it.
    """
    displaypub = sys.modules.get("IPython.core.displaypub")
    if displaypub is not None and isinstance(
        getattr(shell, "display_pub", None), displaypub.CapturingDisplayPublisher
    ):
        return False
    classes = type(kernel_of(shell)).__mro__
    return all(kind.__module__.partition(".")[0] != "ipyparallel" for kind in classes)


def _is_tty(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False
