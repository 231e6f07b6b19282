"""Changes of files as people read them, in opencode's shape."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping

from agent_magics.wire import FileDiffJSON

from ._blobs import BlobStore
from ._plan import Entry
from ._snapshots import Snapshots

__all__ = ["file_diffs"]

_LARGEST_TEXT = 256 << 10
_MOST_LINES = 2000
"""Lines of both sides together: finding the shortest difference of long ones takes long."""
_MOST_PATCHES = 300

Pairs = Mapping[str, tuple[Entry | None, Entry | None]]


async def file_diffs(snapshots: Snapshots, session_id: str, pairs: Pairs) -> list[FileDiffJSON]:
    """
    What happened to each path, by path: its entry before and after.

    `patch` is empty for what is no text, is long, or only changed its mode. A directory is listed,
    with a slash at its end, only where nothing in it is.
    """
    if not pairs:
        return []
    store = await snapshots.store(session_id)
    return await asyncio.to_thread(_diffs, store, pairs)


def _diffs(store: BlobStore, pairs: Pairs) -> list[FileDiffJSON]:
    parents = {path.rpartition("/")[0] for path in pairs}
    listed = [
        path for path in sorted(pairs) if path not in parents or not _is_directory(pairs[path])
    ]
    return [
        _diff(store, path, *pairs[path], patch=index < _MOST_PATCHES)
        for index, path in enumerate(listed)
    ]


def _is_directory(pair: tuple[Entry | None, Entry | None]) -> bool:
    return any(entry is not None and entry.kind == "directory" for entry in pair)


def _diff(
    store: BlobStore, path: str, before: Entry | None, after: Entry | None, *, patch: bool
) -> FileDiffJSON:
    old, new = _lines(store, before), _lines(store, after)
    shown = path + "/" if _is_directory((before, after)) else path
    diff: FileDiffJSON = {
        "file": shown,
        "patch": "",
        "additions": 0,
        "deletions": 0,
        "status": "added" if before is None else "deleted" if after is None else "modified",
    }
    if old is None or new is None:
        return diff
    if patch and len(old) + len(new) <= _MOST_LINES:
        lines = list(difflib.unified_diff(old, new, f"a/{shown}", f"b/{shown}"))
        diff["patch"] = "".join(_ended(line) for line in lines)
        diff["additions"] = sum(line.startswith("+") for line in lines[2:])
        diff["deletions"] = sum(line.startswith("-") for line in lines[2:])
    else:
        diff["additions"], diff["deletions"] = len(new), len(old)
    return diff


def _ended(line: str) -> str:
    return line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


def _lines(store: BlobStore, entry: Entry | None) -> list[str] | None:
    """The lines of a text, none of nothing; None for what is no short text."""
    if entry is None or entry.kind == "directory":
        return []
    if entry.kind == "link":
        return [entry.key]
    if not entry.stored or entry.size > _LARGEST_TEXT:
        return None
    try:
        text = store.content(entry.key).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.splitlines(keepends=True)
