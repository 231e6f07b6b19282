"""
What the workspace contained, and what has to change to undo what turns did to it. No I/O.

A change is undone only where the file is still as the turn left it: what somebody else changed
since is a conflict, never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ._links import joined, relinked

__all__ = ["Change", "Entry", "Plan", "Tree", "changes", "net_changes", "overlay", "plan", "same"]


class Entry(NamedTuple):
    """
    One entry of a tree. `kind`: file, directory, link, other, closed.

    `key` names the stored content of a file and is the target of a link. An entry that is not
    stored has a key that starts with `?` and says why; it can be compared but not brought back.
    `ctime` and `inode` only serve to see that nothing changed; a `ctime` of 0 says that they don't.
    Files with the same `twin`, mode and key are names of one file, hard links; "": it has no other.
    """

    kind: str
    mode: int
    key: str
    size: int
    mtime: int
    ctime: int
    inode: int
    twin: str = ""

    @property
    def stored(self) -> bool:
        return self.kind == "link" or not self.key.startswith("?")

    @property
    def reason(self) -> str:
        """Why it is not stored."""
        return "" if self.stored else self.key[1:].partition(":")[0]


Tree = Mapping[str, Entry]
"""By path below the workspace."""


def same(one: Entry | None, other: Entry | None) -> bool:
    """Whether kind, mode and content are the same; times and other names don't count."""
    if one is None or other is None:
        return one is other
    return one[:3] == other[:3]


def changes(before: Tree, after: Tree) -> dict[str, tuple[Entry | None, Entry | None]]:
    """
    What is not the same, by path. Files of both trees that are names of one file in one of them
    only have changed as well, though each of them is the same.
    """
    if before is after:
        return {}
    moved = relinked(before, after)
    return {
        path: (before.get(path), after.get(path))
        for path in before.keys() | after.keys()
        if path in moved or not same(before.get(path), after.get(path))
    }


def overlay(tree: Tree, wanted: Mapping[str, Entry | None]) -> dict[str, Entry]:
    """The tree with these entries instead of its own."""
    result = dict(tree)
    for path, entry in wanted.items():
        if entry is None:
            result.pop(path, None)
        else:
            result[path] = entry
    return result


@dataclass(frozen=True)
class Change:
    """
    What was done to the workspace at a time. `foreign`: paths that others wrote meanwhile.

    `problem` says why nothing is known; then both trees are empty.
    """

    before: Tree = field(default_factory=dict)
    after: Tree = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    problem: str = ""


@dataclass
class Plan:
    """
    How to undo. `wanted`: the entry that each path shall have, None for nothing.

    Of files that shall be names of one file again all are wanted, also those that are as they
    shall be. `conflicts`: paths that somebody else changed. `skipped`: path -> why it stays.
    """

    wanted: dict[str, Entry | None] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


class _Goal(NamedTuple):
    """`target` is the entry in the tree `origin`; `relinked`: its other names changed."""

    target: Entry | None
    expected: Entry | None
    disputed: bool
    origin: Tree
    relinked: bool


def _goals(done: Iterable[Change]) -> dict[str, _Goal]:
    goals: dict[str, _Goal] = {}
    for change in done:
        for path, (before, after) in changes(change.before, change.after).items():
            disputed, origin, moved = path in change.foreign, change.before, same(before, after)
            if known := goals.get(path):
                disputed = disputed or known.disputed or not same(known.expected, before)
                before, origin, moved = known.target, known.origin, moved or known.relinked
            goals[path] = _Goal(before, after, disputed, origin, moved)
    return goals


def net_changes(done: Iterable[Change]) -> dict[str, tuple[Entry | None, Entry | None]]:
    """What the changes come to together, by path: before the first and after the last of them."""
    goals = _goals(done).items()
    return {p: (g.target, g.expected) for p, g in goals if not same(g.target, g.expected)}


def plan(done: Sequence[Change], now: Tree) -> Plan:
    """How to undo `done`, in the order in which it was done, where `now` is what there is."""
    result = Plan()
    for change in done:
        if change.problem:
            result.skipped["."] = change.problem
    goals = _goals(done)
    for path, goal in goals.items():
        have = now.get(path)
        if same(have, goal.target):
            continue
        if goal.disputed or not same(have, goal.expected):
            result.conflicts.append(path)
        elif problem := _unstored(goal.target) or _unstored(have):
            result.skipped[path] = problem
        else:
            result.wanted[path] = goal.target
    _keep_directories(result, now)
    _add_parents(result, now, done)
    for path, goal in goals.items():
        if goal.relinked and goal.target is not None and same(now.get(path), goal.target):
            result.wanted.setdefault(path, goal.target)
    result.wanted = joined(result.wanted, {p: g.origin for p, g in goals.items()}, now)
    result.conflicts.sort()
    return result


def _unstored(entry: Entry | None) -> str:
    return "" if entry is None or entry.stored else entry.key[1:].partition(":")[0]


def _keep_directories(result: Plan, now: Tree) -> None:
    """Directories in which something stays are not removed."""
    staying = {path for path in now if path not in result.wanted}
    staying |= {path for path, entry in result.wanted.items() if entry is not None}
    needed = {parent for path in staying for parent in _parents(path)}
    for path in needed & result.wanted.keys():
        entry = result.wanted[path]
        if entry is None:
            del result.wanted[path]
        elif entry.kind != "directory":
            del result.wanted[path]
            result.conflicts.append(path)


def _add_parents(result: Plan, now: Tree, done: Sequence[Change]) -> None:
    """Directories that what comes back needs, and that somebody has taken away."""
    for path in [p for p, entry in result.wanted.items() if entry is not None]:
        for parent in _parents(path):
            entry = result.wanted.get(parent) or now.get(parent)
            if entry is None:
                result.wanted[parent] = _directory(parent, done)
            elif entry.kind == "closed":
                result.skipped[path] = "its directory is closed"
                result.wanted.pop(path, None)
            elif entry.kind != "directory":
                result.conflicts.append(parent)
                result.wanted.pop(path, None)


def _directory(path: str, done: Sequence[Change]) -> Entry:
    for change in done:
        entry = change.before.get(path)
        if entry is not None and entry.kind == "directory":
            return entry
    return Entry("directory", 0o755, "", 0, 0, 0, 0)


def _parents(path: str) -> Iterable[str]:
    """The nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
