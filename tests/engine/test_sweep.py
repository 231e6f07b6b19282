"""After SIGKILL of the engine: no process, no mount, no directory is left; workspaces are."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from agent_magics.engine._containers import Containers
from agent_magics.sandbox import probe
from tests.support.engine_harness import engine_in, eventually
from tests.support.engine_process import EngineProcess, started
from tests.support.processes import with_argument

CONTAINERS = pytest.mark.container


@pytest.fixture
def needs_bubblewrap() -> None:
    report = probe()[0]
    if not report.works:
        pytest.skip(f"NO CONTAINERS HERE: {report.reason}")


async def create(client: httpx.AsyncClient, provider: str) -> str:
    response = await client.post("/session", json={"sandbox": provider})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def run(client: httpx.AsyncClient, session: str, command: str) -> str:
    response = await client.post(f"/session/{session}/exec", json={"command": command})
    assert response.status_code == 200, response.text
    return str(response.json()["stdout"])


def mounts(engine: EngineProcess) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(engine.directory) in line]


def fill(folder: Path) -> None:
    """What a hostile container may leave in the directory of a session."""
    deep = "import os\nos.makedirs('workspace'); os.chdir('workspace')\n"
    deep += "for _ in range(1500): os.mkdir('deep'); os.chdir('deep')"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", deep], cwd=folder, check=True)
    (folder / "workspace/closed").mkdir(mode=0)


def end(database: Path, session: str) -> None:
    """Write down that a session was ended."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO ended_session VALUES (?, '{}')", (session,))


def orphan_of(folder: Path, mark: str) -> subprocess.Popen[bytes]:
    """A process as a local session's commands start them."""
    return subprocess.Popen(["/bin/sleep", mark], env={"AGENT_MAGICS_LOCAL_SESSION": str(folder)})


def ours(engine: EngineProcess, mark: str) -> list[int]:
    """The engine's containers and commands: by its directories or by a mark as their argument."""
    found = {*with_argument(mark)}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(engine.directory).encode() in line:
                found.add(int(process.name))
    return sorted(found)


@CONTAINERS
@pytest.mark.parametrize("provider", ["bubblewrap", "local"])
async def test_a_killed_engine(needs_bubblewrap: None, provider: str) -> None:
    mark = f"86400.{os.getpid()}"
    with EngineProcess() as engine:
        async with started(engine) as client:
            kept, gone, left = [await create(client, provider) for _ in range(3)]
            for session in (kept, gone):
                await run(client, session, f"echo {session} > note; (setsid sleep {mark} &)")
            running = asyncio.create_task(run(client, kept, f"sleep {mark}"))
            await eventually(lambda: len(with_argument(mark)) >= 3)
            await engine.end(signal.SIGKILL)
            with pytest.raises(httpx.HTTPError):
                await running
        # sessions that were being made, being deleted, and one that the store does not know
        for name in ("ses_cut", "ses_ended"):
            fill(engine.data / "sessions" / name)
        (engine.data / "sessions/ses_cut/.making").touch()
        # ended while the store was full: one that it still knows, one that it never did
        fill(engine.data / "sessions/ses_left")
        for name in (left, "ses_left"):
            (engine.data / "sessions" / name / ".ended").touch()
        end(engine.data / "engine.db", "ses_ended")
        (engine.data / "sessions/ses_unknown/workspace").mkdir(parents=True)
        async with started(engine) as client:
            await eventually(lambda: not with_argument(mark))
            assert sorted(p.name for p in (engine.data / "sessions").iterdir()) == sorted(
                [kept, gone, "ses_unknown"]
            )
            (engine.data / "sessions/ses_unknown/workspace").rmdir()
            (engine.data / "sessions/ses_unknown").rmdir()
            assert {s["id"] for s in (await client.get("/session")).json()} == {kept, gone}
            assert await run(client, kept, "cat note") == f"{kept}\n"
            assert (await client.delete(f"/session/{gone}")).status_code == 200
            assert [p.name for p in (engine.data / "sessions").iterdir()] == [kept]
            await engine.end(signal.SIGKILL)
        await eventually(lambda: not ours(engine, mark))
        assert not mounts(engine)


def groups(pid: int) -> str:
    """The control groups of a process."""
    return Path(f"/proc/{pid}/cgroup").read_text()


KERNEL = """
import sys, time, httpx
transport = httpx.HTTPTransport(uds=sys.argv[1])
headers = {"Authorization": f"Bearer {sys.argv[2]}"}
client = httpx.Client(transport=transport, base_url="http://agent", headers=headers, timeout=60)
with client.stream("GET", "/lease") as lease:
    next(lease.iter_lines())
    session = client.post("/session", json={"sandbox": "bubblewrap"}).json()["id"]
    command = f"echo {session} > note; (setsid sleep {sys.argv[3]} &)"
    client.post(f"/session/{session}/exec", json={"command": command}).raise_for_status()
    print(session, flush=True)
    time.sleep(600)
"""


def start_kernel(engine: EngineProcess, mark: str) -> subprocess.Popen[bytes]:
    """A client in a process of its own, with a session and a process in its container."""
    arguments = [str(engine.state / "engine.sock"), engine.info["token"], mark]
    return subprocess.Popen([sys.executable, "-c", KERNEL, *arguments], stdout=subprocess.PIPE)


