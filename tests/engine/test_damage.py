"""Damage in the store stays where it is: the engine starts, other sessions work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine import _database
from agent_magics.engine._database import open_database
from agent_magics.engine._store import Store, StoreDamaged
from tests.support.engine_harness import Harness, engine_in, say
from tests.support.store_damage import make_store, one_round

ROUNDS = 8
"""With other kinds of damage each; `python -m tests.support.store_damage` has hundreds."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(make_store(tmp_path_factory.mktemp("stores")))


@pytest.fixture
def home(stores: Path, tmp_path: Path) -> Path:
    """A data directory of six sessions, as an engine left it."""
    return Path(shutil.copytree(stores / "closed", tmp_path / "data"))


@contextlib.contextmanager
def database(home: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(home / "engine.db", isolation_level=None)) as found:
        yield found


def ids(home: Path) -> list[str]:
    with database(home) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM session ORDER BY id")]


async def answer(harness: Harness, session_id: str, text: str = "go on") -> dict[str, Any]:
    body = {"parts": [{"type": "text", "text": text}]}
    response = await harness.http.post(f"/session/{session_id}/message", json=body)
    found: dict[str, Any] = {"status": response.status_code, **response.json()}
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_damaged_store(stores: Path, tmp_path: Path, seed: int) -> None:
    await one_round(stores, tmp_path / "data", 2 * seed)


# -- one broken record


Record = str | Callable[[str], str]


@pytest.mark.parametrize(
    "records",
    [
        [
            '{"title":"Session 0","id":',
            "[]",
            "{}",
            "[" * 100_000,
        ],
        [
            '{"id":"ses_another","title":"Session 0","created":1,"updated":1}',
            lambda old: json.dumps({**json.loads(old), "standing": [{"permission": "bash"}]}),
            lambda old: json.dumps({**json.loads(old), "limits": None}),
            lambda old: json.dumps({**json.loads(old), "parent_id": 7}),
        ],
        [
            lambda old: json.dumps({**json.loads(old), "container": "/etc"}),
            lambda old: json.dumps({**json.loads(old), "usage": {"messages": "many"}}),
            lambda old: old.replace('"created"', '"creatad"'),
        ],
    ],
    ids=["json", "values", "more"],
)
async def test_sessions_whose_records_are_broken(home: Path, records: list[Record]) -> None:
    *sessions, other = ids(home)
    spoiled: dict[str, str] = {}
    with database(home) as connection:
        for session_id, record in zip(sessions, records, strict=False):
            ((old,),) = connection.execute("SELECT data FROM session WHERE id = ?", (session_id,))
            spoiled[session_id] = record(old) if callable(record) else record
            connection.execute(
                "UPDATE session SET data = ? WHERE id = ?", (spoiled[session_id], session_id)
            )
    async with engine_in(home) as harness:
        listed = {s["id"]: s for s in (await harness.http.get("/session")).json()}
        assert len(listed) == 6
        for number, broken in enumerate(spoiled):
            await check_broken(harness, home, number, listed[broken], spoiled[broken])
        assert (await answer(harness, other))["status"] == 200
        for broken in spoiled:
            response = await harness.http.post("/unclaimed/recover", json={"name": broken})
            assert response.status_code == 200 and "problem" not in response.json()
            assert (await answer(harness, broken))["status"] == 200
    with database(home) as connection:
        kept = dict(connection.execute("SELECT id, data FROM unreadable_record").fetchall())
        assert kept == spoiled
    async with engine_in(home) as harness:
        assert not any(session.damage for session in harness.engine.sessions)


async def check_broken(
    harness: Harness, home: Path, number: int, listed: dict[str, Any], spoiled: str
) -> None:
    """What can be read is shown, files too; what it may do is not guessed."""
    broken = listed["id"]
    assert "record of this session can't be read" in listed["problem"]
    assert f"agent-magics sessions recover {broken}" in listed["problem"]
    messages = (await harness.http.get(f"/session/{broken}/message")).json()
    roles = ["user", "assistant"] * 2
    assert [m["info"]["role"] for m in messages] == (roles[:2] if number == 2 else roles)
    path = {"path": f"/workspace/file{number}.txt"}
    file = await harness.http.get(f"/session/{broken}/fs", params=path)
    assert file.text == ("text\n" * number if number == 2 else "other")
    refused = await answer(harness, broken)
    assert (refused["status"], refused["name"]) == (409, "StoreDamagedError")
    renamed = await harness.http.patch(f"/session/{broken}", json={"title": "x"})
    assert renamed.status_code == 409
    with database(home) as connection:
        ((kept,),) = connection.execute("SELECT data FROM session WHERE id = ?", (broken,))
        assert kept == spoiled


