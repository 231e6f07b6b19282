"""The sandbox of one session: commands and files in its container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ._agent import protocol
from ._channel import Channel
from ._disk import DiskWatch
from ._environ import merged
from ._errors import PathIsLink, SandboxGone, SandboxUnavailable
from ._leftovers import end_leftovers
from ._network import Network, NetworkLink
from ._options import ProviderOptions
from ._pieces import OpenFile, open_file
from ._provider import Provider
from ._providers import make_provider
from ._proxy import Traffic
from ._requests import (
    Command,
    DirectWrite,
    FileRead,
    FileRequest,
    FileWrite,
    Jobs,
    Listing,
    OnOutput,
)
from ._running import Interrupt, RunningCommands
from ._trees import remove_tree
from ._types import ExecResult, FileStat, Limits, PythonEnv
from ._workspace import WorkspaceTree

__all__ = ["Sandbox", "open_sandbox"]

START_TIMEOUT = 60.0
"""Seconds; the first container of an image may have to be laid out on the disk."""
MESSAGE_SIZE = 4000

SKIPPED = (".git", ".local", "__pycache__", "node_modules")
"""Directories that a recursive listing leaves out."""


def open_sandbox(
    root: Path,
    *,
    provider: str = "auto",
    python: PythonEnv | None = None,
    limits: Limits | None = None,
    options: ProviderOptions | None = None,
    network: Network | None = None,
) -> Sandbox:
    """
    The sandbox of the session whose files live in `root`. Nothing is started or created yet.

    Args:
        root: directory of this session alone, made when needed; holds `workspace` and `tmp`.
        provider: "bubblewrap", "podman", "docker", "kubernetes", or "local", which does not
            isolate at all; "auto" is bubblewrap. Where one can't be had, no other takes its place.
        python: the Python commands shall find; default: this one.
        limits: what the container may use.
        options: of each provider; default: as documented there.
        network: what it may reach; None: nothing. ("local" reaches what the user does.)

    Raises:
        ValueError: unknown provider.
    """
    python = python or PythonEnv.current()
    limits = limits or Limits()
    root = Path(root).absolute()
    link = None if network is None or provider == "local" else NetworkLink(network)
    made = make_provider(provider, root, python, limits, options or ProviderOptions(), link)
    if provider == "kubernetes":  # the cluster watches its disks; nothing of it is on this one
        limits = replace(limits, disk=None)
    return Sandbox(made, root, limits, link)


class Sandbox:
    """
    Commands and files in one container that lives as long as the session.

    Made by `open_sandbox`, used from one event loop. Processes a command leaves behind live on and
    can be reached by later commands. When the container ends, by whatever cause, running requests
    raise SandboxGone and `start` begins a new one with the same files.
    """

    def __init__(
        self, provider: Provider, root: Path, limits: Limits, link: NetworkLink | None = None
    ) -> None:
        self.provider = provider.name
        """"bubblewrap", "podman", "docker", "kubernetes" or "local"."""
        self.isolated = provider.isolated
        """False: commands may do whatever the user may; every view must say so."""
        self.limits = limits
        """What the container may use."""
        self.tree = WorkspaceTree(self._file_request)
        """/workspace as a whole."""
        self.uses = 0
        """Requests made so far, whatever came of them."""
        self._provider = provider
        self._link = link
        self._environ = {**provider.environ, **({} if link is None else link.environ)}
        self._root = root
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()
        self._disk = DiskWatch(root, limits.disk, self._disk_full)
        self._commands = RunningCommands(self._disk)

    @property
    def alive(self) -> bool:
        """The container is running."""
        return self._channel is not None and self._channel.alive

    @property
    def busy(self) -> bool:
        """A command runs, or a file is on its way."""
        return self._channel is not None and self._channel.busy

    @property
    def traffic(self) -> Traffic:
        """What has gone through the container's way to the network so far."""
        return Traffic() if self._link is None else self._link.traffic

    # life

    async def start(self) -> None:
        """
        Start the container unless it runs.

        Raises:
            SandboxUnavailable: it can't be had here.
        """
        async with self._lock:
            if not self.alive:
                await self._close()
                self._channel = await self._open()

    async def stop(self) -> None:
        """End the container and every process in it; files are kept."""
        async with self._lock:
            await self._close()

    async def destroy(self) -> None:
        """End the container and remove the session's files."""
        async with self._lock:
            await self._close()
            try:
                await self._provider.clear(files=True)
            finally:
                await asyncio.to_thread(self._remove_files)

    async def _open(self) -> Channel:
        with tempfile.TemporaryFile(buffering=0) as stderr:
            process = await self._provider.spawn(stderr.fileno())
            tunnel = None if self._link is None else self._link.tunnel()
            channel = Channel(process, tunnel)
            try:
                await self._greet(channel, stderr.fileno())
            except SandboxUnavailable:
                await self._provider.clear(files=False)
                raise
        if self._link is not None:
            try:
                self._link.open(tunnel)
            except BaseException:
                await channel.close()
                raise
        return channel

    async def _greet(self, channel: Channel, stderr: int) -> None:
        try:
            await channel.greet(self._provider.config(), START_TIMEOUT)
        except SandboxGone:
            await channel.close()
            message = os.pread(stderr, MESSAGE_SIZE, 0).decode("utf-8", "replace")
            raise self._provider.complaint(message) from None
        except TimeoutError:
            await channel.close()
            raise SandboxUnavailable(
                f"The container did not answer within {START_TIMEOUT:.0f} seconds.",
                "Try again when the machine is less busy.",
            ) from None
        except BaseException:
            channel.kill()
            raise

    async def _close(self) -> None:
        self._disk.pause()
        if self._link is not None:
            await self._link.close()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
            await self._provider.clear(files=False)
        if not self.isolated:  # else the container has ended as a whole
            await asyncio.to_thread(end_leftovers, self._root)

    def _remove_files(self) -> None:
        for name in ("workspace", "tmp"):
            remove_tree(self._root / name)
        with contextlib.suppress(OSError):  # somebody keeps other files there
            self._root.rmdir()

    def _require(self) -> Channel:
        if self._channel is None or not self._channel.alive:
            raise SandboxGone("the container is not running")
        self.uses += 1
        return self._channel

    # commands

    async def run(
        self,
        command: str,
        *,
        cwd: str = "/workspace",
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        max_output: int = 1 << 20,
        on_output: OnOutput | None = None,
        interrupt: Interrupt | None = None,
    ) -> ExecResult:
        """
        Run a command line with bash.

        It gets /dev/null as stdin unless `stdin` is given. When it ends, its children may live on;
        after a timeout, or when the task is cancelled, none of them does.

        Args:
            timeout: seconds; None: the limits' default. Never more than the longest they allow.
            env: variables on top of the container's own.
            max_output: bytes to keep of each stream: half from its beginning, half from its end;
                never more than the limits allow.
            on_output: called with "stdout" or "stderr" and bytes as they come. Put together they
                are the result's; the part after the middle comes at the end.
            interrupt: its Ctrl-C; the result has what was printed until then.

        Raises:
            SandboxGone: the container ended, or is not running.
            SandboxError: the command could not be started.
            ValueError: NUL in the command or a variable.
        """
        if "\0" in command or "\0" in cwd:
            raise ValueError("a command can't contain NUL")
        max_output = min(max_output, self.limits.output)
        order = {
            "command": command,
            "cwd": self._provider.inner(cwd),
            "env": merged(self._environ, env),
            "limit": max_output,
        }
        channel = self._require()
        wanted = self.limits.timeout if timeout is None else timeout
        timeout = min(wanted, self.limits.longest_timeout)
        started = time.monotonic()
        request = Command(max_output, on_output)
        ending = await self._commands.run(
            channel, order, request, timeout=timeout, stdin=stdin, interrupt=interrupt
        )
        return ExecResult(
            stdout=bytes(request.output[protocol.STDOUT]),
            stderr=bytes(request.output[protocol.STDERR]),
            exit_code=ending.code,
            timed_out=ending.killed_by == "timeout",
            truncated=ending.truncated,
            killed_by=ending.killed_by,
            duration=time.monotonic() - started,
        )

    async def background(self) -> list[str]:
        """
        The command lines of processes that finished commands left running; 50 at most.

        Raises:
            SandboxGone: the container ended, or is not running.
        """
        request = Jobs()
        async with self._file_request(request, protocol.JOBS, {}) as (channel, _):
            await channel.answered(request)
        return request.lines

    def _disk_full(self) -> None:
        if self._channel is not None:
            self._commands.disk_full(self._channel)

    # files

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """
        The content of a file; a relative path is one below /workspace. Links lead where they lead
        inside the container.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as usual.
            OSError: EFBIG, more than `max_bytes`; EINVAL, not a regular file.
            SandboxGone: the container ended, or is not running.
        """
        request = FileRead(path, max_bytes)
        order = {"path": self._provider.inner(path), "limit": max_bytes}
        async with self._file_request(request, protocol.READ, order) as (channel, _):
            await channel.answered(request)
        return bytes(request.content)

    async def open_file(self, path: str) -> OpenFile:
        """
        A file of any size, to be read in pieces; links and relative paths as in `read_file`.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as usual.
            OSError: EINVAL, not a regular file.
            SandboxGone: the container ended, or is not running.
        """
        return await open_file(self._file_request, self._provider.inner(path))

    async def write_file(
        self, path: str, data: bytes | AsyncIterable[bytes], *, follow: bool = True
    ) -> None:
        """
        Write a file, from memory or as its bytes come, at once: readers see the old content or the
        new. Makes missing directories; an existing file keeps its mode, a link is written through.

        Args:
            follow: False writes to this very path: a link in it is an error.

        Raises:
            PathIsLink: not `follow`, and the path leads elsewhere.
            IsADirectoryError, NotADirectoryError, PermissionError: as usual; read-only places
                are a PermissionError, too.
            OSError: EINVAL, not a regular file; ENOSPC; EFBIG.
            SandboxGone: the container ended, or is not running.
        """
        request = FileWrite(path) if follow else DirectWrite(path)
        order = {"path": self._provider.inner(path), "follow": follow}
        async with self._file_request(request, protocol.WRITE, order) as (channel, number):
            if isinstance(data, bytes | bytearray):
                await channel.send_data(protocol.WRITE_DATA, number, data, request.done)
            else:
                async for piece in data:
                    await channel.send_data(protocol.WRITE_DATA, number, piece, request.done)
                    if request.done.done():  # it failed; the rest is not wanted
                        break
            channel.send(protocol.WRITE_END, number)
            try:
                await channel.answered(request)
            except OSError as error:
                if isinstance(request, DirectWrite) and request.target is not None:
                    raise PathIsLink(path, self._provider.outer(request.target)) from error
                raise

    async def delete_file(self, path: str) -> None:
        """
        Delete a file or a link.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as usual.
            SandboxGone: the container ended, or is not running.
        """
        request = FileWrite(path)
        order = {"path": self._provider.inner(path)}
        async with self._file_request(request, protocol.DELETE, order) as (channel, _):
            await channel.answered(request)

    async def list_files(
        self, path: str = "/workspace", *, recursive: bool = False, limit: int = 10_000
    ) -> list[FileStat]:
        """
        What a directory contains, sorted by path; at most `limit` entries, of the deepest fewer.

        `recursive` leaves out .git, .local, __pycache__ and node_modules, and follows no links.

        Raises:
            FileNotFoundError, NotADirectoryError, PermissionError: as usual.
            SandboxGone: the container ended, or is not running.
        """
        request = Listing(path, limit)
        folder = posixpath.normpath(self._provider.inner(path))
        skip = SKIPPED if recursive else ()
        order = {"path": folder, "recursive": recursive, "limit": limit, "skip": skip}
        async with self._file_request(request, protocol.LIST, order) as (channel, _):
            await channel.answered(request)
        entries = [replace(e, path=self._provider.outer(e.path)) for e in request.entries]
        return sorted(entries, key=lambda entry: entry.path)

    @asynccontextmanager
    async def _file_request(
        self, request: FileRequest, kind: int, order: dict[str, Any]
    ) -> AsyncIterator[tuple[Channel, int]]:
        channel = self._require()
        number = channel.attach(request)
        try:
            channel.send_json(kind, number, order)
            yield channel, number
        finally:
            channel.detach(number)
            if request.done.cancelled() or not request.done.done():
                channel.send(protocol.CANCEL, number)
