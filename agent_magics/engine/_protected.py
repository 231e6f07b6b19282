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
- every name that begins with a dash: to `cp * out/` it is an option;
- `HEAD` (it makes a directory a repository), files that Python reads when it starts, and where
  it keeps packages.

Protected while a rule allows a command that looks for them by itself: build files such as
`Makefile` (for `make`), `package.json` (`npm`), `conftest.py` (`pytest`), modules named as
Python's own (`python3 -m json.tool` begins with the directory it runs in), and a program in the
workspace that a rule names (`./run.sh *`). No command may put another directory in the place of
one that such a file lies in. A file that a command is given as its argument is what
the command says and stays free: who allows `python3 plot.py` allows what `plot.py` holds, and who
allows `pytest` the tests.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase, translate
from functools import lru_cache

from ._paths import container_path
from ._shell import analyse

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

_NODE = (
    *("astro", "bun", "cypress", "eslint", "jest", "lerna", "lint-staged", "mocha", "next", "npm"),
    *("npx", "nx", "parcel", "playwright", "pnpm", "prettier", "rollup", "storybook", "stylelint"),
    *("ts-node", "tsc", "tsx", "turbo", "vite", "vitest", "webpack", "yarn"),
)
_PYTEST = ("nox", "py.test", "pytest", "tox")
_PACKAGING = ("build", "hatch", "pdm", "pip", "pip3", "pipx", "poetry", "tox", "uv", "uvx")
_LOOKED_FOR: dict[str, tuple[str, ...]] = {
    "*-library": ("R", "Rscript"),
    "*.bzl": ("bazel",),
    "*.cabal": ("cabal", "stack"),
    "*.cmake": ("cmake", "ctest"),
    "*.conf.js": _NODE,
    "*.config.[cm][jt]s": _NODE,
    "*.config.[jt]s": _NODE,
    "*.config.json": _NODE,
    "*.csproj": ("dotnet", "msbuild"),
    "*.gemspec": ("bundle", "gem"),
    "*.mk": ("gmake", "make"),
    "*.rake": ("rake",),
    "*.sbt": ("sbt",),
    "*.smk": ("snakemake",),
    "*.tf": ("terraform", "tofu"),
    "alembic.ini": ("alembic",),
    "ansible.cfg": ("ansible", "ansible-playbook"),
    "app.py": ("flask", "chalice"),
    "binding.gyp": _NODE,
    "brewfile": ("brew",),
    "build": ("bazel",),
    "build.bazel": ("bazel",),
    "build.gradle*": ("gradle", "gradlew"),
    "build.ninja": ("ninja",),
    "build.rs": ("cargo",),
    "build.xml": ("ant",),
    "build.zig": ("zig",),
    "bun.lock*": _NODE,
    "bunfig.toml": _NODE,
    "cabal.project*": ("cabal",),
    "cargo.lock": ("cargo",),
    "cargo.toml": ("cargo",),
    "celeryconfig.py": ("celery",),
    "cmake*presets.json": ("cmake", "ctest"),
    "cmakecache.txt": ("cmake", "ninja"),
    "cmakelists.txt": ("cmake", "ctest"),
    "compose*.y*ml": ("docker", "docker-compose", "podman"),
    "composer.json": ("composer", "php"),
    "composer.lock": ("composer", "php"),
    "conanfile.*": ("conan",),
    "conf.py": ("sphinx-build", "sphinx-autobuild"),
    "configure.ac": ("autoconf", "autoreconf"),
    "conftest.py": _PYTEST,
    "containerfile": ("docker", "podman"),
    "default.nix": ("nix", "nix-build", "nix-shell"),
    "deno.json*": ("deno",),
    "deps.edn": ("clj", "clojure"),
    "directory.build.*": ("dotnet", "msbuild"),
    "docker-compose*.y*ml": ("docker", "docker-compose", "podman"),
    "dockerfile": ("docker", "podman"),
    "dodo.py": ("doit",),
    "dune*": ("dune",),
    "dvc.yaml": ("dvc",),
    "fabfile.py": ("fab",),
    "flake.nix": ("nix",),
    "gemfile": ("bundle", "rake"),
    "gemfile.lock": ("bundle", "rake"),
    "gnumakefile": ("gmake", "make"),
    "go.mod": ("go",),
    "go.work": ("go",),
    "gradle-wrapper.*": ("gradle", "gradlew"),
    "gradle.properties": ("gradle", "gradlew"),
    "gruntfile.*": ("grunt",),
    "gulpfile.*": ("gulp",),
    "gunicorn.conf.py": ("gunicorn",),
    "hatch.toml": ("hatch",),
    "ipython_*config.py": ("ipython", "jupyter"),
    "jupyter_*config.*": ("jupyter", "jupyter-lab"),
    "justfile": ("just",),
    "latexmkrc": ("latexmk",),
    "lefthook.y*ml": ("git", "lefthook"),
    "locustfile.py": ("locust",),
    "main.nf": ("nextflow",),
    "makefile": ("gmake", "make"),
    "meson.build": ("meson", "ninja"),
    "mix.exs": ("mix",),
    "mkdocs.y*ml": ("mkdocs",),
    "module.bazel": ("bazel",),
    "mypy.ini": ("dmypy", "mypy"),
    "nextflow.config": ("nextflow",),
    "node_modules": (*_NODE, "node"),
    "noxfile.py": ("nox",),
    "npm-shrinkwrap.json": _NODE,
    "package-lock.json": _NODE,
    "package.json": (*_NODE, "node"),
    "package.swift": ("swift",),
    "pdm.lock": ("pdm",),
    "pdm.toml": ("pdm",),
    "pelicanconf.py": ("pelican",),
    "pipfile*": ("pipenv",),
    "pixi.lock": ("pixi",),
    "pixi.toml": ("pixi",),
    "pnpm-lock.yaml": _NODE,
    "pnpm-workspace.yaml": _NODE,
    "poetry.lock": ("poetry",),
    "poetry.toml": ("poetry",),
    "pom.xml": ("mvn", "mvnw"),
    "project.clj": ("lein",),
    "pylintrc*": ("pylint",),
    "pyproject.toml": (*_PYTEST, *_PACKAGING, "black", "mypy", "pylint", "coverage", "isort"),
    "pytest.ini": _PYTEST,
    "pytest.toml": _PYTEST,
    "rakefile": ("rake",),
    "rust-toolchain*": ("cargo", "rustc", "rustup"),
    "sconstruct": ("scons",),
    "scrapy.cfg": ("scrapy",),
    "settings.gradle*": ("gradle", "gradlew"),
    "setup.cfg": (*_PYTEST, *_PACKAGING, "flake8", "mypy", "pylint", "coverage"),
    "setup.hs": ("cabal", "stack"),
    "setup.py": _PACKAGING,
    "shell.nix": ("nix", "nix-shell"),
    "snakefile": ("snakemake",),
    "stack.yaml": ("stack",),
    "taskfile*.y*ml": ("task",),
    "tasks.py": ("inv", "invoke"),
    "tox.ini": (*_PYTEST, "flake8", "pylint", "coverage"),
    "tox.toml": ("tox",),
    "tsconfig*.json": _NODE,
    "unittest.cfg": ("nose2",),
    "uv.lock": ("uv", "uvx"),
    "uv.toml": ("uv", "uvx"),
    "vagrantfile": ("vagrant",),
    "workspace.bazel": ("bazel",),
    "wscript": ("waf",),
    "wsgi.py": ("flask",),
    "yarn.lock": _NODE,
}
"""Names (or patterns of them) and the programs that look for them and run what they say."""

