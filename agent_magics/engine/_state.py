"""
The engine's directories, its socket and what it tells about itself.

Standard library only: all of this happens before the slow imports.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ._reserve import shortage_message

__all__ = [
    "DataLock",
    "Holder",
    "StartError",
    "StateFiles",
    "data_directory",
    "default_data_dir",
    "default_state_dir",
    "in_use",
    "private_directory",
    "process_birth",
    "storage_problem",
]

_LOCK_PATIENCE = 15.0
_LOG_LIMIT = 5 << 20


class StartError(Exception):
    """The engine can't start; the message says why and what to do."""


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Where the socket is: not to be kept, private, and on a local file system."""
    if chosen := environ.get("AGENT_MAGICS_STATE_DIR"):
        return Path(chosen)
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "agent-magics"
    return Path(f"/tmp/agent-magics-{os.getuid()}")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where sessions are kept."""
    if chosen := environ.get("AGENT_MAGICS_DATA_DIR"):
        return Path(chosen)
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "agent-magics"


def private_directory(path: Path) -> Path:
    """
    Make the directory, or check that it is a real one, ours and closed to others.

    Raises StartError: who controls this directory controls the engine.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except (FileExistsError, NotADirectoryError) as error:
        raise StartError(f"{path} is not a directory; set another one.") from error
    except OSError as error:
        raise StartError(storage_problem(path, error)) from error
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"{path} is not a directory.")
    if found.st_uid != os.getuid():
        raise StartError(f"{path} belongs to another user.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StartError(f"{path} is open to other users; run: chmod 700 {path}")
    return path


def data_directory(path: Path) -> Path:
    """
    As `private_directory`, for the data: a link to a directory of ours is followed.

    Raises StartError, also for a link that leads nowhere: sessions would seem to be lost when the
    disk that it leads to is not there, and a new directory would be made in its place.
    """
    try:
        target = path.resolve()
        if path.is_symlink() and not target.exists():
            raise StartError(
                f"{path} is a link to {target}, which does not exist. Mount its disk or make that "
                "directory, or set another directory."
            )
    except (OSError, RuntimeError) as error:  # a link to itself
        raise StartError(f"{path} is a link that can't be followed; set another one.") from error
    return private_directory(target)


@dataclass(frozen=True)
class Holder:
    """The engine that has a data directory: its process, and where it listens."""

    pid: int
    socket: str = ""
    url: str = ""

    def is_served(self) -> bool:
        """Whether somebody listens there."""
        if not self.url:
            return bool(self.socket) and is_served(self.socket)
        address = urlsplit(self.url)
        try:
            with socket.create_connection((address.hostname or "", address.port or 0), timeout=1):
                return True
        except OSError:
            return False


class DataLock:
    """
    One engine per data directory: the kernel frees the lock however the process ends.

    The file says who holds it. Raises StartError when it can't be made.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "engine.lock"
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(storage_problem(data_dir, error)) from error

    def acquire(self, patience: float = _LOCK_PATIENCE) -> Holder | None:
        """
        Take it, waiting a while for an engine that is just leaving. Or the engine that holds it.

        Raises StartError when that one can't be reached.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._fd, 0)
                return None
            except BlockingIOError:
                holder = self._holder()
                if holder is not None and holder.is_served():
                    return holder
                if time.monotonic() > deadline:
                    raise StartError(in_use(self._path.parent, holder)) from None
                time.sleep(0.05)
            except OSError as error:
                raise StartError(storage_problem(self._path.parent, error)) from error

    def describe(self, *, socket: str = "", url: str = "") -> None:
        """With the lock held: say where this engine listens."""
        text = json.dumps({"pid": os.getpid(), "socket": socket, "url": url}).encode()
        with suppress(OSError):  # a full disk: others are only told less
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))

    def _holder(self) -> Holder | None:
        try:
            found = json.loads(os.pread(self._fd, 1 << 16, 0))
            return Holder(int(found["pid"]), str(found["socket"]), str(found["url"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


def in_use(data_dir: Path, holder: Holder | None) -> str:
    """Why no engine can start on this directory, and what to do."""
    who, end = "Another engine", "end it"
    if holder is not None:
        who, end = f"{who} (process {holder.pid})", f"end it (kill {holder.pid})"
    if holder is not None and holder.url:
        return (
            f"{who} uses {data_dir} and listens at {holder.url}. Use that one (%config "
            f"AgentMagics.url), {end}, or set AGENT_MAGICS_DATA_DIR to another directory."
        )
    return (
        f"{who} uses {data_dir}. Wait until it has left, {end}, or set AGENT_MAGICS_DATA_DIR to "
        "another directory."
    )


def is_served(path: str) -> bool:
    """Whether somebody listens at this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def storage_problem(path: Path, error: OSError) -> str:
    """What keeps the engine from starting with its data or its socket in `path`: one sentence."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        found = Path(error.filename)
        if found.is_symlink() and not found.exists():
            return (
                f"{found} is a link to {found.readlink()}, which does not exist. Mount its disk or "
                "make that directory, or set another directory."
            )
        return f"{found} is not a directory. Move it away, or set another directory."
    if error.errno in (errno.EISDIR, errno.EINVAL, errno.ENXIO) and error.filename:
        return f"{error.filename} is not a file. Move it away, or set another directory."
    if isinstance(error, PermissionError) and error.filename:
        path = _closed_one(path, Path(error.filename))
        if path.is_file():
            return f"{path} can't be used. Run: chmod u+rw {path}, or set another directory."
    return f"{shortage_message(path, error)}, or set another directory."


def _closed_one(top: Path, below: Path) -> Path:
    """Of the way from `top` to `below`, what must not be used."""
    way = [part for part in (below, *below.parents) if part.is_relative_to(top)]
    for part in reversed(way):
        wanted = os.R_OK | os.W_OK | (os.X_OK if part.is_dir() else 0)
        if not os.access(part, wanted):
            return part
    return top


def process_birth() -> int:
    """When this process began, in ticks of the kernel's clock; 0 when that is not known."""
    try:
        return int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


