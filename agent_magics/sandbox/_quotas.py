"""
What the kernel counts per user and not per process: a container's part of it.

A container of an ordinary user runs as that user. Without bounds of its own it could take all
inotify instances, queued signals or locked memory, and the user's editor and Jupyter get none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["QUOTA_FOLDER", "quota_config", "user_quotas"]

QUOTA_FOLDER = "/run/quotas"
"""Where the agent program of a bubblewrap container finds the limits of its user namespace."""
SHARE = 8
"""Of what the user may have, one container gets one part in so many."""

_SETTINGS = Path("/proc/sys/user")
_LEAST = {"max_inotify_instances": 16, "max_inotify_watches": 1024}
_RLIMITS = {
    "sigpending": 1024,  # queued signals and timers
    "msgqueue": 200 << 10,  # bytes in POSIX message queues; a default queue takes 83,200
    "memlock": 1 << 20,  # bytes of locked memory
    "rtprio": 0,
    "nice": 0,
}
_SHARED = ("sigpending", "memlock")


def quota_config(folder: str | None) -> dict[str, Any]:
    """
    For the agent program.

    Args:
        folder: where it may write the limits of its user namespace; None: it may not.
    """
    return {"rlimits": dict(_rlimits()), "folder": folder, "user": user_quotas()}


def _rlimits() -> Iterator[tuple[str, int]]:
    import resource

    for name, value in _RLIMITS.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        shared = name in _SHARED and hard != resource.RLIM_INFINITY
        yield name, min(value, hard // SHARE) if shared else value


def user_quotas(settings: Path = _SETTINGS) -> dict[str, int]:
    """Limits of the container's user namespace (`user.*` of sysctl), from those of the user."""
    found = {}
    for name in sorted(os.listdir(settings)) if settings.is_dir() else ():  # noqa: PTH208
        try:
            most = int((settings / name).read_text("ascii"))
        except (OSError, ValueError):
            continue
        if name.endswith("_namespaces"):  # the system call filter refuses them as well
            found[name] = 0
        else:
            found[name] = max(most // SHARE, min(most, _LEAST.get(name, 0)))
    return found
