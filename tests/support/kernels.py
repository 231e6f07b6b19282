"""The kernels that tests run against: the newest ipykernel and the oldest supported one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = ROOT / ".venvs" / "ipykernel6" / "bin" / "python"


def python_of(kind: str) -> Path:
    """The interpreter of `newest` (this environment) or `ipykernel6`; raises when it is missing."""
    if kind == "newest":
        return Path(sys.executable)
    if not OLDEST.is_file():
        raise FileNotFoundError(f"{OLDEST} is missing: make .venvs/ipykernel6/.dev")
    return OLDEST


def write_kernelspec(
    kernels: Path, name: str, kind: str, environ: Mapping[str, str] | None = None
) -> None:
    """A kernelspec `name` below the directory `kernels`, importing this tree's package."""
    folder = kernels / name
    folder.mkdir(parents=True)
    spec = {
        "argv": [
            str(python_of(kind)),
            "-Xfrozen_modules=off",
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
        ],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "env": {
            "PYTHONPATH": str(ROOT),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            **(environ or {}),
        },
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
