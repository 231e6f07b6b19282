"""
Errors of the sandbox.

    SandboxError
    ├── SandboxUnavailable   no container can be had; says why and what to do
    └── SandboxGone          the container ended under a request; `start()` begins a new one

What goes wrong with a file is an `OSError` of the usual kind; `PathIsLink` is one of them.
"""

from __future__ import annotations

import errno
import os

__all__ = ["PathIsLink", "SandboxError", "SandboxGone", "SandboxUnavailable"]


class SandboxError(Exception):
    """Root of all errors of this package."""


class SandboxUnavailable(SandboxError):
    """
    A container can't be had here.

    Args:
        reason: why, one sentence for people.
        next_step: exactly what to do about it.
    """

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(f"{reason} {next_step}")
        self.reason = reason
        self.next_step = next_step


class PathIsLink(OSError):
    """Nothing was written: a link on the way leads to `target`, the path in the container."""

    def __init__(self, path: str, target: str) -> None:
        super().__init__(errno.ELOOP, os.strerror(errno.ELOOP), path)
        self.target = target


class SandboxGone(SandboxError):
    """The container is not running (any more); files are kept, processes are not."""
