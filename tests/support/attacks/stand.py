"""What every check has: a container, decoys of the host's around it, and ways to attack."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_magics.sandbox import ExecResult, Limits, Sandbox, open_sandbox

DECOY = os.environ.get("ATTACK_DECOY", "")
"""A secret of the host's: in the environment, in files, in a process."""
NAMES = (
    *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "JPY_API_TOKEN", "JUPYTER_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HF_TOKEN", "PGPASSWORD", "SSH_AUTH_SOCK"),
)
"""Variables in which the host has it, too."""
SECRETS = (
    *(".ssh/id_decoy", ".aws/credentials", ".netrc", ".git-credentials", ".kube/config"),
    *(".docker/config.json", ".pypirc", ".bash_history", ".ipython/profile_default/history.sqlite"),
    *(".local/share/jupyter/runtime/kernel-1.json", ".jupyter/jupyter_server_config.json"),
    *(".local/share/agent-magics/engine.db", ".config/agent-magics/config.toml"),
    *("engine-state/engine.json", "notebook.ipynb"),
)
"""Files of the home in which the host has it."""

HARMLESS = (
    *("environment_of_every_process", "command_lines_of_the_host", "files_of_the_home"),
    *("secrets_in_the_home", "files_of_other_sessions", "magic_links_of_proc"),
    *("processes_of_the_host", "loopback_of_the_host", "other_families_of_addresses"),
    *("abstract_sockets_of_the_host", "socket_of_the_engine", "namespaces_are_its_own"),
    *("no_privileges", "devices_and_groups_of_the_machine", "terminals_of_the_host"),
    *("size_of_shared_memory", "links_swapped_while_the_host_reads", "links_out_of_the_container"),
    *("writing_through_links", "links_and_then_files_through_them"),
)
"""Checks that hurt nothing but the decoys where nothing is isolated and the attack works."""

Check = Callable[["Stand"], Awaitable[None]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """One attack: it has the container's whole attention and raises AssertionError if it works."""
    CHECKS.append(function)
    return function


def category(function: Check) -> str:
    """What is attacked: the name of the module that the check is written in."""
    return function.__module__.rpartition(".")[2]


class Stand:
    """One container and a host full of decoys around it."""

    def __init__(self, base: Path, provider: str = "bubblewrap") -> None:
        self.base = base
        self.provider = provider
        self.home = Path(os.path.expanduser("~"))
        self.limits = Limits(
            memory=700 << 20,
            process_memory=400 << 20,
            processes=150,
            background=20,
            file_size=50 << 20,
            disk=150 << 20,
            shared_memory=32 << 20,
        )
        self.root = base / "session"
        self.box = open_sandbox(self.root, provider=provider, limits=self.limits)

    @asynccontextmanager
    async def another(self, **limits: Any) -> AsyncIterator[Sandbox]:
        """One more container, gone with all its files at the end; with such limits."""
        changed = replace(self.limits, **limits)
        box = open_sandbox(self.base / "another", provider=self.provider, limits=changed)
        await box.start()
        try:
            yield box
        finally:
            await box.destroy()
            assert not (self.base / "another").exists()

    async def run(
        self, command: str, *, timeout: float = 15, stdin: bytes | None = None
    ) -> ExecResult:
        await self.box.start()
        return await self.box.run(command, timeout=timeout, stdin=stdin)

    async def output(self, command: str) -> str:
        result = await self.run(command)
        assert not result.timed_out, "timed out"
        return (result.stdout + result.stderr).decode("utf-8", "replace")

    async def python(self, code: str, *, timeout: float = 15) -> str:
        """What a Python program prints; it must run to its end."""
        result = await self.run("python -S -", stdin=(PRELUDE + code).encode(), timeout=timeout)
        assert result.exit_code == 0, f"the attack itself broke: {result}"
        return result.stdout.decode().strip()

    async def refused(self, code: str, *errors: str) -> None:
        """Each line of code must fail with one of the errors."""
        lines = [line for line in code.strip().splitlines() if line.strip()]
        program = "".join(f"attempt(lambda: {line.strip()})\n" for line in lines)
        answers = (await self.python(program)).splitlines()
        assert len(answers) == len(lines), answers
        for line, answer in zip(lines, answers, strict=True):
            assert answer in errors, f"{line.strip()}: {answer}, expected {' or '.join(errors)}"


PRELUDE = """
import ctypes, errno, fcntl, mmap, os, pty, resource, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(f):
    try:
        print("SUCCEEDED", repr(f()))
    except OSError as e:
        print(errno.errorcode.get(e.errno, e.errno))
    except ValueError as e:
        print("ValueError")
def call(number, *args):
    r = libc.syscall(number, *args)
    if r < 0:
        raise OSError(ctypes.get_errno(), "")
    return r
def check(r):
    if r < 0:
        raise OSError(ctypes.get_errno(), "")
    return r
X86 = os.uname().machine == "x86_64"
"""
