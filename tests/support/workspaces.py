"""What a directory contains, in full, for comparing it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["contents", "names_of_files"]


def contents(root: Path) -> dict[bytes, tuple[str, int, bytes]]:
    """Kind, mode and content of everything below `root`, by its name in bytes."""
    found: dict[bytes, tuple[str, int, bytes]] = {}
    for folder, directories, files in os.walk(os.fsencode(root)):
        for name in [*directories, *files]:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, os.fsencode(root))] = _entry(path)
    return found


def _entry(path: bytes) -> tuple[str, int, bytes]:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return "link", 0, os.readlink(path)
    if stat.S_ISDIR(status.st_mode):
        return "directory", mode, b""
    if not stat.S_ISREG(status.st_mode):
        return "other", mode, b""
    with open(path, "rb") as file:
        return "file", mode, file.read()


def names_of_files(root: Path) -> set[frozenset[str]]:
    """The files with several names below `root`, each as these names."""
    found: dict[int, set[str]] = {}
    for path in root.rglob("*"):
        if not path.is_symlink() and path.is_file():
            found.setdefault(path.stat().st_ino, set()).add(str(path.relative_to(root)))
    return {frozenset(names) for names in found.values() if len(names) > 1}
