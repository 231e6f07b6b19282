"""In which steps a workspace becomes what it was. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._links import groups, identity
from ._plan import Entry, Tree

__all__ = ["Steps", "steps"]

Step = dict[str, Any]


@dataclass
class Steps:
    """
    In this order: `first` removes what goes and makes directories and symbolic links; `contents`
    are files to be written; `names` are further names of files (path -> name it has already);
    `last` sets modes.
    """

    first: list[Step] = field(default_factory=list)
    contents: dict[str, Entry] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    last: list[Step] = field(default_factory=list)


def steps(now: Tree, goal: Tree, paths: Collection[str]) -> Steps:
    """How each of `paths` gets its entry of `goal`, none for nothing; `now` is what is there."""
    wanted = {path: goal.get(path) for path in paths}
    result = Steps(_first_steps(now, wanted))
    single = Counter(identity(p, e) for p, e in now.items() if e.twin)
    members = groups(goal)
    done: set[Hashable] = set()
    for path in sorted(wanted):
        entry = wanted[path]
        if entry is None or entry.kind != "file" or (which := identity(path, entry)) in done:
            continue
        done.add(which)
        _file_steps(sorted(members.get(which, [path])), now, goal, wanted, single, result)
    result.last = _last_steps(wanted, result)
    return result


def _file_steps(
    names: list[str],
    now: Tree,
    goal: Tree,
    wanted: Mapping[str, Entry | None],
    names_now: Counter[Hashable],
    result: Steps,
) -> None:
    """What one file needs that is to have these names, and no others."""
    here = Counter(identity(n, now[n]) for n in names if n in now)

    def is_in_place(name: str) -> bool:
        have = now.get(name)
        if have is None or (have.kind, have.key) != ("file", goal[name].key):
            return False
        which = identity(name, have)
        return not have.twin or here[which] == names_now[which]

    staying = next((name for name in names if name not in wanted), None)
    kept = staying or next((name for name in names if is_in_place(name)), None)
    if kept is None:
        kept = names[0]
        result.contents[kept] = goal[kept]
        inode = None
    else:
        inode = identity(kept, now[kept])
    for name in names:
        linked = name in now and inode == identity(name, now[name])
        if name != kept and name in wanted and not linked:
            result.names[name] = kept


def _first_steps(now: Tree, wanted: Mapping[str, Entry | None]) -> list[Step]:
    """Remove what goes, deepest first; then make directories and links."""
    found: list[Step] = []
    for path in sorted(wanted, reverse=True):
        entry, have = wanted[path], now.get(path)
        if have is None:
            continue
        if entry is None or (entry.kind != have.kind and "directory" in (entry.kind, have.kind)):
            found.append({"do": "remove", "path": path})
    for path in sorted(wanted):
        entry = wanted[path]
        if entry is not None and entry.kind == "directory":
            found.append({"do": "directory", "path": path, "mode": entry.mode | 0o700})
        elif entry is not None and entry.kind == "link":
            found.append({"do": "link", "path": path, "target": entry.key})
    return found


def _last_steps(wanted: Mapping[str, Entry | None], done: Steps) -> list[Step]:
    """Modes: of files that keep their content, and of directories now that they are full."""
    found: list[Step] = []
    for path in sorted(wanted, reverse=True):
        entry = wanted[path]
        if entry is None or entry.kind not in ("directory", "file"):
            continue
        if entry.kind == "directory" or not (path in done.contents or path in done.names):
            found.append({"do": "mode", "path": path, "mode": entry.mode})
    return found