async def test_broken_messages_and_parts_say_so(home: Path) -> None:
    session_id, *_ = ids(home)
    with database(home) as connection:
        prompt, first, *_ = connection.execute(
            "SELECT id FROM message WHERE session_id = ? ORDER BY rowid", (session_id,)
        ).fetchall()
        connection.execute("UPDATE message SET data = '{' WHERE id IN (?, ?)", (*prompt, *first))
        connection.execute("UPDATE part SET data = 'x' WHERE message_id = ?", first)
    async with engine_in(home) as harness:
        messages = (await harness.http.get(f"/session/{session_id}/message")).json()
        assert [m["info"]["role"] for m in messages] == ["user", "assistant"] * 2
        assert messages[0]["parts"][0]["text"] == "first 0"
        assert "can't be read" in messages[1]["info"]["error"]["data"]["message"]
        assert {p["text"] for p in messages[1]["parts"]} == {
            "[This part of the message can't be read: it is not JSON.]"
        }
        assert messages[3]["parts"][-2]["text"] == "again"
        assert (await answer(harness, session_id))["status"] == 200


async def test_a_broken_memory_is_rebuilt_from_the_messages(home: Path) -> None:
    session_id, *_ = ids(home)
    with database(home) as connection:
        connection.execute(
            "UPDATE turn SET history = x'5b7b' WHERE rowid = "
            "(SELECT min(rowid) FROM turn WHERE session_id = ?)",
            (session_id,),
        )
    async with engine_in(home, [say("yes")]) as harness:
        assert (await answer(harness, session_id, "do you remember?"))["status"] == 200
        seen = str(harness.model.seen[-1])
        assert "first 0" in seen and "done short" in seen and "damaged on the disk" in seen
        assert "second 0" in seen


async def test_a_broken_revert_shows_its_turns_again(home: Path) -> None:
    session_id = ids(home)[2]
    with database(home) as connection:
        assert connection.execute("UPDATE revert SET data = '[1'").rowcount == 1
    async with engine_in(home) as harness:
        messages = (await harness.http.get(f"/session/{session_id}/message")).json()
        assert len(messages) == 4
        session = (await harness.http.get(f"/session/{session_id}")).json()
        assert "revert" not in session
        assert (await answer(harness, session_id))["status"] == 200


async def test_broken_checkpoints_events_and_artifacts(home: Path) -> None:
    session_id, *_ = ids(home)
    with database(home) as connection:
        where = "WHERE session_id = ?"
        connection.execute(f"UPDATE checkpoint SET data = 'x' {where}", (session_id,))
        connection.execute(f"UPDATE event SET body = '[' {where} AND seq % 2", (session_id,))
        connection.execute(f"UPDATE artifact_version SET info = '7' {where}", (session_id,))
    async with engine_in(home) as harness:
        (artifact,) = (await harness.http.get(f"/session/{session_id}/artifact")).json()
        assert artifact["key"] == "file0.txt" and artifact["mime"] == "text/plain"
        assert (await harness.http.get(f"/session/{session_id}/diff")).status_code == 200
        events = harness.engine.log.subscribe(session_id, 0)
        batch = await anext(events)
        assert batch and all(event.seq % 2 == 0 for event in batch)
        for event in batch:
            json.loads(event.json(event.seq))
        last = (await harness.http.get(f"/session/{session_id}/message")).json()[2]["info"]["id"]
        reverted = await harness.http.post(
            f"/session/{session_id}/revert", json={"messageID": last, "preview": True}
        )
        assert reverted.status_code == 200, reverted.text


async def test_sessions_that_are_each_others_parents(home: Path) -> None:
    first, second, *_ = ids(home)
    with database(home) as connection:
        for one, other in ((first, second), (second, first)):
            connection.execute(
                "UPDATE session SET data = json_set(data, '$.parent_id', ?) WHERE id = ?",
                (other, one),
            )
    async with engine_in(home) as harness:
        assert len((await harness.http.get("/session")).json()) == 6
        assert (await answer(harness, first))["status"] == 200


