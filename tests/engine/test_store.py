"""The database: durability, groups, order, failure."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from agent_magics.engine._reserve import Reserve, shortage_message
from agent_magics.engine._store import EventRow, Store, StoreError, StoreFull
from tests.support.engine_harness import eventually

INSERT = "INSERT INTO session(id, data) VALUES (?, ?)"


def row(position: int, body: str = "{}", delta_of: str | None = None) -> EventRow:
    return EventRow(position, "ses_a", position, "ses_a", delta_of, body)


async def test_flushed_means_that_another_connection_sees_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    store.put(INSERT, "ses_a", "1")
    await store.flushed()
    with sqlite3.connect(tmp_path / "engine.db") as other:
        assert other.execute("SELECT * FROM session").fetchall() == [("ses_a", "1")]
    other.close()
    await store.close()
    await store.close()


async def test_reads_see_what_was_put_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    for i in range(100):
        store.put(INSERT, f"ses_{i}", "x")
    assert await store.read("SELECT count(*) FROM session") == [(100,)]
    await store.close()
    reopened = Store(tmp_path / "engine.db")
    assert reopened.query("SELECT count(*) FROM session") == [(100,)]
    await reopened.close()


LONG = """
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 300000)
SELECT n, (SELECT count(*) FROM session) FROM number
"""


async def test_reads_at_once_see_what_was_put_before_each(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    long = asyncio.create_task(store.read(LONG))
    put = 0
    while not long.done():
        put += 1
        store.put(INSERT, f"ses_{put}", "x")
        assert await store.read("SELECT count(*) FROM session") == [(put,)]
    assert put > 1
    assert len({count for _, count in await long}) == 1
    await store.close()


async def test_reads_at_once_have_their_own_arguments(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    ids = [f"ses_{i}" for i in range(100)]
    for id in ids:
        store.put(INSERT, id, "x" * 1000)
    find = "SELECT id FROM session WHERE id = ?"
    for _ in range(20):
        found = await asyncio.gather(*(store.read(find, id) for id in ids))
        assert found == [[(id,)] for id in ids]
    await store.close()
    with pytest.raises(StoreError, match="is closed"):
        await store.read(find, ids[0])


async def test_events_keep_their_text_and_are_told_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    committed: list[int] = []
    store.on_commit = committed.append
    body = '{"text":"\\u0000 \\" \\\\ é 😀 \u2028","n":null}'
    for position in range(1, 3001):
        store.put_event(row(position, body, "prt_a" if position % 2 else None))
        if position % 500 == 0:
            store.put(INSERT, f"ses_{position}", "x")
            await asyncio.sleep(0)
    await store.flushed()
    assert committed == sorted(committed) and committed[-1] == 3000
    rows = store.query("SELECT position, delta_of, body FROM event ORDER BY position")
    assert [r[0] for r in rows] == list(range(1, 3001))
    assert {r[2] for r in rows} == {body}
    assert [r[1] for r in rows[:2]] == ["prt_a", None]
    await store.close()


async def test_a_group_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    failures: list[StoreError] = []
    store = Store(tmp_path / "engine.db", on_failure=failures.append)
    store.put(INSERT, "ses_before", "x")
    await store.flushed()
    with store.group():
        store.put(INSERT, "ses_a", "x")
        with store.group():
            store.put(INSERT, "ses_b", "x")
        store.put(INSERT, "ses_before", "twice")
    with pytest.raises(StoreError):
        await store.flushed()
    assert len(failures) == 1
    assert store.query("SELECT id FROM session") == [("ses_before",)]
    # After a failure nothing is acknowledged any more.
    store.put(INSERT, "ses_c", "x")
    with pytest.raises(StoreError):
        await store.flushed()
    await store.close()


async def test_an_exception_in_a_group_does_not_lose_what_was_put(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    with pytest.raises(ZeroDivisionError), store.group():
        store.put_event(row(1))
        raise ZeroDivisionError
    store.put_event(row(2))
    assert await store.read("SELECT count(*) FROM event") == [(2,)]
    await store.close()


async def test_many_puts_share_transactions(tmp_path: Path) -> None:
    store = Store(tmp_path / "engine.db")
    commits: list[int] = []
    store.on_commit = commits.append
    for position in range(1, 2001):
        store.put_event(row(position))
    await store.flushed()
    assert commits[-1] == 2000 and len(commits) < 200
    await store.close()


async def test_a_file_that_is_no_database_is_kept_beside_a_new_one(tmp_path: Path) -> None:
    text = "this is no database, but a text" * 100
    (tmp_path / "engine.db").write_text(text)
    store = Store(tmp_path / "engine.db")
    assert store.query("SELECT * FROM session") == []
    await store.close()
    (kept,) = (tmp_path / "damaged").iterdir()
    assert kept.read_text() == text


def most_pages(store: Store, number: int) -> None:
    store._writer.execute(f"PRAGMA max_page_count = {number}")


async def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """What can't be stored is not acknowledged, and is stored in order when there is room."""
    failures: list[StoreError] = []
    shortages: list[StoreFull | None] = []
    committed: list[int] = []
    store = Store(tmp_path / "engine.db", on_failure=failures.append)
    store.on_shortage, store.on_commit = shortages.append, committed.append
    await store.flushed()
    most_pages(store, 40)
    for i in range(100):
        with store.group():
            store.put(INSERT, f"ses_{i:02}", "x" * 10_000)
            store.put_event(row(i + 1))
    with pytest.raises(StoreFull, match="full"):
        await store.flushed()
    with pytest.raises(StoreFull):
        await store.require_room()
    stored = len(await store.read("SELECT id FROM session"))
    assert stored < 100 and (committed or [0])[-1] == stored
    assert len(shortages) == 1 and not failures
    most_pages(store, 1 << 20)
    await store.require_room()
    await eventually(lambda: shortages[-1] is None)
    rows = store.query("SELECT id FROM session ORDER BY rowid")
    assert rows == [(f"ses_{i:02}",) for i in range(100)]
    assert committed[-1] == 100 and committed == sorted(committed)
    await store.close()


