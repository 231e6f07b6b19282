"""
The engine's directories, its socket and what it tells about itself.

Standard library only: all of this happens before the slow imports.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DataLock", "StartError", "StateFiles", "default_data_dir", "default_state_dir"]

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
    except OSError as error:
        raise StartError(f"{path} can't be made: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"{path} is not a directory.")
    if found.st_uid != os.getuid():
        raise StartError(f"{path} belongs to another user.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StartError(f"{path} is open to other users; run: chmod 700 {path}")
    return path


class DataLock:
    """One engine per data directory: the kernel frees the lock however the process ends."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "engine.lock"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, patience: float = _LOCK_PATIENCE) -> None:
        """Wait a while for an engine that is just leaving. Raises StartError."""
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StartError(
                        f"Another engine uses {self._path.parent}; stop it or give this one "
                        "another --data-dir."
                    ) from None
                time.sleep(0.05)


class StateFiles:
    """`engine.sock`, `engine.json` and `engine.log` in a private directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = private_directory(directory)
        self.socket_path = self.directory / "engine.sock"
        self.info_path = self.directory / "engine.json"
        self._mine: int | None = None

    def bind(self) -> socket.socket:
        """A listening socket; clients that come early wait in its queue. Raises StartError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = str(self.socket_path)
        try:
            if self._is_served(path):
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

    @staticmethod
    def _is_served(path: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            try:
                probe.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:
                return True
        return True

    def announce(self, info: Mapping[str, Any]) -> None:
        """Write `engine.json`, at once and only for us."""
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
        self.info_path.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)
        self._mine = None

    def open_log(self) -> Path:
        """The path of a log file that is ours alone and not too long."""
        path = self.directory / "engine.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return path
