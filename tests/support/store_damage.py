"""
Damage a store in every way, and see that the engine starts and what is whole goes on working.

    python -m tests.support.store_damage [--rounds N] [--seed N]

Prints how many of the rounds held, and what became of the sessions; the exit code is 1 when one
did not. A round copies a store of several sessions, damages it, starts an engine with it, and asks
for everything. It holds when

- the engine starts, or refuses in one line and leaves every byte of the file as it was;
- no answer is an unforeseen error, and damage that is met when reading is gone after a restart;
- every workspace is still there, as a session's or as one without a session, which is recovered;
- every session that is whole, or was made whole, takes a prompt;
- the files of every session are what they were.

A session is `whole` when its messages are what they were, too. A flipped bit inside of a text that
is valid before and after can't be told from what was written: those are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import random
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent_magics.engine._store import StoreError
from tests.support.engine_harness import Harness, call, engine_in, say

SESSIONS = 6
TYPED = ("StoreDamagedError",)
TABLES = {
    "session": ("id", "data"),
    "message": ("id", "session_id", "data"),
    "part": ("id", "message_id", "session_id", "data"),
    "turn": ("message_id", "session_id", "running", "history"),
    "permission": ("id", "session_id", "data"),
    "checkpoint": ("message_id", "session_id", "data"),
    "revert": ("session_id", "data"),
    "artifact_version": ("session_id", "key", "message_id", "info", "data"),
    "event": ("stream", "seq", "session_id", "delta_of", "body"),
}
VALUES = (
    *(None, 0, -1, 2.5, "", "x", "{", "[]", "{}", "null", '"text"', b"\xff\xfe\x00", b""),
    *('{"id":1}', '{"data":{}}', "[" * 5000, "9" * 5000, "ses_other", "msg_other", '{"time":[]}'),
)


async def make_store(directory: Path) -> Path:
    """
    A store with finished turns, tools, todos, artifacts, snapshots and a revert; a permission
    request is open. Below it `closed` is as an engine leaves it, `killed` as one that was killed.
    """
    living, closed, killed = (directory / name for name in ("living", "closed", "killed"))
    async with engine_in(living) as harness:
        for number in range(SESSIONS):
            name = f"file{number}.txt"
            harness.model.steps = [
                call(
                    ("todowrite", {"todos": [{"content": f"todo {number}", "status": "pending"}]})
                ),
                call(("write", {"filePath": f"/workspace/{name}", "content": "text\n" * number})),
                call(("artifact", {"path": f"/workspace/{name}", "key": name})),
                say("done ", "x" * 6000 if number % 2 else "short"),
                call(("write", {"filePath": f"/workspace/{name}", "content": "other"})),
                say("again"),
            ]
            session = await harness.session(title=f"Session {number}")
            await harness.turn(session, f"first {number}", unattended="once")
            last = await harness.prompt(session, f"second {number}", unattended="once")
            await harness.recorder.wait("turn.ended", messageID=last)
            await harness.recorder.until(lambda s=session: s.turn is None)  # type: ignore[misc]
            if number == 2:
                await harness.engine.reverts.revert(session, last)
        harness.model.steps = [call(("bash", {"command": "true", "description": "nothing"}))]
        await harness.prompt(session, "ask")
        await harness.recorder.wait("permission.asked")
        await harness.engine.store.flushed()
        shutil.copytree(living, killed)
    living.rename(closed)
    return directory


async def contents(harness: Harness, session_id: str) -> list[Any]:
    """What a person sees of the turns that were over when the store was damaged."""
    messages = await _get(harness, f"/session/{session_id}/message")
    return [
        (m["info"]["id"], m["info"]["role"], [_seen(part) for part in m["parts"]])
        for m in messages[:4]
    ]


def _seen(part: dict[str, Any]) -> tuple[str, Any]:
    return part["type"], part.get("text", part.get("state"))


def files_of(home: Path, session_id: str) -> dict[str, str]:
    workspace = home / "sessions" / session_id / "workspace"
    return {path.name: path.read_text() for path in workspace.iterdir()}


@functools.cache
def originals(store: Path) -> dict[str, list[Any]]:
    """By session, what an undamaged copy of this store has."""

    async def read(copy: Path) -> dict[str, list[Any]]:
        async with engine_in(copy) as harness:
            return {s.id: await contents(harness, s.id) for s in harness.engine.sessions}

    with tempfile.TemporaryDirectory() as name:
        copied = Path(shutil.copytree(store, Path(name) / "copy"))
        with ThreadPoolExecutor(1) as pool:  # this thread has a loop already
            return pool.submit(asyncio.run, read(copied)).result()


# -- ways to damage


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 1, 3, 30, 300))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_head(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
    path.write_bytes(data)


def overwrite(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start, size = chance.randrange(len(data)), chance.choice((16, 512, 4096, 20_000))
    what = bytes(size) if chance.random() < 0.5 else chance.randbytes(size)
    data[start : start + size] = what[: len(data) - start]
    path.write_bytes(data)


def overwrite_page(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    page = chance.randrange(len(data) // 4096) * 4096
    data[page : page + 4096] = chance.choice((bytes(4096), chance.randbytes(4096)))
    path.write_bytes(data)


def cut(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(chance.choice((0, 1, 99, 4096, size // 2, chance.randrange(size))))


def lose(path: Path, chance: random.Random) -> None:
    path.unlink()


def grow(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.choice((1, 5000, 8192))))


def _log(damage: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], None]:
    def of_log(path: Path, chance: random.Random) -> None:
        wal = path.with_name("engine.db-wal")
        damage(wal if wal.exists() and wal.stat().st_size else path, chance)

    return of_log


def break_row(path: Path, chance: random.Random) -> None:
    """One value of one row, or a few, become something else."""
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection):
        for _ in range(chance.choice((1, 1, 5))):
            table = chance.choice(list(TABLES))
            column = chance.choice(TABLES[table])
            rowids = [row[0] for row in connection.execute(f"SELECT rowid FROM {table}")]
            if not rowids:
                continue
            value: Any = chance.choice(VALUES)
            if chance.random() < 0.3 and column in ("data", "info", "body", "history"):
                row = chance.choice(rowids)
                select = f"SELECT {column} FROM {table} WHERE rowid = ?"
                ((found,),) = connection.execute(select, (row,))
                value = _spoiled(found, chance)
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? WHERE rowid = ?",
                    (value, chance.choice(rowids)),
                )


def _spoiled(value: Any, chance: random.Random) -> Any:
    text = value.decode() if isinstance(value, bytes) else str(value)
    for old in ('"time"', '"role"', '"type"', '"state"', "[", "{", ":null", "true", "0", '"id"'):
        if old in text and chance.random() < 0.3:
            return text.replace(old, chance.choice(('"x"', "1", "[[", "{}", "null")), 1)
    return text[: chance.randrange(len(text) + 1)]


WAYS: tuple[Callable[[Path, random.Random], None], ...] = (
    *(flip, flip, flip_head, overwrite, overwrite_page, cut, lose, grow),
    *(break_row, break_row, break_row, break_row),
    *(_log(flip), _log(cut), _log(lose), _log(overwrite)),
)


# -- one round


async def one_round(store: Path, directory: Path, seed: int) -> Counter[str]:
    """What became of it; raises AssertionError when it did not hold."""
    chance = random.Random(seed)
    source = store / chance.choice(("closed", "killed"))
    shutil.copytree(source, directory)
    path = directory / "engine.db"
    workspaces = {p.name for p in (directory / "sessions").iterdir()}
    way = WAYS[seed % len(WAYS)]
    way(path, chance)
    found = Counter({"rounds": 1})
    before = path.read_bytes() if path.exists() else b""
    for _ in range(3):
        try:
            async with engine_in(directory) as harness:
                again = await _ask(harness, originals(source), found)
        except StoreError as error:
            assert "\n" not in str(error)
            assert path.read_bytes() == before
            found["refused"] += 1
            return found
        if not again:
            break
        found["salvaged when read"] += 1
    else:
        raise AssertionError("damage is still there after two restarts")
    there = {p.name for p in (directory / "sessions").iterdir()}
    assert workspaces <= there, f"deleted: {workspaces - there}"
    for name in workspaces:
        assert files_of(directory, name) == files_of(source, name), f"other files: {name}"
    return found


async def _ask(harness: Harness, original: dict[str, list[Any]], found: Counter[str]) -> bool:
    """Ask for everything; true when the engine has to be started again for a repair."""
    workspaces = set(original)
    listed = {item["id"]: item for item in await _get(harness, "/session")}
    unclaimed = {item["name"] for item in (await _get(harness, "/unclaimed"))["workspaces"]}
    assert workspaces <= listed.keys() | unclaimed, workspaces - listed.keys() - unclaimed
    damaged = False
    for session_id in sorted(workspaces & listed.keys()):
        for what in (
            "message",
            "todo",
            "metrics",
            "artifact",
            "turn",
            "diff",
            "fs/list?path=/workspace",
        ):
            answer = await harness.http.get(f"/session/{session_id}/{what}")
            name = answer.json().get("name") if answer.status_code >= 400 else ""
            assert answer.status_code < 400 or name in TYPED, (what, answer.text)
            damaged |= answer.status_code == 503
    if damaged:
        return True
    harness.model.steps = []
    for session_id in sorted(workspaces):
        is_broken = "sessions recover" in listed.get(session_id, {}).get("problem", "")
        if session_id in unclaimed or is_broken:
            found["unclaimed" if session_id in unclaimed else "recovered"] += 1
            if is_broken:
                body = {"parts": [{"type": "text", "text": "x"}]}
                answer = await harness.http.post(f"/session/{session_id}/message", json=body)
                assert answer.json()["name"] == "StoreDamagedError", answer.text
            answer = await harness.http.post("/unclaimed/recover", json={"name": session_id})
            assert answer.status_code == 200, answer.text
        else:
            same = await contents(harness, session_id) == original[session_id]
            found["whole" if same else "with other messages"] += 1
        session = harness.engine.sessions.get(session_id)
        body = {"parts": [{"type": "text", "text": "still there?"}]}
        answer = await harness.http.post(f"/session/{session_id}/message", json=body)
        if answer.json().get("name") == "StoreDamagedError":  # met when the history was read
            return True
        assert answer.status_code == 200, answer.text
        assert session.error is None, session.error
    return False


async def _get(harness: Harness, path: str) -> Any:
    answer = await harness.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.store_damage")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    total: Counter[str] = Counter()
    failed = []
    with tempfile.TemporaryDirectory() as name:
        store = asyncio.run(make_store(Path(name)))
        for seed in range(options.seed, options.seed + options.rounds):
            directory = Path(name) / "round"
            try:
                total += asyncio.run(one_round(store, directory, seed))
            except Exception:
                failed.append(seed)
                print(f"seed {seed} ({WAYS[seed % len(WAYS)].__name__}):", file=sys.stderr)
                traceback.print_exc()
            shutil.rmtree(directory, ignore_errors=True)
    print(f"{options.rounds - len(failed)} of {options.rounds} rounds held; failed: {failed}")
    print(", ".join(f"{name} {count}" for name, count in sorted(total.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
