"""What the model is told of the place it works in: the container, its network, its Python."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent_magics.sandbox import HOST_GROUPS

from ._network_config import NetworkConfig

if TYPE_CHECKING:
    from ._agents import AgentProfile
    from ._sessions import Session

__all__ = ["place_text"]

_MOST_HOSTS = 20
_OF_AN_IMAGE = ("podman", "docker", "kubernetes")
_DISTRIBUTION = re.compile(r"(.+?)-[^-]+\.(?:dist|egg)-info$")
_CONTAINER = """\
- A Linux container that belongs to this session. /workspace is the shared folder: the user puts \
files there and takes your results from there. Only /workspace and /tmp can be written. Commands \
start in /workspace; use relative paths in them and in scripts."""
_NO_CONTAINER = """\
- This session has no container: commands run on the user's machine itself, with all that the user \
may do. /workspace stands for the session's own directory in the paths that tools take; for \
commands and scripts it does not exist: use relative paths there, or $HOME, which is the same \
directory. The user puts files there and takes your results from there."""
_NOTEBOOK = """\
- You can't see the notebook's variables. The user can send one along with a prompt, as @name in \
its text or with %%agent --with name; ask for that if you need one. Files come with \
%agent_put FILE."""
_CHECK = "Check with an import before you rely on a package that is not named here."
_WELL_KNOWN = (
    *("numpy", "pandas", "polars", "pyarrow", "duckdb", "scipy", "scikit-learn", "statsmodels"),
    *("matplotlib", "seaborn", "plotly", "altair", "bokeh", "pillow", "torch", "tensorflow"),
    *("jax", "xgboost", "lightgbm", "transformers", "sympy", "networkx", "openpyxl", "requests"),
    *("httpx", "beautifulsoup4", "lxml", "sqlalchemy", "geopandas", "xarray", "pytest", "tabulate"),
)
"""Named where they are installed; of the others only the number is told."""


def place_text(
    agent: AgentProfile, session: Session, network: NetworkConfig, servers: Sequence[str]
) -> str:
    """The part of the instructions that differs from session to session. `servers`: of MCP."""
    lines = [
        "Where you are",
        _CONTAINER if session.isolated else _NO_CONTAINER,
        _network_line(agent, session, network),
        _python_line(session),
        _NOTEBOOK,
    ]
    names = [name for name in servers if agent.offers(f"{name}_x")]
    if names:
        named = ", ".join(f"{name}_*" for name in names)
        lines.append(f"- Tools of the user's own servers: {named}.")
    return "\n".join(lines)


def _network_line(agent: AgentProfile, session: Session, network: NetworkConfig) -> str:
    return f"- {_reach(session, network)}" + (
        " webfetch reads public web pages for you." if agent.offers("webfetch") else ""
    )


def _reach(session: Session, network: NetworkConfig) -> str:
    if not session.isolated:
        return "Commands have the network of the machine."
    if session.network is None:
        return "No network: commands can download and install nothing."
    hosts = list(dict.fromkeys(_spelled_out((*network.allow, *session.network))))
    others = "the user is asked about all others" if network.ask else "all others are refused"
    if not hosts:
        return f"No host is open to commands by itself; {others}."
    named = ", ".join(hosts[:_MOST_HOSTS])
    more = f" and {len(hosts) - _MOST_HOSTS} more" if len(hosts) > _MOST_HOSTS else ""
    return f"Commands reach these hosts: {named}{more}; {others}."


def _spelled_out(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        group = HOST_GROUPS.get(pattern)
        yield pattern if group is None else f"{pattern} ({', '.join(group)})"


def _python_line(session: Session) -> str:
    if session.python is None or session.provider in _OF_AN_IMAGE:
        return f"- python3 is the container's own. {_CHECK}"
    prefixes = tuple(str(prefix) for prefix in session.python["prefixes"])
    installed = _installed(_site_directories(prefixes))
    known = [name for name in _WELL_KNOWN if name in installed]
    others = len(installed) - len(known)
    line = "- The Python of the user's notebook runs here as python3"
    if not installed:
        return f"{line}; it has no packages beyond the standard library."
    named = f"{', '.join(known)} and {others} more" if known else f"{others}, none well known"
    return f"{line}, with its packages: {named}. {_CHECK}"


def _site_directories(prefixes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Where packages are, each with the time of its last change."""
    found: dict[str, int] = {}
    for prefix in prefixes:
        with contextlib.suppress(OSError):  # also where a directory must not be entered
            below = Path(prefix).glob("lib*/python3*/*-packages")
            for path in [Path(prefix)] if prefix.endswith("-packages") else below:
                with contextlib.suppress(OSError):
                    found[str(path)] = path.stat().st_mtime_ns
    return tuple(found.items())


@functools.lru_cache(maxsize=16)
def _installed(directories: tuple[tuple[str, int], ...]) -> frozenset[str]:
    """The normalized names of the distributions in there."""
    names: set[str] = set()
    for directory, _ in directories:
        with contextlib.suppress(OSError):
            for entry in os.listdir(directory):  # noqa: PTH208
                if found := _DISTRIBUTION.match(entry):
                    names.add(re.sub(r"[-_.]+", "-", found[1]).lower())
    return frozenset(names)
