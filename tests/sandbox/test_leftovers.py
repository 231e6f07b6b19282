"""What a killed agent program leaves behind, where no container ends with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from agent_magics.sandbox import Sandbox, SandboxGone, _probe, end_leftovers, open_sandbox
from agent_magics.sandbox._leftovers import MARKER
from tests.support.processes import eventually, with_argument

DAEMON = "(setsid nohup sleep {} > /dev/null 2>&1 &); sleep {} > /dev/null 2>&1 & echo up"


async def orphans(root: Path, seconds: str) -> Sandbox:
    """A session whose agent program was killed over two background processes."""
    box = open_sandbox(root, provider="local")
    await box.start()
    assert (await box.run(DAEMON.format(seconds, seconds))).stdout == b"up\n"
    await eventually(lambda: len(with_argument(seconds)) == 2, 30)
    assert box._channel is not None
    os.kill(box._channel._process.pid, signal.SIGKILL)
    await eventually(lambda: not box.alive, 30)
    assert with_argument(seconds)  # nothing ended them
    return box


async def test_the_next_start_ends_them(root: Path, seconds: str) -> None:
    box = await orphans(root, seconds)
    with pytest.raises(SandboxGone):
        await box.run("true")
    other = open_sandbox(root, provider="local")  # as a new engine would
    await other.start()
    await eventually(lambda: not with_argument(seconds), 30)
    assert (await other.run("echo on")).stdout == b"on\n"
    await other.destroy()
    await box.stop()


async def test_so_does_the_end_of_the_session(root: Path, seconds: str) -> None:
    box = await orphans(root, seconds)
    await box.destroy()
    await eventually(lambda: not with_argument(seconds), 30)
    assert not root.exists()


async def test_only_those_below_the_directory_are_ended(root: Path, seconds: str) -> None:
    def process(*, marker: str | None) -> subprocess.Popen[bytes]:
        environ = {} if marker is None else {MARKER: marker}
        return subprocess.Popen(["/bin/sleep", seconds], env=environ)

    inside = process(marker=f"{root}/ses_1")
    others = [process(marker=mark) for mark in (None, f"{root}-other", str(root.parent), "")]
    try:
        await eventually(lambda: len(with_argument(seconds)) == 5, 30)
        assert await asyncio.to_thread(end_leftovers, root) == 1
        assert inside.wait() == -signal.SIGKILL
        assert await asyncio.to_thread(end_leftovers, root) == 0
        assert all(other.poll() is None for other in others)
    finally:
        for each in [inside, *others]:
            each.kill()
            each.wait()


FORKING = (
    "import os, time\n"
    "print('up', flush=True)\n"
    "for _ in range(20_000):\n"  # minutes, not for ever, whatever becomes of the test
    "    time.sleep(0.005)\n"
    "    if os.fork(): os._exit(0)\n"
)


def forking_process(root: Path, seconds: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", FORKING, seconds],
        env={MARKER: str(root)},
        stdout=subprocess.PIPE,
    )


async def test_what_forks_is_ended_as_well(root: Path, seconds: str) -> None:
    forking = forking_process(root, seconds)
    assert forking.stdout is not None and forking.stdout.readline() == b"up\n"
    try:
        deadline = time.monotonic() + 30
        while with_argument(seconds):
            await asyncio.to_thread(end_leftovers, root)
            assert time.monotonic() < deadline
    finally:
        forking.kill()
        forking.wait()
        forking.stdout.close()


async def test_the_marker_is_in_every_process(root: Path) -> None:
    box = open_sandbox(root, provider="local")
    await box.start()
    shown = await box.run(f"tr '\\0' '\\n' < /proc/$PPID/environ; env | grep {MARKER}")
    await box.destroy()
    assert shown.stdout.decode().count(f"{MARKER}={root}\n") == 2


def test_directories_of_killed_probes_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, new, other = (tmp_path / f"{name}-1" for name in ("agent-magics-probe", "new", "other"))
    (old / "session/workspace").mkdir(parents=True)
    new = tmp_path / "agent-magics-probe-2"
    for path in (new, other):
        path.mkdir()
    long_ago = time.time() - 2 * _probe.ABANDONED
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    (tmp_path / "agent-magics-probe-3").symlink_to(other)
    _probe._remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "agent-magics-probe-2",
        "agent-magics-probe-3",
        "other-1",
    ]
