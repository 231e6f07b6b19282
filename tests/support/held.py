"""What a process and an engine's directories hold on to."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

__all__ = ["Held", "Kept", "row"]


@dataclass(frozen=True)
class Held:
    """Of a process. `memory` in kB."""

    memory: int
    descriptors: int
    threads: int
    children: int

    @classmethod
    def by(cls, pid: int) -> Held:
        process = Path("/proc") / str(pid)
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        children = (process / "task" / str(pid) / "children").read_text().split()
        return cls(
            int(status["VmRSS"].split()[0]),
            len(os.listdir(process / "fd")),
            int(status["Threads"]),
            len(children),
        )


@dataclass(frozen=True)
class Kept:
    """By an engine on disk: kB of its database, bytes of its log, directories of sessions."""

    database: int
    log: int
    directories: int

    @classmethod
    def by(cls, data: Path, state: Path) -> Kept:
        files = [data / f"engine.db{end}" for end in ("", "-wal")]
        size = sum(file.stat().st_size for file in files if file.exists())
        log = state / "engine.log"
        folders = [data / "sessions", data / "snapshots"]
        return cls(
            size // 1024,
            log.stat().st_size if log.exists() else 0,
            sum(len(os.listdir(folder)) for folder in folders if folder.exists()),
        )


def row(*found: Held | Kept) -> str:
    """One line of figures, for people."""
    pairs = [(f.name, getattr(each, f.name)) for each in found for f in fields(each)]
    return " ".join(f"{name}={value}" for name, value in pairs)
