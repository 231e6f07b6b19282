"""Which containers work on this machine? Only trying tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ._errors import SandboxError, SandboxUnavailable
from ._options import ProviderOptions
from ._programs import find_program
from ._sandbox import open_sandbox
from ._trees import remove_tree
from ._types import ProviderReport

__all__ = ["CONTAINERS", "probe"]

CONTAINERS = ("bubblewrap", "podman", "docker")
"""Kinds that can be tried without asking: they leave nothing behind, on this machine or another."""
PROGRAMS = {"bubblewrap": "bwrap"}
PREFIX = "agent-magics-probe-"
ABANDONED = 3600.0
"""Seconds after which a directory of a probe belongs to one that was killed."""


def probe(
    names: Sequence[str] = CONTAINERS, options: ProviderOptions | None = None
) -> list[ProviderReport]:
    """
    Start a container of each kind, run a command in it, and say what came of it.

    Takes about a tenth of a second for bubblewrap, a second for the others where they are
    installed; may be called from anywhere, also where an event loop runs.
    """
    reports: list[ProviderReport] = []

    def work() -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        reports.extend(asyncio.run(_try(name, options)) for name in names)

    thread = threading.Thread(target=work, name="sandbox-probe")
    thread.start()
    thread.join()
    return reports


def _remove_abandoned(folder: Path) -> None:
    """Remove what probes that were killed left behind."""
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid == os.geteuid() and found.st_mtime < time.time() - ABANDONED:
                remove_tree(path)


async def _try(name: str, options: ProviderOptions | None) -> ProviderReport:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        sandbox = open_sandbox(Path(folder, "session"), provider=name, options=options)
        try:
            await sandbox.start()
            result = await sandbox.run("true", timeout=20)
        except SandboxUnavailable as error:
            return ProviderReport(name, False, error.reason, error.next_step)
        except SandboxError as error:
            return ProviderReport(name, False, f"The container broke: {error}.", "Try again.")
        finally:
            await sandbox.destroy()
    if result.exit_code != 0:
        said = result.stderr.decode("utf-8", "replace").strip()
        return ProviderReport(name, False, f"A command failed inside: {said}.", "Is bash there?")
    note = "" if name not in CONTAINERS else find_program(PROGRAMS.get(name, name)).note
    return ProviderReport(name, True, "", "", note)