_ANY_LOOKED_FOR = re.compile("|".join(map(translate, _LOOKED_FOR)))
_MODULES = frozenset(map(str.casefold, sys.stdlib_module_names)) | {
    *(*_PACKAGING, *_PYTEST, "black", "coverage", "flake8", "ipykernel", "ipython", "isort"),
    *("jupyter", "mypy", "nbconvert", "nbstripout", "notebook", "pylint", "ruff", "virtualenv"),
}
"""Modules that `python3 -m` and `-c` use and expect to be those that are installed."""
_PYTHON = re.compile(r"\bi?python[\d.]*\s(?:.*\s)?-[A-Za-z]*[mc]\b", re.DOTALL)
_TEST_RUNNER = re.compile(r"-m (?:pytest|unittest)\b")
_OWN_DIRECTORY = re.compile(r"(?:/+(?:workspace|tmp)|~|\$(?:home|pwd)|\$\{(?:home|pwd)\})/")
_PROGRAM_WORD = re.compile(r"[\w.+-]+")


def is_protected(path: str) -> bool:
    """Whether a file at `path` changes what other commands do. Letter case does not count."""
    return any(map(_decides, _names(path)))


def _names(path: str) -> list[str]:
    return container_path(path).casefold().split("/")[1:]


def _decides(name: str) -> bool:
    if name.startswith("."):
        return name not in _HARMLESS
    return name.startswith("-") or name in _NAMES or name.endswith(_ENDINGS)


