"""Only what was ended is deleted; what the store does not know is kept, named and recovered."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._store import StoreFull
from tests.support.engine_harness import Harness, call, engine_in, say

WRITE = call(("write", {"filePath": "/workspace/paper.tex", "content": "months of work\n"}))


async def unclaimed(harness: Harness) -> dict[str, dict[str, Any]]:
    found = (await harness.http.get("/unclaimed")).json()["workspaces"]
    return {item["name"]: item for item in found}


async def recover(harness: Harness, name: str) -> dict[str, Any]:
    answer = await harness.http.post("/unclaimed/recover", json={"name": name})
    assert answer.status_code == 200, answer.text
    session: dict[str, Any] = answer.json()
    return session


@pytest.fixture
async def home(tmp_path: Path) -> tuple[Path, str]:
    """A data directory with one session, which has a file and snapshots."""
    async with engine_in(tmp_path / "data", [WRITE, say("written")]) as harness:
        session = await harness.session(title="Paper")
        await harness.turn(session, "write", unattended="once")
    return tmp_path / "data", session.id


def missing(data: Path) -> None:
    (data / "engine.db").unlink()


def empty(data: Path) -> None:
    (data / "engine.db").write_bytes(b"")


def older(data: Path) -> None:
    """A backup from before the session."""
    (data / "engine.db").unlink()
    asyncio.run(_new(data))


def anothers(data: Path) -> None:
    """The store of another data directory."""
    other = data.with_name("other")

    async def make() -> None:
        async with engine_in(other) as harness:
            await harness.session(title="Other")

    asyncio.run(make())
    shutil.copy(other / "engine.db", data / "engine.db")


async def _new(data: Path) -> None:
    async with engine_in(data.with_name("empty")):
        pass
    shutil.copy(data.with_name("empty") / "engine.db", data / "engine.db")


@pytest.mark.parametrize("lose", [missing, empty, older, anothers], ids=lambda f: f.__name__)
async def test_a_lost_store_deletes_nothing(
    home: tuple[Path, str], lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    data, session_id = home
    await asyncio.to_thread(lose, data)
    paper = data / "sessions" / session_id / "workspace/paper.tex"
    snapshots = sorted((data / "snapshots" / session_id).rglob("*"))
    for _ in range(2):
        async with engine_in(data) as harness:
            found = (await unclaimed(harness))[session_id]
            assert found["path"] == str(data / "sessions" / session_id)
            assert found["size"] > 0 and found["complete"] and found["newest"] > 0
        assert f"sessions recover {session_id}" in caplog.text
        assert paper.read_text() == "months of work\n"
        assert sorted((data / "snapshots" / session_id).rglob("*")) == snapshots
    async with engine_in(data, [say("hello again")]) as harness:
        session = await recover(harness, session_id)
        assert session["id"] == session_id and session["title"] == "Recovered: paper.tex"
        assert session_id not in await unclaimed(harness)
        assert await harness.turn(harness.engine.sessions.get(session_id))
    async with engine_in(data) as harness:
        assert session_id in harness.engine.sessions.ids()
        assert paper.read_text() == "months of work\n"


async def test_what_a_kept_store_knows_comes_back(home: tuple[Path, str]) -> None:
    data, session_id = home
    (data / "backups").mkdir()
    kept = data / "backups/engine-version1-20260101.db"
    (data / "engine.db").rename(kept)
    with closing(sqlite3.connect(kept, isolation_level=None)) as connection:
        # as where the newest record of the session was lost and its messages were not
        connection.execute("UPDATE session SET data = json_remove(data, '$.usage')")
    async with engine_in(data, [say("I do.")]) as harness:
        session = await recover(harness, session_id)
        assert session["title"] == "Paper"
        messages = (await harness.http.get(f"/session/{session_id}/message")).json()
        metrics = (await harness.http.get(f"/session/{session_id}/metrics")).json()
        assert metrics["messages"] == len(messages) and metrics["toolUsage"] == {"write": 1}
        assert messages[1]["parts"][-2]["text"] == "written"
        living = harness.engine.sessions.get(session_id)
        await harness.turn(living, "Do you remember?")
        assert "written" in str(harness.model.seen[-1])
        await harness.engine.reverts.revert(living, messages[0]["info"]["id"])
        assert not (data / "sessions" / session_id / "workspace/paper.tex").exists()


async def test_a_workspace_that_was_put_there_under_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "sessions" / "my old work"
    (folder / "workspace").mkdir(parents=True)
    (folder / "workspace/a.txt").write_text("a")
    (tmp_path / "sessions" / os.fsdecode(b"\xff")).mkdir()
    (tmp_path / "sessions/link").symlink_to(tmp_path)
    async with engine_in(tmp_path) as harness:
        assert set(await unclaimed(harness)) == {"my old work", "\ufffd"}
        assert b"sessions recover my old work" in caplog.text.encode("utf-8")
        session = await recover(harness, "my old work")
        assert (tmp_path / "sessions" / session["id"] / "workspace/a.txt").read_text() == "a"
        await recover(harness, "\ufffd")
        assert await unclaimed(harness) == {}


@pytest.mark.parametrize("name", ["../data", "..", ".", "", "link", "ses_unknown", "\x00"])
async def test_only_what_is_listed_is_recovered(tmp_path: Path, name: str) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions/link").symlink_to(tmp_path)
    async with engine_in(tmp_path) as harness:
        session = await harness.session()
        answer = await harness.http.post("/unclaimed/recover", json={"name": name})
        assert answer.status_code in (400, 404), answer.text
        answer = await harness.http.post("/unclaimed/recover", json={"name": session.id})
        assert answer.status_code == 409


async def test_snapshots_alone_give_the_files_back(home: tuple[Path, str]) -> None:
    data, session_id = home
    (data / "engine.db").unlink()
    shutil.rmtree(data / "sessions" / session_id)
    async with engine_in(data) as harness:
        assert (await unclaimed(harness))[session_id]["path"] == str(
            data / "snapshots" / session_id
        )
        await recover(harness, session_id)
    paper = data / "sessions" / session_id / "workspace/paper.tex"
    assert paper.read_text() == "months of work\n"


async def test_a_session_whose_files_are_gone_says_so(home: tuple[Path, str]) -> None:
    data, session_id = home
    shutil.rmtree(data / "sessions" / session_id)
    async with engine_in(data, [say("I see.")]) as harness:
        (found,) = (await harness.http.get("/session")).json()
        assert "files of this session are gone" in found["problem"]
        assert "\n" not in found["problem"]
        session = harness.engine.sessions.get(session_id)
        await harness.turn(session)
        assert session.error is None
    async with engine_in(data) as harness:
        (found,) = (await harness.http.get("/session")).json()
        assert "problem" not in found


# -- kills


class Killed(BaseException):
    """Nothing after this is done."""


def ended_rows(data: Path) -> list[str]:
    connection = sqlite3.connect(data / "engine.db")
    rows = connection.execute("SELECT id FROM ended_session").fetchall()
    connection.close()
    return [row[0] for row in rows]


async def test_killed_while_a_session_ends(
    home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is stored, its files are not deleted yet: the next start does that."""
    data, session_id = home

    async def killed(self: Any, *args: Any) -> None:
        raise Killed

    async with engine_in(data) as harness:
        with monkeypatch.context() as patch:
            patch.setattr("agent_magics.engine._containers.Containers.destroy", killed)
            with pytest.raises(Killed):
                await harness.engine.delete_session(harness.engine.sessions.get(session_id))
        assert await unclaimed(harness) == {}
    assert ended_rows(data) == [session_id]
    assert (data / "sessions" / session_id / "workspace/paper.tex").exists()
    async with engine_in(data) as harness:
        assert not (data / "sessions" / session_id).exists()
        assert not (data / "snapshots" / session_id).exists()
        assert await unclaimed(harness) == {}
    assert ended_rows(data) == []


