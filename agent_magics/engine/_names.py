"""Paths of the container that somebody has read as text; see `agent_magics.wire.spelled_name`."""

from __future__ import annotations

import posixpath

from agent_magics.sandbox import Sandbox
from agent_magics.wire import unspelled_name

from ._paths import container_path

__all__ = ["meant_path"]

_MOST_NAMES = 100_000


async def meant_path(sandbox: Sandbox, path: str) -> str:
    """
    The path that is meant by `path`, in which bytes may be spelled `\\xNN`.

    A name that is there as it stands is meant so; else one that is there when it is read as bytes.
    """
    if unspelled_name(path) == path:
        return path
    current = "/"
    for part in container_path(path).split("/")[1:]:
        meant = unspelled_name(part)
        if meant != part:
            names = await _names(sandbox, current)
            part = meant if part not in names and meant in names else part
        current = posixpath.join(current, part)
    return current


async def _names(sandbox: Sandbox, folder: str) -> set[str]:
    try:
        entries = await sandbox.list_files(folder, limit=_MOST_NAMES)
    except OSError:
        return set()
    return {posixpath.basename(entry.path) for entry in entries}
