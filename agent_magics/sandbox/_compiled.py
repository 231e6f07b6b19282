"""Whether a Python environment brings its modules compiled."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from ._types import PythonEnv, is_site_directory

__all__ = ["is_compiled"]

_MOST_WITHOUT = 0.1
"""Of the packages: a few can't be compiled, or were copied there by hand."""


@functools.lru_cache
def is_compiled(python: PythonEnv) -> bool:
    """
    Whether nearly all packages of the environment, and the standard library, are compiled.

    pip, conda and distributions compile what they install; others leave it to the first import.
    """
    found = [_has_compiled(package) for package in _packages(python)]
    return bool(found) and found.count(False) <= _MOST_WITHOUT * len(found)


def _packages(python: PythonEnv) -> Iterator[Path]:
    for site in _sites(python):
        try:
            yield from (path.parent for path in site.glob("*/__init__.py"))
        except OSError:
            continue


def _sites(python: PythonEnv) -> set[Path]:
    """Directories of packages: also the standard library, which has them at its top."""
    sites = {Path(path) for path in python.prefixes if is_site_directory(path)}
    for prefix in python.prefixes:
        for library in Path(prefix, "lib").glob("python3*"):
            sites |= {library, library / "site-packages", library / "dist-packages"}
    return sites


def _has_compiled(package: Path) -> bool:
    try:
        return any((package / "__pycache__").glob("__init__.*.pyc"))
    except OSError:
        return False
