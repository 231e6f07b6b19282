"""What lies in the engine's data directory without a session that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

__all__ = [
    "KeptStore",
    "KeptStoreJSON",
    "RecoverBody",
    "Unclaimed",
    "UnclaimedJSON",
    "UnclaimedWorkspace",
    "UnclaimedWorkspaceJSON",
]


class UnclaimedWorkspaceJSON(TypedDict):
    """`size` in bytes, at least where `complete` is false; `newest` in ms since the epoch."""

    name: str
    path: str
    size: int
    complete: bool
    newest: int


class KeptStoreJSON(TypedDict):
    """A database, or a part of one, that was replaced or copied. `size` in bytes."""

    path: str
    size: int
    damaged: bool


class UnclaimedJSON(TypedDict):
    workspaces: list[UnclaimedWorkspaceJSON]
    stores: list[KeptStoreJSON]


class RecoverBody(TypedDict):
    """`name`: that of an unclaimed workspace, or the id of a session whose record is damaged."""

    name: str


@dataclass(frozen=True, slots=True)
class UnclaimedWorkspace:
    """
    Files of a session that the engine does not know.

    `name` is what `recover_session()` takes, `path` where they are on the engine's machine. `size`
    is in bytes; `complete` is False when measuring it took too long and it is larger. `newest` is
    the time of the latest change, in milliseconds since the epoch, 0 when nothing is there.
    """

    name: str
    path: str
    size: int
    complete: bool
    newest: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UnclaimedWorkspace:
        return cls(
            str(data["name"]),
            str(data["path"]),
            int(data["size"]),
            bool(data["complete"]),
            int(data["newest"]),
        )


@dataclass(frozen=True, slots=True)
class KeptStore:
    """
    A database that the engine keeps beside its own: a copy made before a migration, or, `damaged`,
    one that was replaced by what could be read of it. `size` is in bytes.
    """

    path: str
    size: int
    damaged: bool

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KeptStore:
        return cls(str(data["path"]), int(data["size"]), bool(data["damaged"]))


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """What the engine keeps without a session, and never deletes by itself."""

    workspaces: tuple[UnclaimedWorkspace, ...]
    stores: tuple[KeptStore, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unclaimed:
        return cls(
            tuple(UnclaimedWorkspace.from_json(each) for each in data["workspaces"]),
            tuple(KeptStore.from_json(each) for each in data["stores"]),
        )
