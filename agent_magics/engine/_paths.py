"""Paths inside a session's container."""

from __future__ import annotations

import posixpath

__all__ = ["ARTIFACTS", "WORKSPACE", "container_path", "is_below", "short_path"]

WORKSPACE = "/workspace"
"""The directory where every tool starts; relative paths mean below it."""

ARTIFACTS = f"{WORKSPACE}/artifacts"
"""Files below this directory are artifacts of the session."""


def container_path(path: str) -> str:
    """
    The absolute, normalised form of `path` in the container.

    Relative paths are below `/workspace`; `.`, `..` and repeated slashes are resolved by text.
    Links are not followed: what they point to is the container's business.
    """
    absolute = posixpath.normpath(posixpath.join(WORKSPACE, path))
    return "/" + absolute.lstrip("/")


def is_below(path: str, directory: str) -> bool:
    """Whether the normalised `path` is `directory` or lies below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def short_path(path: str) -> str:
    """`path` as people like to read it: relative to `/workspace` where it lies below."""
    absolute = container_path(path)
    if absolute == WORKSPACE:
        return "."
    return absolute.removeprefix(WORKSPACE + "/")
