"""Data directories that can't be used: one sentence, whoever the user is, and nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_magics.engine import _serve  # noqa: F401 - so that the child needs no files of ours
from agent_magics.engine.__main__ import main
from agent_magics.engine._state import StartError, data_directory
from tests.support.engine_harness import engine_in
from tests.support.fake_sandbox import FakeSandbox

UID = 54321


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("filled") / "data"
    asyncio.run(_fill(data))
    return data


@pytest.fixture
def home(filled: Path) -> Iterator[Path]:
    """A directory of an ordinary user's, with a state directory and the data of one session."""
    path = Path(tempfile.mkdtemp(prefix="am-data-", dir="/tmp"))
    (path / "state").mkdir(mode=0o700)
    (path / "config.toml").touch()
    shutil.copytree(filled, path / "data")
    (path / "data").chmod(0o700)
    if os.geteuid() == 0:
        for found in (path, *path.rglob("*")):
            os.chown(found, UID, UID)
    yield path
    for found in (path, *(p for p in path.rglob("*") if p.is_dir())):
        found.chmod(0o700)
    shutil.rmtree(path)


async def _fill(data: Path) -> None:
    async with engine_in(data) as harness:
        await harness.session(title="kept")
    (data / "engine.lock").touch()


def start(home: Path) -> tuple[int, str]:
    """Start an engine as an ordinary user that must not get far: its exit code, what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(UID)
            os.setuid(UID)
        os.environ |= {"HOME": str(home), "AGENT_MAGICS_CONFIG": str(home / "config.toml")}
        arguments = ["--state-dir", str(home / "state"), "--data-dir", str(home / "data")]
        code = 99
        try:
            code = main([*arguments, "--grace", "0.01"])
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text


def closed(home: Path) -> None:
    (home / "data").chmod(0o500)


def closed_and_new(home: Path) -> None:
    shutil.rmtree(home / "data")
    (home / "data").mkdir(mode=0o500)
    if os.geteuid() == 0:
        os.chown(home / "data", UID, UID)


def closed_database(home: Path) -> None:
    (home / "data/engine.db").chmod(0o400)


def unreadable_database(home: Path) -> None:
    (home / "data/engine.db").chmod(0)


def closed_lock(home: Path) -> None:
    (home / "data/engine.lock").chmod(0o400)


def closed_parent(home: Path) -> None:
    shutil.rmtree(home / "data")
    home.chmod(0o500)


def a_file(home: Path) -> None:
    shutil.rmtree(home / "data")
    (home / "data").write_text("")


def below_a_file(home: Path) -> None:
    shutil.rmtree(home / "data")
    (home / "file").write_text("")
    (home / "data").symlink_to(home / "file" / "below")


def dangling(home: Path) -> None:
    (home / "data").rename(home / "elsewhere")
    (home / "data").symlink_to(home / "gone")


def loop(home: Path) -> None:
    (home / "data").rename(home / "elsewhere")
    (home / "data").symlink_to(home / "data")


def open_to_others(home: Path) -> None:
    (home / "data").chmod(0o755)


def database_is_elsewhere(home: Path) -> None:
    (home / "data/engine.db").rename(home / "real.db")
    (home / "data/engine.db").symlink_to(home / "gone/real.db")


def database_loop(home: Path) -> None:
    (home / "data/engine.db").unlink()
    (home / "data/engine.db").symlink_to("engine.db")


def database_pipe(home: Path) -> None:
    (home / "data/engine.db").unlink()
    os.mkfifo(home / "data/engine.db")


def database_directory(home: Path) -> None:
    (home / "data/engine.db").unlink()
    (home / "data/engine.db").mkdir()


def log_pipe(home: Path) -> None:
    os.mkfifo(home / "data/engine.db-wal")


def index_directory(home: Path) -> None:
    (home / "data/engine.db-shm").mkdir()


def sessions_file(home: Path) -> None:
    shutil.rmtree(home / "data/sessions", ignore_errors=True)
    (home / "data/sessions").write_text("")


def snapshots_elsewhere(home: Path) -> None:
    shutil.rmtree(home / "data/snapshots", ignore_errors=True)
    (home / "data/snapshots").symlink_to(home / "gone")


def log_unreadable(home: Path) -> None:
    (home / "data/engine.db-wal").write_bytes(b"x")
    (home / "data/engine.db-wal").chmod(0)
    if os.geteuid() == 0:
        os.chown(home / "data/engine.db-wal", UID, UID)


def closed_log(home: Path) -> None:
    (home / "state/engine.log").touch()
    (home / "state/engine.log").chmod(0)
    if os.geteuid() == 0:
        os.chown(home / "state/engine.log", UID, UID)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (closed, r"may not write in .*/data\. Run: chmod"),
        (closed_and_new, r"may not write in .*/data\. Run: chmod"),
        (closed_database, r"can't be opened\. Run: chmod u\+rw .*/engine\.db"),
        (unreadable_database, r"can't be opened\. Run: chmod u\+rw .*/engine\.db"),
        (closed_lock, r"engine\.lock|may not write"),
        (closed_parent, r"may not write|chmod"),
        (a_file, r"/data is not a directory; set another"),
        (below_a_file, r"is a link to .*/below, which does not exist"),
        (dangling, r"is a link to .*/gone, which does not exist\. Mount its disk"),
        (loop, r"link that can't be followed"),
        (open_to_others, r"run: chmod 700"),
        (database_is_elsewhere, r"engine\.db is a link to .*real\.db, which does not exist"),
        (database_loop, r"engine\.db can't be opened: Too many|can't be followed"),
        (database_pipe, r"engine\.db is not a file\. Move it away"),
        (database_directory, r"engine\.db is not a file\. Move it away"),
        (log_pipe, r"engine\.db-wal is not a file\. Move it away"),
        (index_directory, r"engine\.db-shm is not a file\. Move it away"),
        (log_unreadable, r"can't be opened\. Run: chmod u\+rw .*/engine\.db-wal"),
        (closed_log, r"state/engine\.log can't be used\. Run: chmod u\+rw .*/state/engine\.log"),
        (sessions_file, r"/data/sessions is not a directory"),
        (snapshots_elsewhere, r"/data/snapshots is a link to .*/gone, which does not exist"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_can_not_be_used(home: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(home)
    code, said = start(home)
    assert code == 1
    assert re.search(says, said), said
    assert said.startswith("agent-magics engine: ") and said.count("\n") == 1, said


@pytest.mark.parametrize("which", ["sessions", "sessions/*", "snapshots"])
def test_what_can_not_be_entered_locks_nobody_out(home: Path, which: str) -> None:
    """One session's directory that is another user's, for example, is that session's problem."""
    (home / "data/snapshots").mkdir(exist_ok=True)
    (session,) = (path.name for path in (home / "data/sessions").iterdir())
    for path in list((home / "data").glob(which)):
        path.chmod(0)
    assert start(home) == (0, "")
    if which != "snapshots":
        log = (home / "state/engine.log").read_text()
        assert f"{session}: The files of this session can't be read" in log


