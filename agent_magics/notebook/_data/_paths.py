"""Files of this computer, by name or by pattern."""

from __future__ import annotations

from pathlib import Path

__all__ = ["matching_files"]


def matching_files(pattern: str) -> list[Path]:
    """The file of this name, else those that the pattern matches (`~`, `*`, `**`), sorted."""
    path = Path(pattern).expanduser()
    if path.exists():
        return [path] if path.is_file() else []
    base = Path(path.anchor) if path.is_absolute() else Path()
    try:
        found = sorted(base.glob(str(path.relative_to(path.anchor))))
    except (NotImplementedError, ValueError):  # no pattern
        return []
    return [path for path in found if path.is_file()]
