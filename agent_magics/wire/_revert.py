"""What users hold of reverts and diffs. `from_json` as in `_objects`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ArtifactChange", "FileDiff", "RevertPreview", "RevertResult", "SkippedFile"]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """
    A changed file. `path` is relative to /workspace and ends in a slash for a directory.

    `status`: added, modified or deleted. `patch` is a unified diff; empty for what is no text, is
    long, or only changed its mode. `additions`, `deletions`: lines.
    """

    path: str
    status: str = "modified"
    additions: int = 0
    deletions: int = 0
    patch: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileDiff:
        return cls(
            str(data.get("file") or data.get("path") or ""),
            str(data.get("status") or "modified"),
            int(data.get("additions", 0)),
            int(data.get("deletions", 0)),
            str(data.get("patch") or ""),
        )


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A changed file that a revert leaves as it is, and why. "." stands for all of a turn's."""

    path: str
    reason: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SkippedFile:
        return cls(str(data["path"]), str(data.get("reason") or ""))


@dataclass(frozen=True, slots=True)
class ArtifactChange:
    """
    What becomes of an artifact that the agent published. `status`: deleted; modified, it has its
    earlier content again; added, when a revert further back is exchanged for a nearer one.
    """

    key: str
    status: str = "modified"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArtifactChange:
        return cls(str(data["key"]), str(data.get("status") or "modified"))


@dataclass(frozen=True, slots=True)
class RevertResult:
    """
    What a revert did. `message_id`: the first message that it removed, always a user's.

    `messages`: how many it removed. `files`: what it did to files. `skipped`: what it could not
    undo, for example files too large for snapshots. `artifacts`: what it did to published ones;
    those in the folder /workspace/artifacts are files.
    """

    message_id: str
    messages: int = 0
    files: tuple[FileDiff, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    artifacts: tuple[ArtifactChange, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RevertResult:
        return cls(
            str(data["messageID"]),
            int(data.get("messages", 0)),
            tuple(FileDiff.from_json(file) for file in data.get("files") or ()),
            tuple(SkippedFile.from_json(file) for file in data.get("skipped") or ()),
            tuple(ArtifactChange.from_json(change) for change in data.get("artifacts") or ()),
        )


@dataclass(frozen=True, slots=True)
class RevertPreview:
    """
    What a revert would do; as in `RevertResult`.

    With `conflicts`, paths that somebody else changed since, it would be refused.
    """

    message_id: str
    messages: int = 0
    files: tuple[FileDiff, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    conflicts: tuple[str, ...] = ()
    artifacts: tuple[ArtifactChange, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RevertPreview:
        done = RevertResult.from_json(data)
        conflicts = tuple(str(path) for path in data.get("conflicts") or ())
        return cls(
            done.message_id, done.messages, done.files, done.skipped, conflicts, done.artifacts
        )
