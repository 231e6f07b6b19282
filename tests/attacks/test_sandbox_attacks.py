"""
What a hostile program in the container can't do: as the user who runs the tests and, when that is
root, as an ordinary user as well.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_magics.sandbox import probe
from tests.support import attacks

pytestmark = pytest.mark.container

SOURCE = Path(attacks.__file__).resolve().parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
ORDINARY_USER = 54_321
NAMES = [function.__name__ for function in attacks.CHECKS]

Results = dict[str, str | None]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory that any user can enter; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-attacks-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def as_ourselves(folder: Path) -> Results:
    report = probe(["bubblewrap"])[0]
    if not report.works:
        pytest.skip(f"NO CONTAINERS HERE: {report.reason}")
    return run_attacks(folder / "ourselves", sys.executable, SOURCE, os.geteuid())


@pytest.fixture(scope="module")
def as_ordinary_user(folder: Path) -> Results:
    if os.geteuid() != 0:
        pytest.skip("already run as an ordinary user")
    if not Path(SYSTEM_PYTHON).exists() or not recent_enough(SYSTEM_PYTHON):
        pytest.skip(f"NOT TESTED AS AN ORDINARY USER: {SYSTEM_PYTHON} is not Python 3.11 or later")
    copy = folder / "source"
    for part in ("agent_magics/__init__.py", "agent_magics/sandbox", "tests/support/attacks.py"):
        target = copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (SOURCE / part).is_dir():
            shutil.copytree(SOURCE / part, target)
        else:
            shutil.copy(SOURCE / part, target)
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
    return run_attacks(folder / "user", SYSTEM_PYTHON, copy, ORDINARY_USER)


def recent_enough(python: str) -> bool:
    test = "import sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", test], check=False).returncode == 0


def run_attacks(base: Path, python: str, source: Path, uid: int) -> Results:
    home = base / "home"
    home.mkdir(parents=True)
    other = {} if uid == os.geteuid() else {"user": uid, "group": uid, "extra_groups": []}
    if other:
        for path in (base, home):
            os.chown(path, uid, uid)
    done = subprocess.run(
        [python, str(source / "tests/support/attacks.py"), str(base)],
        env={
            "ATTACK_DECOY": f"decoy-{secrets.token_hex(16)}",
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(source),
            "TMPDIR": str(base),
        },
        cwd=base,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        **other,  # type: ignore[arg-type]
    )
    assert done.returncode == 0, done.stderr
    results: Results = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("name", NAMES)
def test_as_ourselves(as_ourselves: Results, name: str) -> None:
    problem = as_ourselves[name]
    assert problem is None, problem


@pytest.mark.parametrize("name", NAMES)
def test_as_an_ordinary_user(as_ordinary_user: Results, name: str) -> None:
    problem = as_ordinary_user[name]
    assert problem is None, problem