async def test_text_that_is_no_utf8(home: Path) -> None:
    session_id, other, *_ = ids(home)
    with database(home) as connection:
        connection.execute(
            "UPDATE part SET data = CAST(replace(data, 'first 0', CAST(x'66ff' AS TEXT)) AS TEXT) "
            "WHERE session_id = ?",
            (session_id,),
        )
    async with engine_in(home) as harness:
        messages = (await harness.http.get(f"/session/{session_id}/message")).json()
        assert messages[0]["parts"][0]["text"] == "f\ufffd"
        assert (await answer(harness, other))["status"] == 200


# -- the file


def break_pages_of(home: Path, table: str) -> None:
    """Every page of a table but none of another."""
    with database(home) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((root,),) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        )
    with (home / "engine.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x00" * 16)


async def test_what_hangs_below_a_broken_page_is_found(home: Path) -> None:
    sessions = ids(home)
    for table in ("message", "part", "event"):
        break_pages_of(home, table)
    async with engine_in(home) as harness:
        whole = 0
        for session_id in sessions:
            messages = (await harness.http.get(f"/session/{session_id}/message")).json()
            whole += len(messages) >= 2 and len(messages[1]["parts"]) == 12
        assert whole == len(sessions)
    (kept,) = (home / "damaged").iterdir()
    assert kept.name.startswith("engine-")


async def test_a_broken_header_loses_nothing(home: Path) -> None:
    sessions = ids(home)
    with (home / "engine.db").open("r+b") as file:
        file.write(b"\xee" * 100)
    async with engine_in(home) as harness:
        assert [session.id for session in harness.engine.sessions] == sessions
        unclaimed = (await harness.http.get("/unclaimed")).json()
        assert unclaimed["workspaces"] == []
        (store,) = unclaimed["stores"]
        assert store["damaged"] and store["size"] == (home / store["path"]).stat().st_size


async def test_the_log_of_a_killed_engine_is_read_where_the_header_is_broken(stores: Path) -> None:
    home = stores / "broken"
    shutil.copytree(stores / "killed", home)
    assert (home / "engine.db-wal").stat().st_size
    with (home / "engine.db").open("r+b") as file:
        file.write(b"\xee" * 100)
    async with engine_in(home) as harness:
        assert len(list(harness.engine.sessions)) == 6


async def test_a_damaged_log_is_kept(stores: Path) -> None:
    """SQLite overwrites what it can't take; a file keeps it."""
    home = stores / "torn"
    shutil.copytree(stores / "killed", home)
    log = home / "engine.db-wal"
    spoiled = bytearray(log.read_bytes())
    spoiled[32 + 24 + 100] ^= 1
    log.write_bytes(spoiled)
    async with engine_in(home):
        pass
    (kept,) = (home / "damaged").iterdir()
    assert kept.read_bytes() == spoiled


@pytest.mark.parametrize("when", ["before", "between"])
async def test_an_older_database_beside_a_newer_log(tmp_path: Path, when: str) -> None:
    """Nothing is mixed: the log is kept, the database stands as it was when it was copied."""
    path, copy = tmp_path / "engine.db", tmp_path / "copy.db"
    if when == "before":
        await _write_and_die(path, range(3))
        open_database(path)  # takes the log in
        shutil.copy(path, copy)
        await _write_and_die(path, range(3, 4))
        open_database(path)
        await _write_and_die(path, range(4, 6))
    else:  # while the engine ran, after which it began its log anew
        await _write_and_die(path, range(6), copy)
    assert path.with_name("engine.db-wal").stat().st_size
    with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as found:
        stood = found.execute("SELECT id FROM session ORDER BY id").fetchall()
    assert len(stood) < 6
    shutil.copy(copy, path)
    open_database(path)
    with database(tmp_path) as connection:
        assert connection.execute("SELECT id FROM session ORDER BY id").fetchall() == stood
    (kept,) = (tmp_path / "damaged").iterdir()
    assert "-wal-" in kept.name


async def test_a_log_of_its_own_is_taken(tmp_path: Path) -> None:
    """Also by a copy from any moment since SQLite began it."""
    path, copy = tmp_path / "engine.db", tmp_path / "copy.db"
    await _write_and_die(path, range(3))
    shutil.copy(path, copy)
    await _write_and_die(path, range(3, 4))
    for number in range(2):
        home = tmp_path / f"again{number}"
        home.mkdir()
        shutil.copy(path, home / "engine.db")
        for suffix in ("-wal", ".mark"):
            shutil.copy(path.with_name(path.name + suffix), home / f"engine.db{suffix}")
        if number:  # a mark with damage is none
            with (home / "engine.db").open("r+b") as file:
                file.seek(68)
                file.write(b"\x55")
        open_database(home / "engine.db")
        assert ids(home) == [f"ses_{n}" for n in range(4)]
        assert not (home / "damaged").exists()


