"""Modules are not compiled anew in each container when the environment has them compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_magics.sandbox import PythonEnv, Sandbox
from agent_magics.sandbox._compiled import is_compiled
from agent_magics.sandbox._environ import command_environ

PREFIX, NOTHING_WRITTEN = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"


def environment(root: Path, packages: int, compiled: int) -> PythonEnv:
    """One of so many packages, the first of them compiled."""
    for number in range(packages):
        package = root / f"lib/python3.11/site-packages/p{number}"
        (package / "__pycache__").mkdir(parents=True)
        (package / "__init__.py").touch()
        if number < compiled:
            (package / "__pycache__/__init__.cpython-311.pyc").touch()
    return PythonEnv(str(root / "bin/python"), (str(root),))


@pytest.mark.parametrize(
    ("packages", "compiled", "expected"),
    [(20, 20, True), (20, 18, True), (20, 17, False), (20, 0, False), (0, 0, False)],
)
def test_nearly_all_have_to_be_compiled(
    tmp_path: Path, packages: int, compiled: int, expected: bool
) -> None:
    python = environment(tmp_path, packages, compiled)
    assert is_compiled(python) is expected
    environ = command_environ(python, workspace="/w", tmp="/t", extra_path="/x", shared=True)
    assert (PREFIX in environ, NOTHING_WRITTEN in environ) == (not expected, expected)


def test_the_python_of_an_image_is_not_looked_at(tmp_path: Path) -> None:
    python = environment(tmp_path, 5, 5)
    environ = command_environ(python, workspace="/w", tmp="/t", extra_path="/x")
    assert environ[PREFIX] == "/t/.cache/pycache" and NOTHING_WRITTEN not in environ


def test_an_environment_that_is_not_there() -> None:
    assert not is_compiled(PythonEnv("/nowhere/python", ("/nowhere", "/nowhere/site-packages")))


async def test_compiled_modules_of_the_environment_are_used(sandbox: Sandbox) -> None:
    """And none is left in the workspace."""
    await sandbox.write_file("mine.py", b"x = 1\n")
    program = (
        "import os, json.decoder as d, mine, sys\n"
        "print(os.path.exists(d.__cached__), d.__cached__.startswith('/tmp/'))"
    )
    result = await sandbox.run(f'python -c "{program}"; ls')
    expected = b"True False" if is_compiled(PythonEnv.current()) else b"True True"
    assert result.stdout == expected + b"\nmine.py\n", result