def reader_of(path: str, patterns: Iterable[str], *, whole: bool = False) -> str | None:
    """
    The first of `patterns` (commands that are allowed) whose program looks for `path` by itself,
    or is that file.

    `whole`: a directory at `path` may become another one, with all that is in it.
    """
    names = _names(path)
    programs = {
        program
        for name in names
        if _ANY_LOOKED_FOR.fullmatch(name)
        for looked_for, readers in _LOOKED_FOR.items()
        if fnmatchcase(name, looked_for)
        for program in readers
    }
    full = "/" + "/".join(names)
    shadows = _module(names) in _MODULES or (whole and names[-1] in _MODULES)
    for pattern in patterns:
        words, files, imports = _runs(pattern)
        if not programs.isdisjoint(words) or (shadows and imports):
            return pattern
        first = pattern.split(" ", 1)[0]
        if any(fnmatchcase(program, first) for program in programs):
            return pattern
        if whole:
            files = (*files, *(folder for file in files for folder in _folders(file)))
        if any(fnmatchcase(full, file) for file in files):
            return pattern
    return None


def _module(names: list[str]) -> str:
    """The module that a file is when Python runs in its directory, or beside its package."""
    stem, _, ending = names[-1].partition(".")
    if not ending.endswith(("py", "so", "pyd")):
        return ""
    return names[-2] if stem == "__init__" and len(names) > 1 else stem


@lru_cache(maxsize=1024)
def _runs(pattern: str) -> tuple[frozenset[str], tuple[str, ...], bool]:
    """
    What a pattern for commands may run: words that may be programs, patterns of the paths of
    files (wherever the command runs), and whether Python looks for modules where it runs.
    """
    named = []
    for command in analyse(pattern).commands:
        named.append(command.name)
        if command.launches:
            named += [word.text for word in command.arguments] or command.raw.split(" ")
    files = tuple(_anywhere(name.casefold()) for name in named if "/" in name)
    imports = bool(_PYTHON.search(pattern)) and not _TEST_RUNNER.search(pattern)
    return frozenset(_PROGRAM_WORD.findall(pattern)), files, imports


def _anywhere(file: str) -> str:
    """
    A pattern for the path of `file`; a relative one is meant in any directory.

    So is one below a directory that can be written: what lies there can be moved.
    """
    file = posixpath.normpath(file)
    own = _OWN_DIRECTORY.match(file)
    if file.startswith("/") and not own:
        return file
    rest = file[own.end() :] if own else file
    steps = [step for step in rest.split("/") if step not in (".", "..")]
    return "*/" + "/".join(steps)


def _folders(file: str) -> Iterator[str]:
    """Patterns for the directories on the way to a file, as far as they have a name."""
    steps = file.split("/")
    for count in range(len(steps) - 1, 1, -1):
        if steps[count - 1].strip("*?"):
            yield "/".join(steps[:count])
