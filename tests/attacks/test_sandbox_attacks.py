"""
What a hostile program in the container can't do: as the user who runs the tests and, when that is
root, as an ordinary user as well.
"""

from __future__ import annotations

import collections
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_magics.sandbox import _workspace, probe
from tests.support import attacks
from tests.support.attacks import protocol
from tests.support.attacks.stand import Stand

pytestmark = [pytest.mark.container, pytest.mark.timeout(300)]

SOURCE = Path(attacks.__file__).resolve().parents[3]
SYSTEM_PYTHON = "/usr/bin/python3"
ORDINARY_USER = 54_321
CHECKS = [(attacks.category(function), function.__name__) for function in attacks.CHECKS]

Results = dict[str, str | None]
RunCategory = Callable[[str], Results]


def test_there_are_enough_of_each_kind() -> None:
    assert len({name for _, name in CHECKS}) == len(CHECKS) >= 100
    counted = collections.Counter(category for category, _ in CHECKS)
    assert set(counted) == set(attacks.CATEGORIES) and min(counted.values()) >= 6, counted


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory that any user can enter; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-attacks-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def each_once(run: RunCategory) -> RunCategory:
    """One run of the program for all checks of a category; its failure is that of all of them."""
    done: dict[str, Results] = {}

    def results(category: str) -> Results:
        if category not in done:
            done[category] = {}
            done[category] = run(category)
        assert done[category], "the program failed"
        return done[category]

    return results


@pytest.fixture(scope="module")
def as_ourselves(folder: Path) -> RunCategory:
    report = probe(["bubblewrap"])[0]
    if not report.works:
        pytest.skip(f"NO CONTAINERS HERE: {report.reason}")

    def run(category: str) -> Results:
        base = folder / f"ourselves-{category}"
        return run_attacks(base, sys.executable, SOURCE, os.geteuid(), in_category(category))

    return each_once(run)


@pytest.fixture(scope="module")
def as_ordinary_user(folder: Path) -> RunCategory:
    if os.geteuid() != 0:
        pytest.skip("already run as an ordinary user")
    if not Path(SYSTEM_PYTHON).exists() or not recent_enough(SYSTEM_PYTHON):
        pytest.skip(f"NOT TESTED AS AN ORDINARY USER: {SYSTEM_PYTHON} is not Python 3.11 or later")
    copy = folder / "source"
    for part in ("agent_magics/__init__.py", "agent_magics/sandbox", "tests/support/attacks"):
        target = copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (SOURCE / part).is_dir():
            shutil.copytree(SOURCE / part, target)
        else:
            shutil.copy(SOURCE / part, target)
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)

    def run(category: str) -> Results:
        base = folder / f"user-{category}"
        return run_attacks(base, SYSTEM_PYTHON, copy, ORDINARY_USER, in_category(category))

    return each_once(run)


def in_category(category: str) -> list[str]:
    return [name for found, name in CHECKS if found == category]


def recent_enough(python: str) -> bool:
    test = "import sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", test], check=False).returncode == 0


def run_attacks(
    base: Path, python: str, source: Path, uid: int, names: list[str], provider: str = "bubblewrap"
) -> Results:
    home = base / "home"
    home.mkdir(parents=True)
    other = {} if uid == os.geteuid() else {"user": uid, "group": uid, "extra_groups": []}
    if other:
        for path in (base, home):
            os.chown(path, uid, uid)
    done = subprocess.run(
        [python, "-m", "tests.support.attacks", "--provider", provider, str(base), *names],
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
        timeout=250,
        check=False,
        **other,  # type: ignore[arg-type]
    )
    assert done.returncode == 0, done.stderr
    results: Results = json.loads(done.stdout)
    return results


@pytest.mark.parametrize(("category", "name"), CHECKS)
def test_as_ourselves(as_ourselves: RunCategory, category: str, name: str) -> None:
    problem = as_ourselves(category)[name]
    assert problem is None, problem


@pytest.mark.parametrize(("category", "name"), CHECKS)
def test_as_an_ordinary_user(as_ordinary_user: RunCategory, category: str, name: str) -> None:
    problem = as_ordinary_user(category)[name]
    assert problem is None, problem


def test_without_isolation_the_attacks_work(folder: Path) -> None:
    """Else a check that can't fail would go unnoticed."""
    names = list(attacks.HARMLESS)
    base = folder / "without"
    results = run_attacks(base, sys.executable, SOURCE, os.geteuid(), names, "local")
    assert set(results) == set(names)
    assert [name for name, problem in results.items() if problem is None] == []


@pytest.mark.parametrize(
    ("part", "check"),
    [("_is_inside", protocol.rows_that_climb), ("_numbers", protocol.facts_that_are_no_numbers)],
)
async def test_a_host_that_believes_everything_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, check: attacks.Check
) -> None:
    """The same of the checks that need no container."""
    stand = Stand(tmp_path)
    await check(stand)
    monkeypatch.setattr(_workspace, part, lambda value: True if part == "_is_inside" else value)
    with pytest.raises(AssertionError, match="it was believed"):
        await check(stand)
