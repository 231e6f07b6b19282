"""
Puts the JupyterLab extension into wheels and source distributions.

From a git tree it is built with npm. A source distribution has it prebuilt, so a wheel made from
one needs no Node. Without npm everything else is installed, and a warning says what is missing;
`agent-magics doctor` says it too. An editable installation takes what is built already.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SHARE = "share/jupyter/labextensions/agent-magics"
_SOURCES = ("src/*.ts", "style/*", "schema/*", "package.json", "package-lock.json")


class LabextensionHook(BuildHookInterface):
    """Found by hatchling through `[tool.hatch.build.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / "labextension"
        bundle = folder / "dist"
        if version != "editable" and not _is_fresh(folder, bundle):
            self._build(folder)
        if not (bundle / "package.json").is_file():
            self.app.display_warning(
                "agent-magics is installed without its JupyterLab extension, which is not built. "
                "The magics work without it."
            )
        elif self.target_name == "wheel":
            build_data["shared_data"][str(bundle)] = _SHARE
            build_data["shared_data"][str(folder / "install.json")] = f"{_SHARE}/install.json"
        else:
            build_data["artifacts"].append("/labextension/dist")

    def _build(self, folder: Path) -> None:
        npm = shutil.which("npm")
        if npm is None:
            self.app.display_warning("There is no npm to build the JupyterLab extension with.")
            return
        self.app.display_info("Building the JupyterLab extension")
        steps = [["ci", "--loglevel=error"], ["run", "--silent", "build"]]
        if (folder / "node_modules" / ".package-lock.json").is_file():
            del steps[0]
        for step in steps:
            done = subprocess.run([npm, *step], cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                told = (done.stdout + done.stderr).strip()[-2000:]
                self.app.display_warning(f"npm {step[0]} failed:\n{told}")
                return


def _is_fresh(folder: Path, bundle: Path) -> bool:
    """Whether the bundle is there and no source is newer; in a source distribution it always is."""
    built = bundle / "package.json"
    if not built.is_file():
        return False
    sources = (path for pattern in _SOURCES for path in folder.glob(pattern))
    return all(path.stat().st_mtime <= built.stat().st_mtime for path in sources)
