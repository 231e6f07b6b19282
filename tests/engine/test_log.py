"""The event log: numbers, order, replay, merging, slow readers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine import _log
from agent_magics.engine._log import Event, EventLog, Subscription
from agent_magics.engine._sessions import SessionBook, new_session
from agent_magics.engine._store import Store

PARENTS = {"ses_child": "ses_a"}


def root_of(session_id: str) -> str:
    return PARENTS.get(session_id, session_id)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "engine.db")
    yield store
    await store.close()


@pytest.fixture
def log(store: Store) -> EventLog:
    return EventLog(store, root_of)


def publish(log: EventLog, count: int, session_id: str = "ses_a", **values: Any) -> None:
    for i in range(count):
        log.publish(session_id, "test", {"i": i}, **values)


async def take(subscription: Subscription, count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(30):
        async for batch in subscription:
            found += batch
            if len(found) >= count:
                break
    return found


def numbers(events: list[Event]) -> list[int]:
    return [e.seq for e in events]


async def test_every_stream_counts_from_one(log: EventLog) -> None:
    everything = log.subscribe()
    publish(log, 3, "ses_a")
    publish(log, 2, "ses_b")
    publish(log, 1, "ses_child")
    events = await take(everything, 6)
    assert [everything.number(e) for e in events] == [1, 2, 3, 4, 5, 6]
    assert [(e.stream, e.seq) for e in events] == [
        ("ses_a", 1),
        ("ses_a", 2),
        ("ses_a", 3),
        ("ses_b", 1),
        ("ses_b", 2),
        ("ses_a", 4),
    ]
    data = json.loads(events[-1].json(4))
    assert data["seq"] == 4 and data["sessionID"] == "ses_child" and data["type"] == "test"


async def test_readers_see_only_what_is_stored(store: Store, log: EventLog) -> None:
    reader = log.subscribe()
    publish(log, 1)
    assert log.committed == 0
    (event,) = await take(reader, 1)
    assert store.query("SELECT body FROM event") == [(event.body,)]


async def test_replay_after_any_number(log: EventLog, store: Store) -> None:
    publish(log, 20, "ses_a")
    publish(log, 5, "ses_b")
    await store.flushed()
    for after in range(20):
        assert numbers(await take(log.subscribe("ses_a", after), 20 - after)) == list(
            range(after + 1, 21)
        )
    live = log.subscribe("ses_a", 20)
    beyond = log.subscribe("ses_a", 10**9)
    publish(log, 1, "ses_a")
    assert numbers(await take(live, 1)) == [21]
    assert numbers(await take(beyond, 1)) == [21]
    assert [e.position for e in await take(log.subscribe(after=24), 2)] == [25, 26]


async def test_a_reader_without_a_number_starts_now(log: EventLog, store: Store) -> None:
    publish(log, 5)
    await store.flushed()
    reader = log.subscribe("ses_a")
    publish(log, 1)
    assert numbers(await take(reader, 1)) == [6]


async def test_a_childs_stream_is_part_of_its_parents(log: EventLog, store: Store) -> None:
    publish(log, 1, "ses_a")
    publish(log, 2, "ses_child")
    publish(log, 1, "ses_a")
    await store.flushed()
    assert numbers(await take(log.subscribe("ses_a", 0), 4)) == [1, 2, 3, 4]
    assert numbers(await take(log.subscribe("ses_child", 0), 2)) == [2, 3]


async def test_numbers_go_on_after_a_restart(tmp_path: Path, store: Store, log: EventLog) -> None:
    publish(log, 7, "ses_a")
    publish(log, 2, "ses_b")
    await store.close()
    again = Store(tmp_path / "engine.db")
    log = EventLog(again, root_of)
    reader = log.subscribe("ses_a", 6)
    publish(log, 1, "ses_a")
    assert numbers(await take(reader, 2)) == [7, 8]
    assert (await take(log.subscribe(after=9), 1))[0].position == 10
    await again.close()


async def test_closing_a_part_merges_its_deltas(log: EventLog, store: Store) -> None:
    log.publish("ses_a", "open", {})
    publish(log, 10, delta_of="prt_1")
    publish(log, 2, delta_of="prt_2")
    watching = log.subscribe("ses_a", 5)
    assert numbers(await take(watching, 8)) == list(range(6, 14))
    with store.group():
        log.merge("prt_1")
        log.publish("ses_a", "closed", {"text": "whole"})
    assert numbers(await take(watching, 1)) == [14]
    await store.flushed()
    # From the store: the deltas of the closed part are gone, the others and the closing are not.
    again = EventLog(store, root_of)
    assert numbers(await take(again.subscribe("ses_a", 5), 3)) == [12, 13, 14]
    publish(again, 1)
    assert again.seq("ses_a") == 15


async def test_a_slow_reader_falls_back_to_the_store(
    log: EventLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_RING_EVENTS", 64)
    monkeypatch.setattr(_log, "_PAGE", 10)
    slow, slow_all = log.subscribe("ses_a"), log.subscribe()
    for _ in range(40):
        publish(log, 20, "ses_a")
        publish(log, 5, "ses_b")
        await store.flushed()
    assert len(log._ring) <= 64
    assert numbers(await take(slow, 800)) == list(range(1, 801))
    assert [e.position for e in await take(slow_all, 1000)] == list(range(1, 1001))


async def test_the_ring_is_bounded_in_bytes(
    log: EventLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_RING_BYTES", 100_000)
    reader = log.subscribe()
    for i in range(50):
        log.publish("ses_a", "big", {"i": i, "text": "x" * 10_000})
    await store.flushed()
    assert log._ring_bytes <= 100_000
    assert len(await take(reader, 50)) == 50


async def test_reading_while_writing_misses_nothing(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_RING_EVENTS", 32)
    monkeypatch.setattr(_log, "_PAGE", 7)

    async def write() -> None:
        for i in range(2000):
            log.publish("ses_a" if i % 3 else "ses_b", "test", {"i": i})
            if i % 17 == 0:
                await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    readers = [log.subscribe("ses_a", 0), log.subscribe("ses_b", 0), log.subscribe(after=0)]
    counts = [1333, 667, 2000]
    found = await asyncio.gather(*map(take, readers, counts))
    await writing
    for reader, events, count in zip(readers, found, counts, strict=True):
        assert [reader.number(e) for e in events] == list(range(1, count + 1))


async def test_closing_the_log_ends_its_readers(log: EventLog, store: Store) -> None:
    reader = log.subscribe()
    publish(log, 3)
    await store.flushed()
    log.close()
    assert [e.seq async for batch in reader for e in batch] == [1, 2, 3]


async def test_lone_surrogates_are_stored(log: EventLog) -> None:
    reader = log.subscribe()
    log.publish("ses_a", "test", {"text": "a\ud83d\ude00b\ud83d"})
    (event,) = await take(reader, 1)
    assert json.loads(event.json(1))["properties"]["text"] == "a😀b\ufffd"


async def test_a_reader_is_told_where_it_starts(log: EventLog, store: Store) -> None:
    """Whoever comes back with that number misses nothing and gets nothing twice."""
    publish(log, 3)
    await store.flushed()
    await take(log.subscribe("ses_a", 0), 3)
    publish(log, 2)  # numbered, but perhaps not committed yet
    reader = log.subscribe("ses_a")
    assert numbers(await take(reader, 5 - reader.start)) == list(range(reader.start + 1, 6))
    again = log.subscribe("ses_a", reader.start)
    assert again.start == reader.start
    assert numbers(await take(again, 5 - reader.start))[0] == reader.start + 1
    assert log.subscribe().start == log.committed


def end(log: EventLog, store: Store, session_id: str) -> None:
    with store.group():
        log.forget(session_id)
        log.publish(session_id, "end", {})


async def test_of_deleted_sessions_the_newest_ends_are_kept(
    tmp_path: Path, log: EventLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_MOST_FAREWELLS", 3)
    publish(log, 2, "ses_kept")
    for i in range(10):
        publish(log, 5, f"ses_{i}")
        end(log, store, f"ses_{i}")
    await store.close()
    again = Store(tmp_path / "engine.db")
    log = EventLog(again, root_of)
    rows = again.query("SELECT stream, seq FROM event ORDER BY position")
    assert rows == [("ses_kept", 1), ("ses_kept", 2), ("ses_7", 6), ("ses_8", 6), ("ses_9", 6)]
    # who was away for long hears of those, and no number is given twice
    reader = log.subscribe(after=3)
    publish(log, 1, "ses_kept")
    events = await take(reader, 4)
    assert [(e.stream, e.position) for e in events[:3]] == [
        ("ses_7", 50),
        ("ses_8", 56),
        ("ses_9", 62),
    ]
    assert (events[3].position, events[3].seq) == (63, 3)
    await again.close()


async def test_a_deleted_child_leaves_its_parents_events(log: EventLog, store: Store) -> None:
    publish(log, 2, "ses_a")
    publish(log, 3, "ses_child")
    publish(log, 1, "ses_a")
    end(log, store, "ses_child")
    await store.flushed()
    again = EventLog(store, root_of)
    events = await take(again.subscribe("ses_a", 0), 4)
    assert [(e.session_id, e.seq) for e in events] == [
        ("ses_a", 1),
        ("ses_a", 2),
        ("ses_a", 6),
        ("ses_child", 7),
    ]
    assert again.seq("ses_a") == 7


async def test_of_a_sessions_states_the_last_is_kept(store: Store, log: EventLog) -> None:
    book = SessionBook(store)
    book.log = log
    first, second = new_session("first"), new_session("second")
    reader = log.subscribe()
    for session in (first, second):
        book.add(session)
    for i in range(5):
        first.title = f"title {i}"
        book.save(first)
    book.save(second)
    assert len(await take(reader, 8)) == 8  # who is there hears of every one
    await store.flushed()
    events = await take(EventLog(store, root_of).subscribe(after=0), 4)
    told = [(json.loads(e.body)["type"], e.session_id, e.seq) for e in events]
    assert told == [
        ("session.created", first.id, 1),
        ("session.created", second.id, 1),
        ("session.updated", first.id, 6),
        ("session.updated", second.id, 2),
    ]
    assert json.loads(events[2].body)["properties"]["info"]["title"] == "title 4"
