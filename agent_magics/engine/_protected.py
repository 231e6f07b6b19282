"""
Paths that decide what other commands do.

Writing below `/workspace` and `/tmp` is free, but a file such as `.git/config`, `.bashrc` or
`.local/py/sitecustomize.py` changes what `git status`, `bash` or `python3` run. A free write of
one would turn every rule that allows such a command into a rule for anything. So these paths are
asked about, unless a rule names them.

Protected always:

- every name that begins with a dot, at any depth, except those known to hold no settings that a
  program acts on (`.gitignore`, `.github`, ...): settings of git, shells, editors, package
  managers, debuggers are of this form, and `.local`, `.config`, `.cache` besides;
- `HEAD` (it makes a directory a repository), files that Python reads when it starts, and where
  it keeps packages.

Protected while a rule allows a command that looks for them by itself: build files such as
`Makefile` (for `make`), `package.json` (`npm`), `conftest.py` (`pytest`), and a program in the
workspace that a rule names (`./run.sh *`). A file that a command is given as its argument is what
the command says and stays free: who allows `python3 plot.py` allows what `plot.py` holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ._paths import container_path, short_path

__all__ = ["CHANGES_COMMANDS", "is_protected", "reader_of"]

CHANGES_COMMANDS = "This file changes what other commands do."
"""Why a person is asked about a protected path."""

_HARMLESS = frozenset(
    {
        *(".agent-magics", ".all-contributorsrc", ".dockerignore", ".editorconfig"),
        *(".env.example", ".env.sample", ".env.template", ".eslintignore", ".fdignore"),
        *(".gcloudignore", ".git-blame-ignore-revs", ".github", ".gitignore", ".gitkeep"),
        *(".gitlab-ci.yml", ".helmignore", ".ignore", ".ipynb_checkpoints", ".keep", ".mailmap"),
        *(".markdownlintignore", ".nojekyll", ".npmignore", ".prettierignore", ".rbuildignore"),
        *(".readthedocs.yaml", ".readthedocs.yml", ".rgignore", ".slugignore"),
        *(".stylelintignore", ".travis.yml", ".vercelignore", ".well-known", ".zenodo.json"),
    }
)
_NAMES = frozenset(
    {
        "head",  # with `objects` and `refs` beside it the directory is a bare repository
        *("sitecustomize.py", "usercustomize.py", "pyvenv.cfg", "pydistutils.cfg"),
        *("pip.conf", "pip.ini", "matplotlibrc", "_vimrc", "_netrc", "authorized_keys"),
        *("__pycache__", "site-packages", "dist-packages"),
    }
)
_ENDINGS = (".pth", ".egg-link", ".pyc", ".pyo")

_NODE = ("bun", "npm", "npx", "pnpm", "yarn")
_PYTEST = ("nox", "py.test", "pytest", "tox")
_PACKAGING = ("build", "hatch", "pdm", "pip", "pip3", "pipx", "poetry", "tox", "uv", "uvx")
_LOOKED_FOR: dict[str, tuple[str, ...]] = {
    "*.config.[cm]js": (*_NODE, "eslint", "vite", "webpack", "vitest", "jest"),
    "*.config.[jt]s": (*_NODE, "eslint", "vite", "webpack", "vitest", "jest"),
    "*.gemspec": ("bundle", "gem"),
    "*.mk": ("gmake", "make"),
    "build.gradle*": ("gradle", "gradlew"),
    "build.rs": ("cargo",),
    "cargo.toml": ("cargo",),
    "cmakelists.txt": ("cmake", "ctest"),
    "compose.y*ml": ("docker", "docker-compose", "podman"),
    "conftest.py": _PYTEST,
    "containerfile": ("docker", "podman"),
    "docker-compose.y*ml": ("docker", "docker-compose", "podman"),
    "dockerfile": ("docker", "podman"),
    "dvc.yaml": ("dvc",),
    "fabfile.py": ("fab",),
    "gemfile": ("bundle", "rake"),
    "gnumakefile": ("gmake", "make"),
    "gruntfile.*": ("grunt",),
    "gulpfile.*": ("gulp",),
    "ipython_*config.py": ("ipython", "jupyter"),
    "jupyter_*config.*": ("jupyter", "jupyter-lab"),
    "justfile": ("just",),
    "lefthook.y*ml": ("git", "lefthook"),
    "makefile": ("gmake", "make"),
    "meson.build": ("meson", "ninja"),
    "mypy.ini": ("dmypy", "mypy"),
    "node_modules": (*_NODE, "node"),
    "noxfile.py": ("nox",),
    "package.json": (*_NODE, "node"),
    "pom.xml": ("mvn", "mvnw"),
    "pylintrc": ("pylint",),
    "pyproject.toml": (*_PYTEST, *_PACKAGING, "black", "mypy", "pylint", "coverage", "isort"),
    "pytest.ini": _PYTEST,
    "rakefile": ("rake",),
    "sconstruct": ("scons",),
    "setup.cfg": (*_PYTEST, *_PACKAGING, "flake8", "mypy", "pylint", "coverage"),
    "setup.py": _PACKAGING,
    "snakefile": ("snakemake",),
    "taskfile.y*ml": ("task",),
    "tasks.py": ("inv", "invoke"),
    "tox.ini": (*_PYTEST, "flake8", "coverage"),
    "tsconfig*.json": (*_NODE, "tsc", "ts-node"),
}
"""Names (or patterns of them) and the programs that look for them and run what they say."""

_PROGRAM_WORD = re.compile(r"[\w.+-]+")


def is_protected(path: str) -> bool:
    """Whether a file at `path` changes what other commands do. Letter case does not count."""
    return any(map(_decides, _names(path)))


def _names(path: str) -> list[str]:
    return container_path(path).casefold().split("/")[1:]


def _decides(name: str) -> bool:
    if name.startswith("."):
        return name not in _HARMLESS
    return name in _NAMES or name.endswith(_ENDINGS)


def reader_of(path: str, patterns: Iterable[str]) -> str | None:
    """
    The first of `patterns` (commands that are allowed) whose program looks for `path` by itself,
    or is that file.
    """
    names = _names(path)
    programs = {
        program
        for looked_for, readers in _LOOKED_FOR.items()
        for program in readers
        if any(fnmatchcase(name, looked_for) for name in names)
    }
    own = {container_path(path), short_path(path)}
    for pattern in patterns:
        first = pattern.split(" ", 1)[0]
        is_itself = "/" in first and container_path(first) in own
        if is_itself or not programs.isdisjoint(_PROGRAM_WORD.findall(pattern)):
            return pattern
    return None
