"""The environment of commands: fixed, nothing of ours or of the caller's leaks in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ._compiled import is_compiled
from ._types import PythonEnv, is_site_directory

__all__ = ["command_environ", "merged"]

_LEAVE_VIM = "silent! autocmd VimEnter * if !has('ttyin') | cquit | endif"
"""Without a terminal it would wait for keys on its error output; what `-c` said is done before."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def command_environ(
    python: PythonEnv, *, workspace: str, tmp: str, extra_path: str, shared: bool = False
) -> dict[str, str]:
    """
    What every command finds.

    The Python environment is read-only and HOME is the workspace, so `pip install` goes to
    `.local/py` there; caches go to `tmp`, else they would swell the workspace and its snapshots.

    Compiled modules go there only when the environment has none of its own: Python looks for them
    in one place, and each container would compile numpy and all the others anew.

    Args:
        shared: the Python inside is that of this machine, at the same paths.
    """
    packages = f"{workspace}/.local/py"
    cache = f"{tmp}/.cache"
    environ = {
        "DEBIAN_FRONTEND": "noninteractive",
        "GIT_ASKPASS": "true",
        # else a directory with a planted `config` is a repository to every git that runs in it
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.bareRepository",
        "GIT_CONFIG_VALUE_0": "explicit",
        "GIT_EDITOR": "true",
        "GIT_PAGER": "cat",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": workspace,
        "LANG": "C.UTF-8",
        "LOGNAME": "agent",
        "MANPAGER": "cat",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": f"{cache}/matplotlib",
        "PAGER": "cat",
        "PATH": f"{PurePosixPath(python.executable).parent}:{SYSTEM_PATH}:{extra_path}",
        "PIP_CACHE_DIR": f"{cache}/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_TARGET": packages,
        "PYTHONPATH": ":".join([packages, *_user_sites(python)]),
        "SHELL": "/bin/bash",
        "SYSTEMD_PAGER": "cat",
        "TERM": "dumb",
        "TMPDIR": tmp,
        "USER": "agent",
        "VIMINIT": _LEAVE_VIM,
        "XDG_CACHE_HOME": cache,
        "npm_config_cache": f"{cache}/npm",
    }
    if shared and is_compiled(python):
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
    else:
        environ["PYTHONPYCACHEPREFIX"] = f"{cache}/pycache"
    if python.prefixes and (Path(python.prefixes[0]) / "pyvenv.cfg").is_file():
        environ["VIRTUAL_ENV"] = python.prefixes[0]
    return environ


def merged(environ: Mapping[str, str], extra: Mapping[str, str] | None) -> dict[str, str]:
    """With the caller's own variables on top; ValueError for what no process can have."""
    result = {**environ, **(extra or {})}
    for name, value in result.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"not an environment variable: {name!r}")
    return result


def _user_sites(python: PythonEnv) -> list[str]:
    """Site directories which that Python does not find by itself, since HOME is another."""
    roots = [path for path in python.prefixes if not is_site_directory(path)]
    sites = [path for path in python.prefixes if is_site_directory(path)]
    return [s for s in sites if not any(PurePosixPath(s).is_relative_to(r) for r in roots)]
