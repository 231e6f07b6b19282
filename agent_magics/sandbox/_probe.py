"""Which containers work on this machine? Only trying tells."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from ._errors import SandboxError, SandboxUnavailable
from ._options import ProviderOptions
from ._sandbox import open_sandbox
from ._types import ProviderReport

__all__ = ["CONTAINERS", "probe"]

CONTAINERS = ("bubblewrap", "podman", "docker")
"""Kinds that can be tried without asking: they leave nothing behind, on this machine or another."""


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
        reports.extend(asyncio.run(_try(name, options)) for name in names)

    thread = threading.Thread(target=work, name="sandbox-probe")
    thread.start()
    thread.join()
    return reports


async def _try(name: str, options: ProviderOptions | None) -> ProviderReport:
    with tempfile.TemporaryDirectory(prefix="agent-magics-probe-") as folder:
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
    return ProviderReport(name, True, "", "")