async def test_an_end_that_is_not_stored_deletes_nothing(
    home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, session_id = home
    async with engine_in(data) as harness:
        store = harness.engine.store
        with monkeypatch.context() as patch:
            # the writer has not come to it when the engine is killed

            async def killed() -> None:
                raise Killed

            patch.setattr(store, "flushed", killed)
            patch.setattr(store, "_queue", type(store._queue)())
            with pytest.raises(Killed):
                await harness.engine.delete_session(harness.engine.sessions.get(session_id))
    async with engine_in(data) as harness:
        assert session_id in harness.engine.sessions.ids()
        assert (data / "sessions" / session_id / "workspace/paper.tex").exists()


async def test_files_that_cannot_be_deleted_now_are_deleted_later(
    home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, session_id = home

    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    async with engine_in(data) as harness:
        with monkeypatch.context() as patch:
            patch.setattr("agent_magics.engine._containers.remove_tree", fail)
            await harness.engine.delete_session(harness.engine.sessions.get(session_id))
        assert await unclaimed(harness) == {}
    assert ended_rows(data) == [session_id]
    async with engine_in(data):
        assert not (data / "sessions" / session_id).exists()
    assert ended_rows(data) == []


async def test_killed_while_the_directory_of_a_session_is_made(
    home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never stands there without the mark that it is being made."""
    data, session_id = home

    def killed(self: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        raise Killed

    async with engine_in(data) as harness:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "touch", killed)
            with pytest.raises(Killed):
                await harness.session()
        assert await unclaimed(harness) == {}
    async with engine_in(data) as harness:
        assert await unclaimed(harness) == {}
        assert os.listdir(data / "sessions") == [session_id]


@pytest.mark.parametrize("forked", [False, True], ids=["new", "fork"])
async def test_killed_while_a_session_is_made(
    home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    """Its directory says so itself, and goes."""
    data, session_id = home
    async with engine_in(data) as harness:

        async def killed(self: Any, session: Any) -> None:
            shutil.copytree(data, data.with_name("killed"))
            raise Killed

        name = "agent_magics.engine._sessions.SessionBook.add"
        with monkeypatch.context() as patch:
            patch.setattr(
                name, lambda self, session: shutil.copytree(data, data.with_name("killed"))
            )
            patch.setattr(harness.engine.containers, "made", killed)
            patch.setattr(harness.engine.store, "flushed", _nothing)
            with pytest.raises(BaseException):  # noqa: B017
                if forked:
                    await harness.engine.forks.fork(harness.engine.sessions.get(session_id), None)
                else:
                    await harness.session()
    killed_home = data.with_name("killed")
    assert len(list((killed_home / "sessions").iterdir())) == 2
    async with engine_in(killed_home) as harness:
        assert await unclaimed(harness) == {}
        assert [p.name for p in (killed_home / "sessions").iterdir()] == [session_id]
        assert [p.name for p in (killed_home / "snapshots").iterdir()] == [session_id]


async def _nothing() -> None:
    pass


async def test_a_session_that_was_made_is_never_taken_for_half_made(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        session = await harness.session()
        assert [p.name for p in (tmp_path / "sessions" / session.id).iterdir()] == ["workspace"]
    (tmp_path / "engine.db").unlink()
    async with engine_in(tmp_path) as harness:
        assert set(await unclaimed(harness)) == {session.id}


async def test_a_session_whose_maker_was_not_answered_is_one_when_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stored after all; with its database gone its files are not taken for half made."""

    async def full() -> None:
        raise StoreFull("full")

    async with engine_in(tmp_path) as harness:
        with monkeypatch.context() as patch:
            patch.setattr(harness.engine.store, "flushed", full)
            with pytest.raises(StoreFull):
                await harness.session()
        (session,) = harness.engine.sessions
        path = {"path": "/workspace/paper.tex"}
        put = await harness.http.put(f"/session/{session.id}/fs", params=path, content=b"work")
        assert put.status_code == 200, put.text
    missing(tmp_path)
    async with engine_in(tmp_path) as harness:
        assert set(await unclaimed(harness)) == {session.id}
        assert (tmp_path / "sessions" / session.id / "workspace/paper.tex").read_text() == "work"
