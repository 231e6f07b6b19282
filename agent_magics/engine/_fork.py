"""
Copies of sessions: everything up to a message, under new ids, in a container of its own.

The workspace is copied through the two containers: what snapshots keep comes from there, the rest
(large files, `.cache`, `.local`) directly. Processes and /tmp are not copied.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from agent_magics.sandbox import Sandbox, TreeRow
from agent_magics.wire import MessageJSON, SkippedJSON

from ._artifacts import copy_artifacts
from ._checkpoints import Checkpoint, Checkpoints
from ._errors import file_errors
from ._ids import new_id, now_ms
from ._messages import counted
from ._plan import Tree
from ._revert import turn_start
from ._sessions import Session, SessionBook, Usage
from ._snapshots import EXCLUDED, NOT_STORED, VANISHED, Snapshots
from ._store import Store

if TYPE_CHECKING:
    from ._containers import Containers
    from ._messages import MessageBook
    from ._revert import Reverts

__all__ = ["Forks", "forked_title"]

_TITLE = re.compile(r"(.+) \(fork #(\d+)\)", re.DOTALL)


def forked_title(title: str) -> str:
    """The title of a copy: "… (fork #1)"; of a copy of that, "… (fork #2)"."""
    match = _TITLE.fullmatch(title)
    if match is None:
        return f"{title} (fork #1)"
    return f"{match[1]} (fork #{int(match[2]) + 1})"


@dataclass(frozen=True)
class _Origin:
    """What is copied. `tree`: the workspace; `present`: it is what there is now."""

    session: Session
    messages: Sequence[MessageJSON]
    checkpoints: Sequence[Checkpoint]
    context_used: int | None
    tree: Tree
    present: bool


class Forks:
    def __init__(
        self,
        store: Store,
        sessions: SessionBook,
        messages: MessageBook,
        containers: Containers,
        checkpoints: Checkpoints,
        snapshots: Snapshots,
        reverts: Reverts,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._messages = messages
        self._containers = containers
        self._checkpoints = checkpoints
        self._snapshots = snapshots
        self._reverts = reverts

    async def fork(
        self, session: Session, message_id: str | None
    ) -> tuple[Session, list[SkippedJSON]]:
        """
        A copy of the session as it is, or as it was before the turn of this message: then with
        the files that the turn found when it, or a later one, first changed any.

        And what of the workspace could not be copied, with the reason, by path.

        Raises MessageNotFound, SessionBusy, and what files and containers raise.
        """
        with self._reverts.alone(session, "a fork"):
            await self._reverts.settle(session)
            await self._store.require_room()
            origin = await self._origin(session, message_id)
            copy = _new_session(origin)
            try:
                await self._containers.begin(copy)
                with file_errors():
                    skipped = await self._copy_files(origin, copy)
            except BaseException:
                await self._containers.destroy(copy)
                await self._snapshots.forget(copy.id)
                raise
            with self._store.group():
                self._sessions.add(copy)
                self._copy_rows(origin, copy)
        await self._store.flushed()
        await self._containers.made(copy)
        return copy, [{"path": path, "reason": why} for path, why in sorted(skipped.items())]

    async def _origin(self, session: Session, message_id: str | None) -> _Origin:
        messages = await self._messages.history(session.id)
        checkpoints = await self._checkpoints.of_session(session.id)
        if message_id is None:
            tree, used = await self._present(session), session.usage.context_used
            return _Origin(session, messages, checkpoints, used, tree, True)
        rows = await self._store.read(
            "SELECT message_id FROM turn WHERE session_id = ?", session.id
        )
        turns = {row[0] for row in rows}
        kept = messages[: turn_start([m["info"]["id"] for m in messages], turns, message_id)]
        ids = {m["info"]["id"] for m in kept}
        later = [c for c in checkpoints if c.message_id not in ids]
        used = later[0].context_used if later else None
        found = next((c.before for c in later if c.before), "")
        if found:
            tree = await self._snapshots.tree(session.id, found)
        else:
            tree = await self._present(session)
        earlier = [c for c in checkpoints if c.message_id in ids]
        origin = _Origin(session, kept, earlier, used, tree, not found)
        return replace(origin, session=_with_todos(session, later))

    async def _present(self, session: Session) -> Tree:
        sandbox = await self._containers.started(session)
        with file_errors():
            key = await self._snapshots.take(session.id, sandbox)
        return await self._snapshots.tree(session.id, key)

    # -- files

    async def _copy_files(self, origin: _Origin, copy: Session) -> dict[str, str]:
        """What could not be copied, and why."""
        source = await self._containers.started(origin.session)
        target = await self._containers.started(copy)
        await self._snapshots.clone(origin.session.id, copy.id)
        stored = {path: entry for path, entry in origin.tree.items() if entry.stored}
        await self._snapshots.restore(copy.id, target, {}, stored, stored)
        rows = [row for row in await source.tree.scan() if _is_untracked(row, origin)]
        skipped = await _copy_rows(source, target, rows)
        untracked = {row.path for row in rows}
        for path, entry in origin.tree.items():
            if not entry.stored and path not in untracked:
                skipped[path] = entry.reason
        return skipped

    # -- rows

    def _copy_rows(self, origin: _Origin, copy: Session) -> None:
        new_ids = {m["info"]["id"]: new_id("msg") for m in origin.messages}
        for message in origin.messages:
            info = message["info"]
            copied = {**info, "id": new_ids[info["id"]], "sessionID": copy.id}
            if "parentID" in info:
                copied["parentID"] = new_ids.get(info["parentID"], info["parentID"])
            self._messages.save_info(copied)  # type: ignore[arg-type]
            for part in message["parts"]:
                ids = {"id": new_id("prt"), "messageID": copied["id"], "sessionID": copy.id}
                self._messages.save_part({**part, **ids})  # type: ignore[typeddict-item]
        for old, new in new_ids.items():
            self._store.put(
                "INSERT INTO turn(message_id, session_id, running, history) "
                "SELECT ?, ?, 0, history FROM turn WHERE message_id = ?",
                new,
                copy.id,
                old,
            )
        copy_artifacts(self._store, origin.session.id, copy.id, new_ids)
        for checkpoint in origin.checkpoints:
            if checkpoint.message_id in new_ids:
                message_id = new_ids[checkpoint.message_id]
                self._checkpoints.save(
                    replace(checkpoint, session_id=copy.id, message_id=message_id)
                )


def _copy_of(session: Session) -> Session:
    """Another object with the same values."""
    return Session.from_record(json.loads(json.dumps(asdict(session))))


def _with_todos(session: Session, later: Sequence[Checkpoint]) -> Session:
    """The session as far as it is copied: with the todos it had before these turns."""
    found = _copy_of(session)
    found.error = None
    if later:
        found.todos = later[0].todos
    return found


def _new_session(origin: _Origin) -> Session:
    """A copy that is nobody's child, with its own container and no standing permissions."""
    copy = _copy_of(origin.session)
    copy.id = new_id("ses")
    copy.created = copy.updated = now_ms()
    copy.title, copy.titled = forked_title(copy.title), True
    copy.parent_id = copy.container = copy.revert = None
    copy.archived = 0
    copy.standing = []
    copy.started_by, copy.hidden, copy.gone = None, False, Usage()
    copy.usage = _usage(origin)
    return copy


