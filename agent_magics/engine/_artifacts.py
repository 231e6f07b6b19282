"""
Artifacts: named results of a session.

What the agent publishes is copied into the store and stays as it was, until something else is
published under the same key. The files below `/workspace/artifacts` are artifacts too, read when
somebody asks; where both have a key the published one is meant.

Of each turn that published a key one version is kept; the latest counts. When turns are reverted
their versions go out of sight and the ones before them count again.
"""

from __future__ import annotations

import json
import mimetypes
import posixpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent_magics.sandbox import Sandbox
from agent_magics.wire import ArtifactChangeJSON, ArtifactJSON, spelled_name

from ._errors import ArtifactNotFound, file_errors
from ._ids import now_ms
from ._log import EventLog
from ._names import meant_path
from ._paths import ARTIFACTS, container_path, is_below
from ._sessions import Session, shelf
from ._store import Store
from ._text import dumps, well_formed

if TYPE_CHECKING:
    from ._containers import Containers

__all__ = [
    "LARGEST_ARTIFACT",
    "ArtifactBook",
    "ArtifactError",
    "artifact_changes",
    "artifact_key",
    "copy_artifacts",
]

LARGEST_ARTIFACT = 32 << 20
"""Bytes of one published artifact."""
LARGEST_TOTAL = 256 << 20
"""Bytes of all published artifacts of a session, and again of all that others have replaced."""
_LONGEST_KEY = 200
_KEYS_NAMED = 20

_UPSERT = """
INSERT INTO artifact_version(session_id, key, message_id, info, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(session_id, key, message_id) DO UPDATE SET info = excluded.info, data = excluded.data
"""
_LATEST = """
SELECT {columns} FROM artifact_version WHERE data IS NOT NULL AND rowid IN
(SELECT max(rowid) FROM artifact_version WHERE session_id = ? GROUP BY key)
"""


class ArtifactError(Exception):
    """The artifact can't be published; the message says why."""


def artifact_key(key: str) -> str:
    """
    `key`, checked: a relative path without `.`, `..` and empty parts. Raises ArtifactError.

    Nothing is normalised: what is published as a key is found under the same key.
    """
    if not key or len(key) > _LONGEST_KEY:
        raise ArtifactError(f"A key has 1 to {_LONGEST_KEY} characters.")
    if key != well_formed(key) or any(ord(c) < 32 or ord(c) == 127 for c in key):
        raise ArtifactError("A key can't have control characters or broken ones.")
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise ArtifactError("A key is a name or a relative path without `.`, `..` and `//`.")
    return key


def default_key(path: str) -> str:
    """The key of a file that is published without one."""
    absolute = container_path(path)
    if is_below(absolute, ARTIFACTS) and absolute != ARTIFACTS:
        return absolute.removeprefix(ARTIFACTS + "/")
    return posixpath.basename(absolute)


class ArtifactBook:
    """The artifacts of all sessions."""

    def __init__(self, store: Store, log: EventLog, containers: Containers) -> None:
        self._store = store
        self._log = log
        self._containers = containers

    async def publish(
        self,
        session: Session,
        message_id: str,
        path: str,
        data: bytes,
        key: str | None,
        description: str,
    ) -> ArtifactJSON:
        """Keep a copy of a file's content, for this message's turn. Raises ArtifactError."""
        key = artifact_key(key or default_key(path))
        if len(data) > LARGEST_ARTIFACT:
            raise ArtifactError(too_large(path))
        total, replaced = await self._sizes(session.id, key, message_id)
        if total + len(data) > LARGEST_TOTAL:
            raise ArtifactError(
                f"The session's artifacts would have more than {LARGEST_TOTAL >> 20} MB together. "
                "Publish under a key that exists, which replaces it, or leave the file in "
                f"{ARTIFACTS}, where it is an artifact without being copied."
            )
        info = _info(key, container_path(path), len(data), now_ms(), "published", description)
        with self._store.group():
            self._store.put(_UPSERT, session.id, key, message_id, dumps(info), data)
            for row in _too_much(replaced):  # the row stays: an older version must not count
                self._store.put("UPDATE artifact_version SET data = NULL WHERE rowid = ?", row)
            self._log.publish(
                session.id, "artifact.created", {"sessionID": session.id, "artifact": info}
            )
        return info

    async def all(self, session: Session) -> list[ArtifactJSON]:
        """What is published and what lies in the folder, by key. Raises SandboxUnavailable."""
        sandbox = await self._containers.started(session)
        rows = await self._store.read(_LATEST.format(columns="key, info"), session.id)
        found = {info["key"]: info for info in await _folder(sandbox)}
        found.update((key, json.loads(info)) for key, info in rows)
        return [found[key] for key in sorted(found)]

    async def read(self, session: Session, key: str) -> tuple[bytes, str]:
        """
        An artifact's bytes and its media type.

        Raises ArtifactNotFound, and SandboxUnavailable for one that is not published.
        """
        latest = _LATEST.format(columns="data, info") + "AND key = ?"
        rows = await self._store.read(latest, session.id, well_formed(key))
        if rows:
            return rows[0][0], json.loads(rows[0][1])["mime"]
        sandbox = await self._containers.started(session)
        try:
            path = posixpath.join(ARTIFACTS, artifact_key(key))
            with file_errors():
                try:
                    return await sandbox.read_file(await meant_path(sandbox, path)), _mime(key)
                except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                    raise ArtifactError("There is no such file.") from None
        except ArtifactError:
            raise self._missing(key, [a["key"] for a in await self.all(session)]) from None

    def _missing(self, key: str, keys: list[str]) -> ArtifactNotFound:
        named = ", ".join(keys[:_KEYS_NAMED]) + (", ..." if len(keys) > _KEYS_NAMED else "")
        there = f"There is: {named}." if keys else "This session has none."
        return ArtifactNotFound(f"There is no artifact {key}. {there}", key=key, keys=keys)

    async def _sizes(self, session_id: str, key: str, message_id: str) -> tuple[int, list[_Size]]:
        """
        Bytes of all artifacts but `key`, and the versions that are replaced when this turn
        publishes `key`, oldest first.
        """
        rows = await self._store.read(
            "SELECT rowid, key, message_id, coalesce(length(data), 0) FROM artifact_version "
            "WHERE session_id = ? ORDER BY rowid",
            session_id,
        )
        latest = {row[1]: row[0] for row in rows if row[1] != key}
        total, replaced = 0, []
        for row_id, row_key, row_message, size in rows:
            if latest.get(row_key) == row_id:
                total += size
            elif (row_key, row_message) != (key, message_id):
                replaced.append(_Size(row_id, size))
        return total, replaced