async def test_the_reserve_stores_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full but for the reserve: it is stored, and nothing more is taken."""
    store = Store(tmp_path / "engine.db")
    commit, tries = store._commit, []
    reserve = tmp_path / "reserve"
    await store.flushed()
    assert reserve.stat().st_size == reserve.stat().st_blocks * 512 > 0

    def full(items: list[object]) -> None:
        tries.append(reserve.exists())
        if tries[-1]:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        commit(items)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_commit", full)
    no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Reserve, "fill", lambda self: no_space)
    store.put(INSERT, "ses_a", "x")
    await store.flushed()
    assert tries == [True, True, False]  # the second after the log was emptied
    assert store.query("SELECT id FROM session") == [("ses_a",)]
    with pytest.raises(StoreFull, match=r"is full\. Make room \(5 MB"):
        await store.require_room()
    monkeypatch.undo()
    await store.require_room()
    assert reserve.exists()
    await store.close()


async def test_the_log_gives_its_room_back_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "engine.db")
    store.put(INSERT, "ses_a", "x" * 100_000)
    await store.flushed()
    log, commit = tmp_path / "engine.db-wal", store._commit
    assert log.stat().st_size > 100_000

    def full(items: list[object]) -> None:
        if log.stat().st_size:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        commit(items)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_commit", full)
    store.put(INSERT, "ses_b", "x")
    await store.flushed()
    assert store.shortage is None and (tmp_path / "reserve").exists()
    assert store.query("SELECT id FROM session") == [("ses_a",), ("ses_b",)]
    await store.close()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "may not grow"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "chmod"),
        (errno.EIO, "can't be written"),
    ],
)
def test_why_nothing_can_be_stored(tmp_path: Path, code: int, advice: str) -> None:
    message = shortage_message(tmp_path, OSError(code, os.strerror(code)))
    assert advice in message and str(tmp_path) in message and "\n" not in message


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("x"), TypeError("x"), SystemExit(), KeyboardInterrupt()]
)
async def test_whatever_ends_the_writer_ends_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failures: list[StoreError] = []
    store = Store(tmp_path / "engine.db", on_failure=failures.append)

    def fail(items: object) -> None:
        raise error

    monkeypatch.setattr(store, "_commit", fail)
    store.put(INSERT, "ses_a", "x")
    with pytest.raises(StoreError, match=type(error).__name__):
        await store.flushed()
    monkeypatch.undo()
    store.put(INSERT, "ses_b", "x")
    with pytest.raises(StoreError):
        await store.flushed()
    assert len(failures) == 1
    assert store.query("SELECT * FROM session") == []
    await store.close()


async def test_events_that_cannot_be_passed_on_end_the_store(tmp_path: Path) -> None:
    """Their readers would wait for ever."""
    failures: list[StoreError] = []
    store = Store(tmp_path / "engine.db", on_failure=failures.append)

    def fail(position: int) -> None:
        raise ZeroDivisionError

    store.on_commit = fail
    store.put_event(row(1))
    with pytest.raises(StoreError):
        await store.flushed()
    assert len(failures) == 1
    await store.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_database_that_was_taken_away(tmp_path: Path, replaced: bool) -> None:
    """SQLite goes on writing to the deleted file; that is no storing. Also noticed when idle."""
    failures: list[StoreError] = []
    store = Store(tmp_path / "engine.db", on_failure=failures.append)
    store.put(INSERT, "ses_a", "x")
    await store.flushed()
    (tmp_path / "engine.db").rename(tmp_path / "elsewhere")
    if replaced:
        (tmp_path / "engine.db").touch()
    else:
        await eventually(lambda: bool(failures))
    store.put(INSERT, "ses_b", "x")
    with pytest.raises(StoreError, match="was removed or replaced"):
        await store.flushed()
    assert len(failures) == 1
    await store.close()