def _usage(origin: _Origin) -> Usage:
    """What the copied messages cost."""
    usage = counted(origin.messages)
    usage.context_used = origin.context_used
    usage.context_limit = origin.session.usage.context_limit
    return usage


def _is_untracked(row: TreeRow, origin: _Origin) -> bool:
    """Whether snapshots don't keep it, and the copy shall have it."""
    if row.path.partition("/")[0] in EXCLUDED:
        return True
    entry = origin.tree.get(row.path)
    if row.kind != "file" or entry is None or entry.stored:
        return False
    return (row.size, row.mtime, row.inode) == (entry.size, entry.mtime, entry.inode)


class _Unreadable(Exception):
    """The original can't be read, for the reason that `error` gives."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


async def _copy_rows(source: Sandbox, target: Sandbox, rows: Sequence[TreeRow]) -> dict[str, str]:
    """What could not be read of the original is left out; of that, paths and reasons."""
    directories = [row for row in rows if row.kind == "directory"]
    links = [row for row in rows if row.kind == "link"]
    make = [{"do": "directory", "path": d.path, "mode": d.mode | 0o700} for d in directories]
    link = [{"do": "link", "path": row.path, "target": row.target} for row in links]
    await target.tree.change([*make, *link])
    copied, skipped = set(), {}
    for row in rows:
        if row.kind in NOT_STORED:
            skipped[row.path] = NOT_STORED[row.kind]
        elif row.kind == "file" and row.target in copied:
            await target.tree.change([{"do": "name", "path": row.path, "source": row.target}])
        elif row.kind == "file":
            content = _content(source, row.path)
            try:
                await target.tree.put(row.path, content, mode=row.mode, mtime=row.mtime)
                copied.add(row.path)
            except _Unreadable as unreadable:
                if unreadable.error.errno not in VANISHED:
                    skipped[row.path] = f"it can't be read: {unreadable.error.strerror}"
    modes = [{"do": "mode", "path": d.path, "mode": d.mode} for d in reversed(directories)]
    await target.tree.change(modes)
    return skipped


async def _content(source: Sandbox, path: str) -> AsyncIterator[bytes]:
    try:
        async for data in source.tree.read(path):
            yield data
    except OSError as error:
        raise _Unreadable(error) from error
