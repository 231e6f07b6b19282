"""Finds the images that a tool call made or changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

from agent_magics.sandbox import FileStat, Sandbox, SandboxError

from ._sessions import WORKSPACE

__all__ = ["ImageWatch", "file_url", "image_mime"]

_MIMES = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
_LARGEST = 5 << 20
_MOST = 20
"""Images shown after one call; a call that makes more is not making them to be looked at."""

# What can make an image without naming it in its arguments.
_MAKERS = frozenset({"bash", "edit", "task", "write"})

_Mark = tuple[int, int]


def image_mime(path: str) -> str | None:
    """The mime type of an image by its name, None for everything else."""
    return _MIMES.get(PurePosixPath(path).suffix.lower())


def file_url(path: str) -> str:
    return "file://" + quote(path)


class ImageWatch:
    """
    One per turn: what was there when it last looked.

    Parallel calls share it, so that an image appears after the first call that is over when it
    is there, and only once.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._seen: dict[str, _Mark] | None = None
        self._first_look = asyncio.Lock()

    async def before(self, tool: str) -> None:
        """Remember what is there; only the first call of a turn has to look."""
        if tool not in _MAKERS:
            return
        async with self._first_look:
            if self._seen is None:
                self._seen = {f.path: (f.mtime, f.size) for f in await self._images()}

    async def after(self, tool: str) -> Sequence[FileStat]:
        """Images that are new or changed since the last look, oldest first."""
        if tool not in _MAKERS or self._seen is None:
            return ()
        changed = []
        for image in await self._images():
            mark = (image.mtime, image.size)
            if self._seen.get(image.path) != mark:
                self._seen[image.path] = mark
                changed.append(image)
        changed.sort(key=lambda f: (f.mtime, f.path))
        return changed[-_MOST:]

    async def _images(self) -> list[FileStat]:
        try:
            files = await self._sandbox.list_files(WORKSPACE, recursive=True)
        except (OSError, SandboxError):  # the listing is a courtesy; the call has its own result
            return []
        return [
            f for f in files if f.kind == "file" and 0 < f.size <= _LARGEST and image_mime(f.path)
        ]
