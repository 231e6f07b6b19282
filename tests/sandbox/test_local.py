"""The provider that does not isolate."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_magics.sandbox import PythonEnv, Sandbox, SandboxGone, SandboxUnavailable, open_sandbox
from tests.support.processes import eventually, with_argument


@pytest.fixture
async def local(root: Path) -> AsyncIterator[Sandbox]:
    box = open_sandbox(root, provider="local")
    await box.start()
    yield box
    await box.destroy()
    assert not root.exists()


async def test_is_marked(local: Sandbox) -> None:
    assert (local.provider, local.isolated) == ("local", False)


async def test_workspace_means_the_sessions_directory(local: Sandbox, root: Path) -> None:
    await local.write_file("/workspace/a/b", b"x")
    assert (root / "workspace/a/b").read_bytes() == b"x"
    assert await local.read_file("a/b") == b"x"
    result = await local.run("pwd; cat b; echo $HOME", cwd="/workspace/a")
    assert result.stdout.decode() == f"{root}/workspace/a\nx{root}/workspace\n"
    paths = [entry.path for entry in await local.list_files(recursive=True)]
    assert paths == ["/workspace/a", "/workspace/a/b"]
    await local.delete_file("/workspace/a/b")
    assert not (root / "workspace/a/b").exists()


async def test_other_paths_are_the_machines(local: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"y")
    assert await local.read_file(str(tmp_path / "outside")) == b"y"
    assert await local.read_file("/workspace/../.." + str(tmp_path / "outside")) == b"y"
    assert [e.path for e in await local.list_files(str(tmp_path))] == [
        str(tmp_path / "outside"),
        str(tmp_path / "session"),
    ]


async def test_environment_is_not_inherited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret-value")
    box = open_sandbox(root, provider="local")
    await box.start()
    result = await box.run("env; cat /proc/$PPID/environ")
    await box.destroy()
    assert b"secret-value" not in result.stdout
    assert sys.executable.rpartition("/")[0].encode() in result.stdout


async def test_timeout_kills_the_tree(local: Sandbox, seconds: str) -> None:
    daemon = f"(setsid nohup sleep {seconds} >/dev/null 2>&1 &)"
    result = await local.run(f"{daemon}; sleep 0.1; echo x; sleep {seconds}", timeout=2)
    assert (result.exit_code, result.stdout) == (124, b"x\n")
    assert not with_argument(seconds)


async def test_stop_ends_background_processes(local: Sandbox, seconds: str) -> None:
    await local.run(f"(setsid sleep {seconds} &)")
    await eventually(lambda: bool(with_argument(seconds)))
    await local.stop()
    assert not with_argument(seconds)


async def test_killed_agent_program(local: Sandbox, seconds: str) -> None:
    assert local._channel is not None
    task = asyncio.create_task(local.run(f"exec sleep {seconds}"))
    await eventually(lambda: bool(with_argument(seconds)))
    os.kill(local._channel._process.pid, signal.SIGKILL)
    with pytest.raises(SandboxGone):
        await task
    assert not local.alive
    await local.start()
    assert (await local.run("echo again")).stdout == b"again\n"
    await eventually(lambda: not with_argument(seconds))


async def test_python_that_is_not_there(root: Path) -> None:
    box = open_sandbox(root, provider="local", python=PythonEnv("/no/python", ()))
    with pytest.raises(SandboxUnavailable, match="/no/python"):
        await box.start()
    box = open_sandbox(root, provider="local", python=PythonEnv("/bin/false", ()))
    with pytest.raises(SandboxUnavailable, match="did not start"):
        await box.start()
    await box.destroy()


async def test_limits_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent_magics.sandbox._agent import processes

    own = os.getpid()
    from_ps = processes._parents_from_ps()
    assert from_ps[own] == os.getppid() == processes.parents()[own]