class _Size(NamedTuple):
    row_id: int
    size: int


def _too_much(replaced: Sequence[_Size]) -> list[int]:
    """The oldest of these rows, as far as together they are more than is kept."""
    excess = sum(version.size for version in replaced) - LARGEST_TOTAL
    found = []
    for version in replaced:
        if excess <= 0:
            break
        found.append(version.row_id)
        excess -= version.size
    return found


async def artifact_changes(
    store: Store, session_id: str, removed: Sequence[str]
) -> list[ArtifactChangeJSON]:
    """What becomes of published artifacts when just these messages are taken back."""
    rows = await store.read(
        "SELECT rowid, key, message_id, session_id, data IS NULL FROM artifact_version "
        "WHERE session_id IN (?, ?) ORDER BY rowid",
        session_id,
        shelf(session_id),
    )
    gone = set(removed)
    now = {row[1]: row for row in rows if row[3] == session_id}
    then = {row[1]: row for row in rows if row[2] not in gone}
    found: list[ArtifactChangeJSON] = []
    for key in sorted(now.keys() | then.keys()):
        before, after = now.get(key), then.get(key)
        had, has = (row is not None and not row[4] for row in (before, after))
        if had and has and before != after:
            found.append({"key": key, "status": "modified"})
        elif had != has:
            found.append({"key": key, "status": "added" if has else "deleted"})
    return found


def copy_artifacts(store: Store, source: str, target: str, message_ids: Mapping[str, str]) -> None:
    """Give the session `target` what these messages published in `source`: old id -> new id."""
    for old, new in message_ids.items():
        store.put(
            "INSERT INTO artifact_version(session_id, key, message_id, info, data) "
            "SELECT ?, key, ?, info, data FROM artifact_version "
            "WHERE session_id = ? AND message_id = ? ORDER BY rowid",
            target,
            new,
            source,
            old,
        )


def too_large(path: str) -> str:
    return (
        f"{path} is larger than {LARGEST_ARTIFACT >> 20} MB, too large to be published. Leave it "
        f"in {ARTIFACTS}: files there are artifacts without being copied."
    )


async def _folder(sandbox: Sandbox) -> list[ArtifactJSON]:
    """The files of the artifacts' folder whose names can be keys."""
    try:
        files = await sandbox.list_files(ARTIFACTS, recursive=True)
    except OSError:
        return []
    found = []
    for file in files:
        path = spelled_name(file.path)
        key = path.removeprefix(ARTIFACTS + "/")
        try:
            if file.kind == "file" and artifact_key(key):
                found.append(_info(key, path, file.size, file.mtime, "folder", ""))
        except ArtifactError:
            continue  # it is still there for those who ask for the file
    return found


def _info(
    key: str, path: str, size: int, created: int, source: str, description: str
) -> ArtifactJSON:
    return {
        "key": key,
        "path": path,
        "mime": _mime(key) if "." in key else _mime(path),
        "size": size,
        "description": description,
        "source": source,
        "time": {"created": created},
    }


def _mime(name: str) -> str:
    return mimetypes.guess_type(posixpath.basename(name))[0] or "application/octet-stream"
