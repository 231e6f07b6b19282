"""How the JupyterLab extension is packed; what it does is tested in tests/ui and in TypeScript."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agent_magics import __version__

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "labextension"
SHARE = "data/share/jupyter/labextensions/agent-magics/"
COPIED = ("agent_magics", "labextension", "LICENSE", "README.md", "pyproject.toml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources as git has them, without what npm has put there."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("node_modules", "dist", "lib", "build", "__pycache__")
    for name in COPIED:
        source, target = ROOT / name, tree / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return tree


def with_bundle(tree: Path) -> None:
    static = tree / "labextension" / "dist" / "static"
    static.mkdir(parents=True)
    (static / "remoteEntry.js").write_text("// built")
    (tree / "labextension" / "dist" / "package.json").write_text("{}")


def built(tree: Path, target: str) -> tuple[Path, str]:
    """The distribution that hatchling makes on a machine without npm, and what it says."""
    out = tree.parent / "out"
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    environ = {**os.environ, "PATH": "/nonexistent", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pattern = "*.whl" if target == "wheel" else "*.tar.gz"
    return next(out.glob(pattern)), done.stdout + done.stderr


def files_of(wheel: Path) -> list[str]:
    names = zipfile.ZipFile(wheel).namelist()
    return sorted(name.partition(SHARE)[2] for name in names if SHARE in name)


def test_without_npm_all_the_rest_is_built(tree: Path) -> None:
    wheel, said = built(tree, "wheel")
    assert "without its JupyterLab extension" in said
    assert files_of(wheel) == []
    assert "agent_magics/__init__.py" in zipfile.ZipFile(wheel).namelist()


def test_wheels_and_source_distributions_ship_it_built(tree: Path, tmp_path: Path) -> None:
    with_bundle(tree)
    shipped = ["install.json", "package.json", "static/remoteEntry.js"]
    wheel, _ = built(tree, "wheel")
    assert files_of(wheel) == shipped
    sdist, _ = built(tree, "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel, said = built(unpacked, "wheel")
    assert files_of(wheel) == shipped
    assert "npm" not in said


def test_one_version_and_a_lock_that_names_no_registry() -> None:
    package = json.loads((FOLDER / "package.json").read_text())
    assert package["version"] == __version__
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert lock["version"] == __version__
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]


def test_every_command_of_the_settings_exists() -> None:
    schema = (FOLDER / "schema" / "plugin.json").read_text()
    used = set(re.findall(r'"command": "(agent-magics:[a-z-]+)"', schema))
    made = set(
        re.findall(r'id: "(agent-magics:[a-z-]+)"', (FOLDER / "src/commands.ts").read_text())
    )
    assert used == made