async def test_a_workspace_that_must_not_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: FakeSandbox) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/some/workspace")

    async with engine_in(tmp_path) as harness:
        session = await harness.session()
        sandbox = harness.engine.containers.get(session)
        await sandbox.stop()
        monkeypatch.setattr(FakeSandbox, "start", refuse)
        answer = await harness.http.get(f"/session/{session.id}/fs", params={"path": "a"})
        assert "The engine may not use /some/workspace." in answer.text
        assert answer.json()["name"] == "SandboxUnavailableError"


def test_a_link_to_a_directory_is_followed(home: Path) -> None:
    (home / "data").rename(home / "disk")
    (home / "data").symlink_to("disk")
    assert start(home) == (0, "")
    assert (home / "data").is_symlink() and (home / "disk/engine.db").stat().st_size
    assert (home / "disk/engine.lock").exists()


def test_a_link_to_a_database_is_followed(home: Path) -> None:
    """Also its repair is made where it is."""
    (home / "disk").mkdir(mode=0o700)
    (home / "data/engine.db").rename(home / "disk/engine.db")
    (home / "data/engine.db").symlink_to("../disk/engine.db")
    if os.geteuid() == 0:
        os.chown(home / "disk", UID, UID)
    with (home / "disk/engine.db").open("r+b") as file:
        file.write(b"\xee" * 100)
    assert start(home) == (0, "")
    assert (home / "data/engine.db").is_symlink()
    assert (home / "disk/engine.db").read_bytes().startswith(b"SQLite")
    assert list((home / "disk/damaged").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_database_is_named(home: Path) -> None:
    (home / "data/engine.db").chmod(0o600)
    os.chown(home / "data/engine.db", 0, 0)
    code, said = start(home)
    assert code == 1 and "engine.db belongs to another user. Run as root: chown" in said, said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "link"])
def test_another_users_directory_is_refused(tmp_path: Path, linked: bool) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, UID, UID)
    if linked:
        (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(StartError, match="theirs belongs to another user"):
        data_directory(tmp_path / ("link" if linked else "theirs"))
