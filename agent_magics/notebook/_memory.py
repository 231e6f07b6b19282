"""Which session belongs to which notebook: remembered beside the sessions' own data."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._frontend import kernel_of

__all__ = ["SessionMemory", "notebook_path"]

_MOST = 500
_NAME = "JPY_SESSION_NAME"
_log = logging.getLogger("agent_magics.notebook")


def notebook_path(shell: Any) -> str:
    """
    The notebook that `shell` runs for, as far as its front end tells; empty if it doesn't.

    Terminal IPython runs for none, nor does a kernel that something else started, such as nbclient
    or papermill, although both may have inherited the name when a notebook's cell called them.
    """
    if kernel_of(shell) is None:
        return ""
    namespace: dict[str, Any] = getattr(shell, "user_ns", {})
    in_vscode = namespace.get("__vsc_ipynb_file__")
    if isinstance(in_vscode, str):
        return in_vscode
    name = os.environ.get(_NAME, "")  # set by jupyter_server
    return "" if name and _had_by_the_parent(name) else name


def _had_by_the_parent(name: str) -> bool:
    """Whether the process that started this one had this notebook's name, too."""
    try:
        environ = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:  # not Linux, or another user's process
        return False
    return os.fsencode(f"{_NAME}={name}") in environ.split(b"\0")


class SessionMemory:
    """
    The session of one `notebook`, an absolute path; without one nothing is remembered. A function
    is asked again each time: VS Code tells a kernel its notebook after it has started.

    A notebook that was renamed or moved is known by the cell that began with the session, which
    `cell` names: its file has that cell, and the file that had it before is gone.

    The memory is a convenience: whatever goes wrong with its file, turns go on.
    """

    def __init__(
        self,
        notebook: str | Callable[[], str] = "",
        folder: Path | None = None,
        cell: Callable[[], str] = str,
    ) -> None:
        self._given = notebook
        self._cell = cell
        self._path = (folder or _data_folder()) / "notebooks.json"

    @property
    def _notebook(self) -> str:
        return self._given if isinstance(self._given, str) else self._given()

    def recall(self, server: str) -> str:
        """The id of the session that the notebook had on `server`, empty if it had none."""
        notebook, entries = self._notebook, self._read()
        if not notebook:
            return ""
        entry = entries.get(_name_in(entries, notebook))
        if not isinstance(entry, dict) or entry.get("server") != server:
            return ""
        return str(entry.get("session") or "")

    def remember(self, server: str, session_id: str) -> None:
        """From now on this one; an empty id forgets it."""
        notebook, entries = self._notebook, self._read()
        if not notebook:
            return
        name = _name_in(entries, notebook)
        if self.recall(server) == session_id and (name == notebook or not session_id):
            return
        entries.pop(name, None)
        if session_id:
            entries[notebook] = {"server": server, "session": session_id, "cell": self._cell()}
        try:
            self._write(dict(list(entries.items())[-_MOST:]))
        except OSError as error:
            _log.info("the notebook's session can't be remembered: %s", error)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, entries: dict[str, Any]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".notebooks-")
        with os.fdopen(handle, "w") as file:
            json.dump(entries, file, indent=1)
        Path(name).replace(self._path)


def _name_in(entries: dict[str, Any], notebook: str) -> str:
    """Under which name `notebook` is remembered: its own, or the one that it had before."""
    if notebook in entries:
        return notebook
    cells = {
        entry["cell"]: name
        for name, entry in entries.items()
        if isinstance(entry, dict) and _is_text(entry.get("cell")) and not Path(name).exists()
    }
    found = cells.keys() & _cells_of(Path(notebook)) if cells else set()
    return cells[found.pop()] if found else notebook


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _cells_of(notebook: Path) -> set[str]:
    """The ids of the cells in a notebook's file."""
    try:
        cells = json.loads(notebook.read_bytes())["cells"]
        return {str(cell["id"]) for cell in cells if "id" in cell}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _data_folder() -> Path:
    """Where the embedded engine keeps its data."""
    if chosen := os.environ.get("AGENT_MAGICS_DATA_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "agent-magics"
