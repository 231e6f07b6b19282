"""A state and data directory of its own for one embedded engine, and the end of that engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType


class EngineHome:
    """
    Directories for an engine that nobody else uses; leaving the context stops it.

    The path is short because a Unix socket's path may have about 100 characters only.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="agent-magics-"))
        self.state = self.root / "state"
        self.data = self.root / "data"
        self.state.mkdir(mode=0o700)
        self._config = self.root / "config.toml"
        self._config.touch()

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to use this engine and no other."""
        return {
            "AGENT_MAGICS_STATE_DIR": str(self.state),
            "AGENT_MAGICS_DATA_DIR": str(self.data),
            "AGENT_MAGICS_CONFIG": str(self._config),
        }

    def engine_pid(self) -> int | None:
        """The running engine's process id."""
        try:
            return int(json.loads((self.state / "engine.json").read_text())["pid"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def stop(self, *, patience: float = 10.0) -> None:
        """End the engine, politely first, and remove the directories."""
        pid = self.engine_pid()
        if pid is not None:
            _end(pid, patience)
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> EngineHome:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def alive(pid: int) -> bool:
    """True while the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _end(pid: int, patience: float) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not alive(pid):
                return
            time.sleep(0.02)
