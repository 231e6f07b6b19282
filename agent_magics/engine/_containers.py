"""
The container of each session: made on demand, kept while the session lives.

Sessions of sub-agents work in the container of the session that they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent_magics.sandbox import (
    Limits,
    Network,
    PythonEnv,
    Sandbox,
    SandboxError,
    SandboxGone,
    SandboxUnavailable,
    end_leftovers,
    remove_tree,
)

from ._container_limits import lowered
from ._database import sync_directory
from ._live import LiveRuns
from ._log import EventLog
from ._sessions import Session

__all__ = ["Containers"]

log = logging.getLogger(__name__)

_JOBS_PATIENCE = 5.0
_REST_PATIENCE = 10.0
"""Seconds that ending what is elsewhere may take at the start."""
_MAKING = ".making"
"""In the directory of a session that is being made."""
_ENDED_MARK = ".ended"
"""In that of a session that was ended while the store was full."""
_MISSING = "The files of this session were lost; /workspace was empty when it was started again."
_ENDED = (
    "The container had ended and was started again: files are kept, processes that ran in the "
    "background are gone."
)

OpenSandbox = Callable[..., Sandbox]
"""Called with `root`, `provider=`, `python=` and `limits=`; with `network=` if it has one."""


class Containers:
    """`root` holds one directory per session. All methods run on the engine's loop."""

    def __init__(
        self,
        root: Path,
        open_sandbox: OpenSandbox,
        log: EventLog,
        provider: str = "auto",
        network_of: Callable[[Session], Network | None] = lambda session: None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        """What a container may use; a session may have asked for less."""
        self.runs = LiveRuns()
        """Commands that somebody outside of turns follows."""
        self._root = root
        self._open = open_sandbox
        self._log = log
        self._provider = provider
        self._network_of = network_of
        self._sandboxes: dict[str, Sandbox] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._uses: Counter[str] = Counter()
        self._running: set[str] = set()
        self._stopping: set[str] = set()
        self._notices: dict[str, str] = {}
        self.making: set[str] = set()
        """Sessions that are being made."""
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, session: Session) -> Sandbox:
        """The session's sandbox, started or not. Raises SandboxUnavailable, SandboxGone."""
        if session.ended:
            raise SandboxGone("the session was deleted")
        owner = session.container or session.id
        found = self._sandboxes.get(owner)
        if found is None:
            wanted = self._provider if session.sandbox == "auto" else session.sandbox
            python = session.python and PythonEnv(
                str(session.python["executable"]), tuple(session.python["prefixes"])
            )
            network = self._network_of(session)
            options = {} if network is None else {"network": network}
            found = self._open(
                self._root / owner,
                provider=wanted,
                python=python or None,
                limits=lowered(self.limits, session.bounds),
                **options,
            )
            self._sandboxes[owner] = found
        session.provider, session.isolated = found.provider, found.isolated
        session.allowance = asdict(found.limits)
        return found

    async def started(self, session: Session) -> Sandbox:
        """The session's sandbox, running. Raises SandboxUnavailable, SandboxGone."""
        sandbox = self.get(session)
        owner = session.container or session.id
        if session.listed and session.id in self.making:  # whoever made it was not answered
            await self.made(session)
        self._uses[owner] += 1
        if sandbox.alive and owner not in self._stopping:
            return sandbox
        async with self._starting.setdefault(owner, asyncio.Lock()):
            if not sandbox.alive:
                try:
                    await self._start(sandbox, owner)
                except SandboxUnavailable as error:
                    self._announce(session, "error", error.reason)
                    raise
                session.provider, session.isolated = sandbox.provider, sandbox.isolated
                if owner in self._running:
                    self._notices.setdefault(owner, _ENDED)
                self._running.add(owner)
                self._announce(session, "running")
        return sandbox

    async def _start(self, sandbox: Sandbox, owner: str) -> None:
        """Raises SandboxUnavailable, also where the session's files can't be used."""
        try:
            await sandbox.start()
        except PermissionError as error:
            raise SandboxUnavailable(
                f"The engine may not use {error.filename or self._root / owner}.",
                f"Give it the right to, with chmod or chown; see {self._root / owner}",
            ) from error

    async def begin(self, session: Session) -> None:
        """
        The session is being made: until `made` its files may go when the engine is killed.

        That stands beside them and nowhere else, so no other store can claim it later.
        """
        if session.container is None:
            self.making.add(session.id)
            await asyncio.to_thread(_begin, self._root / session.id)

    async def made(self, session: Session) -> None:
        """The session is stored."""
        if session.container is None:
            await asyncio.to_thread((self._root / session.id / _MAKING).unlink, missing_ok=True)
            self.making.discard(session.id)

    async def mark_ended(self, session: Session) -> None:
        """
        The session was ended, which can't be stored for now: that stands beside its files.

        Raises OSError where that is not possible either.
        """
        if session.container is None:
            await asyncio.to_thread(_mark_ended, self._root / session.id)

    def marked_as_ended(self) -> set[str]:
        """The ids of the sessions that `mark_ended` left. At start only."""
        return {mark.parent.name for mark in self._root.glob(f"ses_*/{_ENDED_MARK}")}

    def find_missing(self, sessions: Iterable[Session]) -> None:
        """Tell the sessions whose files are gone, and later their agents. At start only."""
        for session in sessions:
            place = self._root / session.id
            if session.provider != "kubernetes":
                place /= "workspace"
            if session.container is not None:
                continue
            try:
                found = place.stat()
            except PermissionError:
                session.missing = (
                    f"The files of this session can't be read: the engine may not enter "
                    f"{place.parent}. Give it the right to, with chmod or chown, and try again."
                )
                log.warning("%s: %s", session.id, session.missing)
                continue
            except OSError:
                found = None
            if found is None or not stat.S_ISDIR(found.st_mode):
                session.missing = (
                    f"The files of this session are gone: there is no {place}. Put them back there "
                    "before the next command, or go on with an empty workspace."
                )
                log.warning("%s: %s", session.id, session.missing)
                self._notices[session.id] = _MISSING

    def alive(self) -> list[tuple[str, Sandbox]]:
        """The containers that run, with the ids of the sessions that they belong to."""
        return [(owner, box) for owner, box in self._sandboxes.items() if box.alive]

    def uses(self, owner: str) -> int:
        """Grows with whatever is done with the session's container, before it is done."""
        return self._uses[owner] + self._sandboxes[owner].uses

    async def rest(self, session: Session, why: str) -> None:
        """Stop the session's container until it is needed again, and tell what ended with it."""
        sandbox = self._sandboxes[session.id]
        async with self._starting.setdefault(session.id, asyncio.Lock()):
            self._stopping.add(session.id)
            try:
                jobs = await _jobs(sandbox)
                await sandbox.stop()
            finally:
                self._stopping.discard(session.id)
            self._running.discard(session.id)
        message = f"The container was stopped {why}; it starts again with the next command."
        if jobs:
            message += f" Processes that ended with it: {'; '.join(jobs)}."
            self._notices[session.id] = message
        self._announce(session, "stopped", message)

    def take_notice(self, session: Session) -> str:
        """What the agent has to know about its container, said once; empty: nothing."""
        return self._notices.pop(session.container or session.id, "")

    async def destroy(self, session: Session) -> bool:
        """
        Stop the session's container and delete its files, unless they are another's.

        True when nothing is left.
        """
        if session.container is not None:
            return True
        self._starting.pop(session.id, None)
        self._uses.pop(session.id, None)
        self._running.discard(session.id)
        self._notices.pop(session.id, None)
        sandbox = self._sandboxes.pop(session.id, None)
        gone = await self._destroy(session.id, session.provider, sandbox)
        self.making.discard(session.id)
        return gone

    async def _destroy(self, session_id: str, provider: str, sandbox: Sandbox | None) -> bool:
        root = self._root / session_id
        try:
            # Another engine may have started its pod, which is not in the directory.
            if sandbox is None and provider == "kubernetes" and root.exists():
                sandbox = self._open(root, provider=provider, python=None, limits=self.limits)
            if sandbox is not None:
                await sandbox.destroy()
        except (SandboxError, OSError) as error:
            log.warning("container of %s: %s", session_id, type(error).__name__)
        return await asyncio.to_thread(_remove, root)

    async def close(self) -> None:
        """Stop all containers; files stay."""
        sandboxes = list(self._sandboxes.values())
        self._sandboxes.clear()
        results = await asyncio.gather(*(s.stop() for s in sandboxes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                log.warning("stopping a container: %s", type(result).__name__)

    async def sweep(
        self, living: Collection[str], ended: Mapping[str, Mapping[str, Any]]
    ) -> list[str]:
        """
        End what a killed engine left running. Delete the files of sessions that `ended`, and of
        those that were being made; all others stay. At start only.

        Returns the ids of sessions of which nothing is left.
        """
        killed = await asyncio.to_thread(end_leftovers, self._root.absolute())
        if killed:
            log.warning("ended %d processes that the last run of the engine left behind", killed)
        gone = [
            session_id
            for session_id, facts in ended.items()
            if facts.get("container") or await self._end_rest(session_id, facts)
        ]
        for session_id in self.marked_as_ended() - set(living):
            if await asyncio.to_thread(_remove, self._root / session_id):
                gone.append(session_id)
        for unborn in list(self._root.glob(".ses_*")):
            await asyncio.to_thread(_remove, unborn)
        for mark in list(self._root.glob(f"ses_*/{_MAKING}")):
            if mark.parent.name in living:
                mark.unlink(missing_ok=True)
            elif await asyncio.to_thread(_remove, mark.parent):
                gone.append(mark.parent.name)
        return gone

    async def _end_rest(self, session_id: str, facts: Mapping[str, Any]) -> bool:
        try:
            async with asyncio.timeout(_REST_PATIENCE):
                return await self._destroy(session_id, str(facts.get("sandbox")), None)
        except TimeoutError:
            log.warning("the rest of %s is removed later: its cluster is silent", session_id)
            return False

    def _announce(self, session: Session, status: str, message: str = "") -> None:
        properties: dict[str, Any] = {"sessionID": session.id, "status": status}
        if message:
            properties["message"] = message
        if session.listed:
            self._log.publish(session.id, "container.status", properties)


async def _jobs(sandbox: Sandbox) -> list[str]:
    """What runs in the background, as far as it is told in time."""
    try:
        async with asyncio.timeout(_JOBS_PATIENCE):
            return await sandbox.background()
    except (SandboxError, OSError):
        return []


def _begin(path: Path) -> None:
    """The directory comes with its mark: without one, a kill would leave it to nobody."""
    with contextlib.suppress(OSError):  # the container says what is wrong with the directory
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}")
        new.mkdir(mode=0o700)
        (new / _MAKING).touch(mode=0o600)
        new.rename(path)


def _mark_ended(path: Path) -> None:
    if path.is_dir():
        (path / _ENDED_MARK).touch(mode=0o600)
        sync_directory(path)


def _remove(path: Path) -> bool:
    """Remove a tree that a container's processes filled, whatever is in it; whether it is gone."""
    try:
        remove_tree(path)
    except OSError as error:
        log.warning("a deleted session's directory could not be removed: %s", error.strerror)
        return False
    return True
