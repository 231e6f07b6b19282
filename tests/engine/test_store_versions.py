"""Versions of the schema: old stores are copied and migrated, newer ones refused untouched."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest

from agent_magics.engine import _database
from agent_magics.engine._database import VERSION, StoreError, open_database
from agent_magics.engine._store import Store
from tests.support.engine_harness import engine_in, say

OLD = Path(__file__).parent / "data/store-0.1.0.tar.xz"
PENGUINS = "ses_01a22e324e3e000099fced87"
DRAFTS = "ses_01a22e324f550089c051e92c"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data directory of 0.1.0."""
    home = tmp_path / "data"
    with tarfile.open(OLD) as archive:
        archive.extractall(home, filter="data")
    return home


def user_version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def contents(home: Path) -> dict[str, str]:
    """What all files there have; another engine's shared memory is nobody's content."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and not path.name.endswith("-shm") and path.stat().st_size
    }


async def test_everything_of_0_1_0_is_read(old: Path) -> None:
    assert user_version(old / "engine.db") == 0
    async with engine_in(old) as harness:
        engine = harness.engine
        titles = [session.title for session in engine.sessions]
        assert titles == ["Penguins", "What a day?", "Drafts"]
        session = engine.sessions.get(PENGUINS)
        assert [todo["content"] for todo in session.todos] == ["count"]
        assert session.usage.messages == 4
        messages = await engine.messages.history(PENGUINS)
        assert [m["info"]["role"] for m in messages] == ["user", "assistant"] * 2
        assert messages[1]["parts"][-2]["text"] == "There are 344 penguins."
        (artifact,) = await engine.artifacts.all(session)
        assert artifact["description"] == "what was counted"
        assert (await engine.artifacts.read(session, "notes.txt"))[0] == b"penguins: 344\n"
        (diff,) = await engine.reverts.diff(session, messages[2]["info"]["id"])
        assert "+penguins: 345" in diff["patch"]
        events = (await harness.http.get(f"/session/{PENGUINS}/turn")).json()
        assert events["messageID"] == messages[2]["info"]["id"]
        # what was reverted comes back, and the model remembers
        draft = old / "sessions" / DRAFTS / "workspace/draft.txt"
        assert draft.read_text() == "draft\n"
        assert await engine.reverts.unrevert(engine.sessions.get(DRAFTS))
        assert draft.read_text() == "worse\n"
        harness.model.steps = [say("I remember.")]
        await harness.turn(session, "Do you remember?")
        assert "344 penguins" in str(harness.model.seen[-1])
    assert user_version(old / "engine.db") == VERSION
    (copy,) = (old / "backups").iterdir()
    assert copy.name.startswith("engine-version1-") and user_version(copy) == 0
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (3,)
    async with engine_in(old):  # and only once
        assert len(list((old / "backups").iterdir())) == 1


@pytest.mark.parametrize("logged", [False, True], ids=["file", "log"])
async def test_a_newer_store_is_refused_and_not_written(tmp_path: Path, logged: bool) -> None:
    """Also where only the log says how new it is."""
    path = tmp_path / "engine.db"
    open_database(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute(f"PRAGMA user_version = {VERSION + 7}")
    if logged:
        assert (tmp_path / "engine.db-wal").stat().st_size
        home = tmp_path / "copy"
        home.mkdir()
        for name in ("engine.db", "engine.db-wal"):
            shutil.copy(tmp_path / name, home)
        path = home / "engine.db"
        writer.close()
    else:
        writer.execute("PRAGMA journal_mode = DELETE")
        writer.close()
    before = contents(path.parent)
    with pytest.raises(StoreError) as caught:
        Store(path)
    text = str(caught.value)
    assert "newer agent-magics" in text and f"version {VERSION + 7}" in text
    assert "pip install -U" in text and "\n" not in text
    assert contents(path.parent) == before


async def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "engine.db").touch()
    async with engine_in(tmp_path) as harness:
        await harness.session()
    assert user_version(tmp_path / "engine.db") == VERSION
    assert not (tmp_path / "backups").exists() and not (tmp_path / "damaged").exists()


async def test_a_store_of_which_only_the_beginning_was_made(tmp_path: Path) -> None:
    """Killed between the tables of 0.1.0, or before the first."""
    path = tmp_path / "engine.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    open_database(path)
    assert user_version(path) == VERSION
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE session(id TEXT PRIMARY KEY, data TEXT NOT NULL)")
    async with engine_in(tmp_path) as harness:
        await harness.session()


async def test_no_room_for_a_copy(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 1 << 20))
    before = contents(old)
    with pytest.raises(StoreError, match=r"no room for a copy.*16 MB are needed, 1 MB are free"):
        open_database(old / "engine.db")
    assert contents(old) == before
    monkeypatch.undo()
    open_database(old / "engine.db")
    assert user_version(old / "engine.db") == VERSION


async def test_a_copy_that_fails(old: Path) -> None:
    before = contents(old)
    (old / "backups").touch()  # where the folder should be
    with pytest.raises(StoreError, match="no copy of it can be made"):
        open_database(old / "engine.db")
    assert contents(old) == before


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (*_database._MIGRATIONS, "CREATE TABLE new(a); INSERT INTO missing VALUES (1);")
    monkeypatch.setattr(_database, "_MIGRATIONS", steps)
    monkeypatch.setattr(_database, "VERSION", len(steps))
    with pytest.raises(StoreError, match="no such table: missing"):
        open_database(old / "engine.db")
    monkeypatch.undo()
    with contextlib.closing(sqlite3.connect(old / "engine.db")) as connection:
        assert connection.execute("SELECT * FROM sqlite_schema WHERE name = 'new'").fetchall() == []
    assert user_version(old / "engine.db") == VERSION  # the steps before it hold
    open_database(old / "engine.db")


async def test_few_copies_are_kept(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (old / "engine.db").read_bytes()
    stamps = iter(range(100))
    monkeypatch.setattr(_database, "_stamp", lambda *_: f"{next(stamps):02d}")
    for _ in range(5):
        (old / "engine.db").write_bytes(first)
        open_database(old / "engine.db")
    assert len(list((old / "backups").iterdir())) == 3
