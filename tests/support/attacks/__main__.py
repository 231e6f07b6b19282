"""The program; see the package."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import CHECKS
from .stand import DECOY, HARMLESS, NAMES, SECRETS, Stand

PATIENCE = 60.0
"""Seconds for one check."""


async def run_checks(stand: Stand, names: Sequence[str]) -> dict[str, str | None]:
    """What went wrong in each; all of them when there are no names."""
    results: dict[str, str | None] = {}
    try:
        for function in CHECKS:
            if names and function.__name__ not in names:
                continue
            try:
                await asyncio.wait_for(function(stand), PATIENCE)
                results[function.__name__] = None
            except Exception:
                results[function.__name__] = traceback.format_exc(limit=-3)
    finally:
        await stand.box.destroy()
    return results


@contextlib.contextmanager
def decoys() -> Iterator[None]:
    """A host that has secrets in files, in its environment, in a process, behind a socket."""
    home = Path(os.path.expanduser("~"))
    for name in (*SECRETS, "victim"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("untouched" if name == "victim" else DECOY)
    os.environ.update(dict.fromkeys(NAMES, DECOY))
    sleep = [sys.executable, "-c", "import time; time.sleep(600)", DECOY]
    process = subprocess.Popen(sleep)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "engine-state/engine.sock"))
        listener.listen()
        try:
            yield
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Run the checks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.attacks")
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--provider", default="bubblewrap")
    options = parser.parse_args()
    assert DECOY, "ATTACK_DECOY is not set"
    harmless = options.names and set(options.names) <= set(HARMLESS)
    if options.provider == "local" and not harmless:
        parser.error("without isolation only those of HARMLESS, by their names")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # ends with the test that started it
    stand = Stand(options.directory, options.provider)
    with decoys():
        print(json.dumps(asyncio.run(run_checks(stand, options.names))))


if __name__ == "__main__":
    main()
