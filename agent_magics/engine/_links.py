"""
Hard links: several names of one file, in trees that know them by their `twin`. No I/O.

Nothing here takes longer than the trees are long: a container can give one file 60,000 names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._plan import Entry, Tree

__all__ = ["groups", "identity", "joined", "relinked"]

Wanted = Mapping[str, "Entry | None"]


def identity(path: str, entry: Entry) -> Hashable:
    """The same for all names of a file in a tree."""
    return (entry.twin, entry.mode, entry.key) if entry.twin else path


def groups(tree: Tree) -> dict[Hashable, list[str]]:
    """The names of each file that may have several."""
    found: defaultdict[Hashable, list[str]] = defaultdict(list)
    for path, entry in tree.items():
        if entry.twin:
            found[identity(path, entry)].append(path)
    return dict(found)


def relinked(before: Tree, after: Tree) -> set[str]:
    """Files of both trees that have another of these files as a name in one tree only."""
    if not any(entry.twin for tree in (before, after) for entry in tree.values()):
        return set()
    both = [p for p, e in before.items() if e.kind == "file" and _is_file(after.get(p))]
    old = {path: identity(path, before[path]) for path in both}
    new = {path: identity(path, after[path]) for path in both}
    before_names, after_names = Counter(old.values()), Counter(new.values())
    shared = Counter((old[path], new[path]) for path in both)
    return {
        path
        for path in both
        if not before_names[old[path]] == after_names[new[path]] == shared[old[path], new[path]]
    }


def _is_file(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == "file"


def joined(wanted: Wanted, origins: Mapping[str, Tree], now: Tree) -> dict[str, Entry | None]:
    """
    `wanted`, such that its files are names of one file where they were in the trees they come from.

    `origins`: that tree, by path. Names that are in place already are added. A name that is to
    have, or has `now`, another content or mode is not one of them.
    """
    result = dict(wanted)
    classes = _Classes()
    done: set[Hashable] = set()
    names_of = {id(tree): groups(tree) for tree in {id(t): t for t in origins.values()}.values()}
    names_now = groups(now)
    for path, entry in wanted.items():
        if entry is None or not entry.twin or path not in origins:
            continue
        which = identity(path, entry)
        if (id(origins[path]), which) in done:
            continue
        done.add((id(origins[path]), which))
        names = [
            name
            for name in names_of[id(origins[path])].get(which, ())
            if _fits(wanted[name] if name in wanted else now.get(name), entry, name in wanted)
        ]
        classes.join(names)
        for name in names:  # what has become another name of it meanwhile stays one
            have = now.get(name)
            if have is None or have[:3] != entry[:3]:
                continue
            if (which, here := identity(name, have)) not in done:
                done.add((which, here))
                classes.join([name, *(n for n in names_now.get(here, ()) if n not in wanted)])
    twins = classes.twins()
    for path in twins.keys() | {p for p, entry in wanted.items() if entry and entry.twin}:
        entry = wanted[path] if path in wanted else now[path]
        result[path] = entry and entry._replace(twin=twins.get(path, ""))
    return result


def _fits(entry: Entry | None, other: Entry, is_wanted: bool) -> bool:
    same = entry is not None and entry[:3] == other[:3]
    return same and (not is_wanted or entry is None or entry.twin != "")


class _Classes:
    """Paths that belong together, directly or through others."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def join(self, paths: Iterable[str]) -> None:
        top: str | None = None
        for path in paths:
            found = self._top(path)
            if top is not None:
                self._above[found] = top
            top = self._top(path)

    def _top(self, path: str) -> str:
        while (above := self._above.setdefault(path, path)) != path:
            self._above[path] = self._above[above]
            path = above
        return path

    def twins(self) -> dict[str, str]:
        """Of each path that has others: the first of them all."""
        members: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._above:
            members[self._top(path)].append(path)
        firsts = ((min(paths), paths) for paths in members.values() if len(paths) > 1)
        return {path: first for first, paths in firsts for path in paths}