class StateFiles:
    """
    `engine.sock`, `engine.json`, `engine.work` and `engine.log` in a private directory.

    `engine.work` has the number of turns and other things at work, for those who wonder whether an
    engine that does not answer may be ended; "starting" before that is known.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = private_directory(directory)
        self.socket_path = self.directory / "engine.sock"
        self.info_path = self.directory / "engine.json"
        self._work_path = self.directory / "engine.work"
        self._work = "starting"
        self._work_fd: int | None = None
        self._info: Mapping[str, Any] = {}
        self._mine: int | None = None

    def bind(self) -> socket.socket:
        """A listening socket; clients that come early wait in its queue. Raises StartError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = str(self.socket_path)
        try:
            if is_served(path):
                raise StartError(f"An engine is already running on {path}.")
            self.socket_path.unlink(missing_ok=True)
            listener.bind(path)
            self.socket_path.chmod(0o600)
            listener.listen(128)
            self._mine = self.socket_path.lstat().st_ino
        except OSError as error:
            listener.close()
            raise StartError(f"The socket {path} can't be made: {error}") from error
        except StartError:
            listener.close()
            raise
        return listener

    def lead_to(self, holder: Holder) -> None:
        """Say in `engine.json` that another directory's engine is the one. Raises StartError."""
        theirs = Path(holder.socket).parent
        try:
            info = json.loads((theirs / "engine.json").read_bytes())
            if not theirs.samefile(self.directory):
                self._write_info({**info, "socket": holder.socket})
        except (OSError, ValueError, TypeError) as error:
            raise StartError(
                f"Another engine (process {holder.pid}) has the data, and {theirs} does not say "
                f"how to reach it ({error}). Try again, or end it: kill {holder.pid}"
            ) from error

    def restore(self) -> socket.socket | None:
        """
        Make the files again that somebody removed while the engine runs.

        Returns a new listening socket if the old one can't be reached any more. Raises StartError.
        """
        if self._mine is None or not self._is_lost():
            return None
        private_directory(self.directory)
        listener = None if self._has_socket() else self.bind()
        self.announce(self._info)
        self._close_work()
        self.tell_work(self._work)
        return listener

    def _is_lost(self) -> bool:
        paths = (self.info_path, self._work_path)
        return not self._has_socket() or not all(path.exists() for path in paths)

    def _has_socket(self) -> bool:
        try:
            return self.socket_path.lstat().st_ino == self._mine
        except OSError:
            return False

    def tell_work(self, work: int | str) -> None:
        """What is at work: a number, or what it is called. Never fails."""
        self._work = str(work)
        try:
            if self._work_fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                self._work_fd = os.open(self._work_path, flags, 0o600)
            os.pwrite(self._work_fd, f"{self._work:<8}\n".encode(), 0)
        except OSError:
            # Without the file nobody takes the engine for idle.
            with suppress(OSError):
                self._work_path.unlink(missing_ok=True)

    def _close_work(self) -> None:
        if self._work_fd is not None:
            os.close(self._work_fd)
            self._work_fd = None

    def announce(self, info: Mapping[str, Any]) -> None:
        """Write `engine.json`, at once and only for us. Raises StartError."""
        self._info = dict(info)
        try:
            self._write_info(info)
        except OSError as error:
            raise StartError(storage_problem(self.directory, error)) from error

    def _write_info(self, info: Mapping[str, Any]) -> None:
        temporary = self.directory / f"engine.json.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(info, file)
        temporary.replace(self.info_path)

    def withdraw(self) -> None:
        """Remove the socket and `engine.json`, unless they are a successor's. Idempotent."""
        try:
            if self._mine is None or self.socket_path.lstat().st_ino != self._mine:
                return
        except FileNotFoundError:
            return
        for path in (self.info_path, self.socket_path, self._work_path):
            path.unlink(missing_ok=True)
        self._close_work()
        self._mine = None

    def open_log(self) -> Path:
        """The path of a log file that is ours alone and not too long. Raises StartError."""
        try:
            return self._open_log()
        except OSError as error:
            raise StartError(storage_problem(self.directory, error)) from error

    def _open_log(self) -> Path:
        path = self.directory / "engine.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return path