async def _write_and_die(path: Path, numbers: range, copy: Path | None = None) -> None:
    """Write sessions as an engine that is killed; with `copy` much else, and a copy in between."""

    async def write() -> None:
        store = Store(path)
        for number in numbers:
            store.put("INSERT INTO session VALUES (?, '{}')", f"ses_{number}")
            await store.flushed()
            for _ in range(30 if copy is not None else 0):
                store.put("INSERT OR REPLACE INTO session VALUES ('ses_0', ?)", "x" * 300_000)
                await store.flushed()
            if copy is not None and number == numbers[1]:
                shutil.copy(path, copy)

    child = os.fork()
    if child == 0:
        try:
            asyncio.run(asyncio.wait_for(write(), 60), debug=False)
        finally:
            os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)


def test_killed_while_it_wrote_without_a_log(tmp_path: Path) -> None:
    """As on a file system without shared memory, such as NFS: half a transaction is taken back."""
    path = tmp_path / "engine.db"
    open_database(path)
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=TRUNCATE")
        connection.execute("INSERT INTO session VALUES ('ses_1', '{}')")
        connection.execute("PRAGMA cache_size=5")
        connection.execute("BEGIN IMMEDIATE")
        for number in range(1000):
            connection.execute("INSERT INTO session VALUES (?, ?)", (str(number), "x" * 1000))
        os._exit(0)
    os.waitpid(child, 0)
    assert path.with_name("engine.db-journal").stat().st_size
    open_database(path)
    assert ids(tmp_path) == ["ses_1"]


async def test_killed_while_a_store_is_replaced(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every step the next start finishes it, and nothing is lost."""
    sessions = ids(home)
    with (home / "engine.db").open("r+b") as file:
        file.write(b"\xee" * 100)
    original = (home / "engine.db").read_bytes()
    replace = Path.replace
    for allowed in range(3):
        done = 0

        def step(self: Path, target: Path, most: int = allowed) -> Path:
            nonlocal done
            if done == most:
                raise KeyboardInterrupt
            done += 1
            return replace(self, target)

        shutil.copytree(home, copy := home.with_name(f"copy{allowed}"))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", step)
            with pytest.raises(KeyboardInterrupt):
                open_database(copy / "engine.db")
        open_database(copy / "engine.db")
        assert ids(copy) == sessions
        kept = [p for p in (copy / "damaged").iterdir() if p.read_bytes() == original]
        assert len(kept) == 1


async def test_damage_that_is_met_when_reading(home: Path) -> None:
    """The request fails with what to do, other sessions go on, the next start repairs."""
    met: list[bool] = []
    store = Store(home / "engine.db")
    store.on_damage = lambda: met.append(True)
    await store.flushed()
    with (home / "engine.db").open("r+b") as file:
        ((root,),) = store.query("SELECT rootpage FROM sqlite_schema WHERE name = 'part'")
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreDamaged, match="next start of the engine"):
        await store.read("SELECT count(data) FROM part")
    assert met and store.query("SELECT count(*) FROM session") == [(6,)]
    await store.close()
    async with engine_in(home) as harness:
        for session in harness.engine.sessions:
            messages = await harness.http.get(f"/session/{session.id}/message")
            assert len(messages.json()[1]["parts"]) == 12
    assert (home / "damaged").is_dir()


async def test_a_store_that_was_closed_is_not_looked_through(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one that was killed, or changed since; and no large one."""
    checked: list[str] = []
    monkeypatch.setattr(_database, "_verify", lambda connection, check: checked.append(check))

    async def start() -> list[str]:
        checked.clear()
        async with engine_in(home):
            return list(checked)

    assert await start() == ["quick_check"]  # a copy of one
    assert await start() == []
    with database(home) as connection:
        connection.execute("DELETE FROM permission")
    assert await start() == ["quick_check"]
    assert await start() == []
    (home / "engine.db.closed").unlink()
    monkeypatch.setattr(_database, "_LARGEST_CHECKED", 10)
    assert await start() == []
