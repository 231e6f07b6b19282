"""The private directory where an embedded engine is found."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ._endpoint import Endpoint
from ._errors import EngineStartError

__all__ = ["EngineFile", "StateDir"]

_SOCKET_PATH_LIMIT = 107
"""Bytes that fit in `sockaddr_un.sun_path` before the final NUL."""


@dataclass(frozen=True, slots=True)
class EngineFile:
    """
    The content of `engine.json`, which a running engine keeps.

    `birth` tells its process from a later one of the same number (0: not known). `socket` is the
    engine's, where that is in another state directory: of the engine that has the data directory.
    """

    pid: int
    token: str
    version: str = ""
    protocol: int = 0
    birth: int = 0
    socket: str = ""


@dataclass(frozen=True, slots=True)
class StateDir:
    """
    A directory that only its owner may enter; it is what keeps other users off the engine.

    It holds the engine's socket, `engine.json`, the start lock and the log.
    """

    path: Path

    @classmethod
    def default(cls, environ: Mapping[str, str] | None = None) -> StateDir:
        """`AGENT_MAGICS_STATE_DIR`, else under `XDG_RUNTIME_DIR`, else `/tmp/agent-magics-UID`."""
        values = os.environ if environ is None else environ
        if chosen := values.get("AGENT_MAGICS_STATE_DIR"):
            return cls(Path(chosen).absolute())
        runtime = values.get("XDG_RUNTIME_DIR")
        if runtime and os.access(runtime, os.W_OK | os.X_OK):
            return cls(Path(runtime).absolute() / "agent-magics")
        return cls(Path(f"/tmp/agent-magics-{os.getuid()}"))

    @property
    def socket(self) -> Path:
        return self.path / "engine.sock"

    @property
    def log(self) -> Path:
        return self.path / "engine.log"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def prepare(self) -> None:
        """
        Create the directory, or check that it is ours and private.

        Raises `EngineStartError`: in a shared `/tmp` somebody else may have put a directory or a
        link there first, and would then own the socket.
        """
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_LIMIT:
            raise EngineStartError(
                f"The path {self.socket} is too long for a Unix socket; "
                "set AGENT_MAGICS_STATE_DIR to a shorter one."
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            status = self.path.lstat()
        except OSError as error:
            raise EngineStartError(f"The state directory cannot be used: {error}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise EngineStartError(f"{self.path} is not a directory.")
        if status.st_uid != os.getuid():
            raise EngineStartError(f"{self.path} belongs to another user (uid {status.st_uid}).")
        if status.st_mode & 0o077:
            raise EngineStartError(
                f"{self.path} is open to other users; `chmod 700 {self.path}` makes it private."
            )

    def read(self) -> EngineFile | None:
        """What `engine.json` says, `None` when there is none or it makes no sense."""
        try:
            data = json.loads((self.path / "engine.json").read_bytes())
            pid = int(data["pid"])
            return (
                EngineFile(
                    pid=pid,
                    token=str(data["token"]),
                    version=str(data.get("version") or ""),
                    protocol=int(data.get("protocol") or 0),
                    birth=int(data.get("birth") or 0),
                    socket=str(data.get("socket") or ""),
                )
                if pid > 0
                else None
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def endpoint(self, engine: EngineFile) -> Endpoint:
        uds = engine.socket or str(self.socket)
        return Endpoint(uds=uds, token=engine.token, pid=engine.pid)

    def is_idle(self, engine: EngineFile) -> bool:
        """
        Whether the engine says, without being asked, that it has nothing to do.

        It keeps the number of its turns and of requests that change something in a file, so that
        also one that does not answer tells. No file, or another content: it may be at work.
        """
        socket = Path(engine.socket) if engine.socket else self.socket
        try:
            return socket.with_name("engine.work").read_bytes().strip() == b"0"
        except OSError:
            return False
