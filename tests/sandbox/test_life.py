"""The container's life: start, end, death, a new one, removal."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

from agent_magics.sandbox import PythonEnv, Sandbox, SandboxGone, open_sandbox
from agent_magics.sandbox._mounts import Mount, remove_links
from tests.support.processes import eventually, with_argument

pytestmark = pytest.mark.container


async def test_nothing_happens_before_start(root: Path, needs_bubblewrap: None) -> None:
    sandbox = open_sandbox(root)
    assert (sandbox.provider, sandbox.isolated, sandbox.alive) == ("bubblewrap", True, False)
    assert not root.exists()
    with pytest.raises(SandboxGone):
        await sandbox.run("true")
    with pytest.raises(SandboxGone):
        await sandbox.read_file("x")
    await sandbox.stop()
    await sandbox.destroy()


async def test_death_of_the_engine(root: Path, needs_bubblewrap: None, seconds: str) -> None:
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom agent_magics.sandbox import *\n"
        "async def main():\n"
        "    box = open_sandbox(Path(sys.argv[1]))\n"
        "    await box.start()\n"
        "    say = lambda s, b: print(b.decode(), flush=True)\n"
        "    await box.run(sys.argv[2], on_output=say)\n"
        "asyncio.run(main())\n"
    )
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(root)),
        f"(setsid sleep {seconds} &); echo up; sleep 60",
        stdout=subprocess.PIPE,
    )
    assert engine.stdout is not None
    assert await engine.stdout.readline() == b"up\n"
    await eventually(lambda: len(with_argument(seconds)) == 1)
    engine.kill()
    await engine.wait()
    await eventually(lambda: not with_argument(seconds))


async def test_a_python_below_tmp_starts_again_and_again(
    root: Path, needs_bubblewrap: None
) -> None:
    """What shows it leaves mount points in the session's own /tmp, links among them."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        venv.create(folder, symlinks=True)
        Path(folder, "lib64").unlink(missing_ok=True)
        Path(folder, "lib64").symlink_to("lib")
        python = PythonEnv(f"{folder}/bin/python", (folder, sys.base_prefix))
        for _ in range(3):
            sandbox = open_sandbox(root, python=python)
            await sandbox.start()
            ran = await sandbox.run(f"test -L {folder}/lib64; echo $?; echo kept > /tmp/mine")
            assert ran.stdout == b"0\n"
            await sandbox.stop()
        left = root / "tmp" / Path(folder).name
        (left / "lib64").unlink(missing_ok=True)
        (left / "lib64").write_text("somebody's")
        mounts = [Mount("link", f"{folder}/lib64", "lib"), Mount("link", "/tmp/away/x", "lib")]
        outside = root.parent / "outside"
        outside.mkdir()
        (outside / "x").symlink_to("lib")
        (root / "tmp/away").symlink_to(outside)
        remove_links(mounts, "/tmp", root / "tmp")
        assert (left / "lib64").read_text() == "somebody's"
        assert (outside / "x").is_symlink()
        assert (root / "tmp/mine").read_text() == "kept\n"


async def test_destroy_removes_whatever_is_there(root: Path, needs_bubblewrap: None) -> None:
    victim = root.parent / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    sandbox = open_sandbox(root)
    await sandbox.start()
    make = f"""
import os
os.symlink({str(victim)!r}, 'link'); os.symlink('/', 'slash')
for path in ('closed', 'closed/inner', 'closed/inner/most'): os.mkdir(path)
open('closed/inner/file', 'w'); os.chmod('closed/inner', 0); os.chmod('closed', 0o300)
open('read-only', 'w'); os.chmod('read-only', 0); os.mkfifo('fifo')
open(b'\\xff\\n', 'w'); os.mkdir('x' * 255)
for _ in range(1100): os.mkdir('deep'); os.chdir('deep')
"""
    assert (await sandbox.run("python3 -", stdin=make.encode())).stderr == b""
    await sandbox.destroy()
    assert not root.exists()
    assert (victim / "file").read_text() == "precious"
    await sandbox.destroy()


async def test_destroy_keeps_what_is_not_ours(root: Path, needs_bubblewrap: None) -> None:
    sandbox = open_sandbox(root)
    await sandbox.start()
    (root / "notes").write_text("of somebody else")
    await sandbox.destroy()
    assert [path.name for path in root.iterdir()] == ["notes"]


async def test_directories_are_private(sandbox: Sandbox, root: Path) -> None:
    for path in (root, root / "workspace", root / "tmp"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives sessions users of their own")
async def test_every_session_has_its_own_user(sandbox: Sandbox, root: Path) -> None:
    other = open_sandbox(root.parent / "other")
    await other.start()
    owners = {path.stat().st_uid for path in (root / "workspace", root.parent / "other/workspace")}
    await other.destroy()
    assert len(owners) == 2 and 0 not in owners
    await sandbox.stop()
    await sandbox.start()
    assert (root / "workspace").stat().st_uid in owners


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives sessions users of their own")
async def test_files_put_there_before_are_handed_over(root: Path, needs_bubblewrap: None) -> None:
    (root / "workspace/data").mkdir(parents=True)
    (root / "workspace/data/table.csv").write_text("a,b\n")
    sandbox = open_sandbox(root)
    await sandbox.start()
    result = await sandbox.run("echo 1,2 >> data/table.csv && cat data/table.csv")
    await sandbox.destroy()
    assert result.stdout == b"a,b\n1,2\n"


async def test_root_reached_through_a_link(root: Path, needs_bubblewrap: None) -> None:
    (root.parent / "real").mkdir()
    root.symlink_to(root.parent / "real")
    sandbox = open_sandbox(root)
    await sandbox.start()
    await sandbox.write_file("x", b"1")
    assert await sandbox.read_file("x") == b"1"
    await sandbox.destroy()
    assert list((root.parent / "real").iterdir()) == []
