"""The rooms of the house: who may import whom, what is exported, how long a module may get."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "agent_magics"

ROOMS: dict[str, frozenset[str]] = {
    "wire": frozenset(),
    "sandbox": frozenset({"wire"}),
    "client": frozenset({"wire"}),
    "widgets": frozenset({"wire"}),
    "engine": frozenset({"wire", "sandbox"}),
    "notebook": frozenset({"client", "widgets", "wire"}),
    "cli": frozenset({"client", "engine", "sandbox", "widgets", "wire"}),
    "testing": frozenset({"client", "wire"}),
    # the package itself: what users import and what %load_ext loads
    "": frozenset({"client", "notebook", "wire"}),
}
"""Room -> the rooms it may import. Importing the package root (its version) is free."""

KERNEL_ROOMS = ("", "wire", "client", "notebook", "widgets")
ENGINE_ONLY = frozenset(
    {
        "anthropic",
        "openai",
        "pydantic",
        "pydantic_ai",
        "sse_starlette",
        "starlette",
        "uvicorn",
    }
)
PACKAGES = sorted(
    ".".join(("agent_magics", *path.parent.relative_to(PACKAGE).parts))
    for path in PACKAGE.rglob("__init__.py")
    if not path.parent.name.startswith("_")
)
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 700


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import in a module of `package`, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            # `from . import x` may name a module
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def breaches(source: str, room: str, package: tuple[str, ...]) -> list[str]:
    """The imports of a module that its room may not have, as `line: name`."""
    found = []
    for line, name in imported(source, package):
        parts = [*name.split("."), ""]
        if parts[0] == "agent_magics":
            bad = parts[1] in ROOMS and parts[1] != room and parts[1] not in ROOMS[room]
        else:
            bad = room in KERNEL_ROOMS and parts[0] in ENGINE_ONLY
        if bad:
            found.append(f"{line}: {name}")
    return found


def test_every_room_has_a_rule() -> None:
    assert {room_of(path) for path in MODULES} - {"__main__"} <= set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_import_only_what_they_may(path: Path) -> None:
    package = ("agent_magics", *path.relative_to(PACKAGE).parent.parts)
    assert breaches(path.read_text("utf-8"), room_of(path), package) == []


def test_a_breach_is_found() -> None:
    source = (
        "from ..engine import app\n"
        "import pydantic_ai.models\n"
        "from .. import __version__\n"
        "def late():\n    from agent_magics.client import Client\n"
    )
    assert breaches(source, "wire", ("agent_magics", "wire")) == [
        "1: agent_magics.engine.app",
        "2: pydantic_ai.models",
        "5: agent_magics.client.Client",
    ]
    assert breaches("import pydantic_ai", "engine", ("agent_magics", "engine")) == []


@pytest.mark.parametrize("path", [*MODULES, *sorted(PACKAGE.rglob("*.js"))], ids=name_of)
def test_modules_stay_readable(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("name", PACKAGES)
def test_exports_are_sorted_and_there(name: str) -> None:
    package = importlib.import_module(name)
    exported = package.__all__
    # ruff's order of __all__: constants, classes, the rest
    assert list(exported) == sorted(exported, key=lambda item: (_kind(item), item))
    assert len(set(exported)) == len(exported)
    for item in exported:
        assert hasattr(package, item), f"{name} does not export {item}"
    if name.count(".") > 1:  # a part of a room, not what others import
        return
    for item, value in vars(package).items():
        public = not item.startswith("_") and item not in exported
        home = getattr(value, "__module__", None)
        leaked = public and isinstance(home, str) and home.startswith("agent_magics")
        assert not leaked, f"{name}.{item} is public but not in __all__"


def _kind(name: str) -> int:
    if name.isupper():
        return 0
    return 1 if name[:1].isupper() else 2


LOAD = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "agent_magics")
new = sorted(set(sys.modules) - before)
print(json.dumps([new, "agent" in shell.magics_manager.magics["cell"]]))
"""


def test_loading_the_extension_imports_no_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=PACKAGE.parent,
        check=True,
    )
    modules, registered = json.loads(done.stdout.splitlines()[-1])
    assert registered
    assert "agent_magics.notebook" in modules
    roots = {name.split(".")[0] for name in modules}
    assert roots & ENGINE_ONLY == set()
    rooms = {".".join(name.split(".")[:2]) for name in modules}
    assert rooms & {"agent_magics.engine", "agent_magics.sandbox"} == set()