@CONTAINERS
async def test_a_killed_kernel(needs_bubblewrap: None) -> None:
    """The engine sees that nobody is there any more, and goes with all that is its own."""
    mark = f"86403.{os.getpid()}"
    with EngineProcess() as engine:
        # As long as a loaded machine takes from "ready" to the first lease.
        async with started(engine, grace=8) as client, client.stream("GET", "/lease") as lease:
            await anext(lease.aiter_lines())  # ours, until the kernel has its own
            assert engine.process is not None
            kernel = await asyncio.to_thread(start_kernel, engine, mark)
            assert kernel.stdout is not None
            with kernel.stdout:
                session = (await asyncio.to_thread(kernel.stdout.readline)).decode().strip()
        # the kernel's own command line has it as well
        await eventually(lambda: len(with_argument(mark)) >= 2)
        # no group is made for a container, so none can be left
        assert {groups(pid) for pid in with_argument(mark)} == {groups(engine.process.pid)}
        kernel.kill()
        kernel.wait()
        assert await engine.ended() == 0
        await eventually(lambda: not ours(engine, mark))
        assert not mounts(engine)
        assert [p.name for p in (engine.data / "sessions").iterdir()] == [session]
        assert list(engine.state.glob("engine.sock")) == []
        async with started(engine) as client:
            assert await run(client, session, "cat note") == f"{session}\n"
            await engine.end(signal.SIGTERM)


@CONTAINERS
async def test_killed_while_containers_start(needs_bubblewrap: None) -> None:
    with EngineProcess() as engine:
        for pause in (0.01, 0.06):
            async with started(engine) as client:
                making = [asyncio.create_task(create(client, "bubblewrap")) for _ in range(3)]
                await asyncio.sleep(pause)  # wherever that is in the start of a container
                await engine.end(signal.SIGKILL)
                await asyncio.gather(*making, return_exceptions=True)
            await eventually(lambda: not ours(engine, "no mark"))
        async with started(engine) as client:
            known = {s["id"] for s in (await client.get("/session")).json()}
            assert {p.name for p in (engine.data / "sessions").iterdir()} == known
            await engine.end(signal.SIGTERM)
        assert not mounts(engine)


async def test_a_local_sessions_processes_are_swept_at_the_start(tmp_path: Path) -> None:
    """The engine and the agent program were killed at the same time."""
    mark = f"86401.{os.getpid()}"
    folder = tmp_path / "sessions" / "ses_1"
    orphan = orphan_of(folder, mark)
    try:
        async with engine_in(tmp_path):
            assert orphan.wait() == -signal.SIGKILL
    finally:
        orphan.kill()
        orphan.wait()


async def test_what_can_not_be_removed_does_not_stop_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(f"{Containers.__module__}.remove_tree", fail)
    (tmp_path / "sessions/ses_left").mkdir(parents=True)
    (tmp_path / "sessions/ses_left/.making").touch()
    async with engine_in(tmp_path) as harness:
        assert await harness.session()
    assert "could not be removed: Permission denied" in caplog.text


# As an ordinary user


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A directory of an ordinary user's; only root can make one."""
    if os.geteuid() != 0:
        pytest.skip("already run as an ordinary user")
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("NOT TESTED AS AN ORDINARY USER: there is no user nobody")
    path = Path(tempfile.mkdtemp(prefix="am-sweep-", dir="/tmp"))
    os.chown(path, user.pw_uid, user.pw_gid)
    yield path
    shutil.rmtree(path)


PROGRAM = """
import asyncio, sys
from pathlib import Path
from agent_magics.sandbox import open_sandbox
async def main():
    box = open_sandbox(Path(sys.argv[1]), provider=sys.argv[3])
    await box.start()
    await box.run(f"echo x > note; (setsid sleep {sys.argv[2]} &)")
    await box.run(f"sleep {sys.argv[2]}", on_output=None)
asyncio.run(main())
"""


def owner_of_a_session(folder: Path, mark: str, provider: str) -> subprocess.Popen[bytes]:
    python = "/usr/bin/python3"
    check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if not Path(python).exists() or subprocess.run(check, check=False).returncode:
        pytest.skip(f"NOT TESTED AS AN ORDINARY USER: {python} is not Python 3.11 or later")
    source, copy = Path(__file__).resolve().parents[2], folder / "source"
    shutil.copytree(source / "agent_magics/sandbox", copy / "agent_magics/sandbox")
    shutil.copy(source / "agent_magics/__init__.py", copy / "agent_magics/__init__.py")
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
    user = folder.stat()
    return subprocess.Popen(
        [python, "-c", PROGRAM, str(folder / "session"), mark, provider],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy), "HOME": str(folder)},
        cwd=folder,
        user=user.st_uid,
        group=user.st_gid,
        extra_groups=[],
    )


@CONTAINERS
@pytest.mark.parametrize("provider", ["bubblewrap", "local"])
async def test_a_killed_owner_that_is_an_ordinary_user(
    needs_bubblewrap: None, nobody: Path, provider: str
) -> None:
    mark = f"86402.{os.getpid()}"
    owner = owner_of_a_session(nobody, mark, provider)
    try:
        # the program's own command line has it as well
        await eventually(lambda: len(with_argument(mark)) >= 3)
    finally:
        owner.kill()
        owner.wait()
    await eventually(lambda: not with_argument(mark))
    assert (nobody / "session/workspace/note").read_text() == "x\n"
