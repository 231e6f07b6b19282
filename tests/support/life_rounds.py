"""
Kill an engine while sessions are made, filled, copied, ended and recovered, and lose its database.

    python -m tests.support.life_rounds [--rounds N] [--seed N]

One process per engine, forked after the imports. It checks what its predecessors left against all
that was acknowledged, goes on working, and is killed at a random moment. Before every third start
something happens to the database: it is lost, empty, another directory's, or an older copy, which
is put back with or without the newer log. A round holds when

- every acknowledged session is there with its files; after a lost database perhaps as a workspace
  without a session, which is recovered;
- what was ended is gone, and what was being ended is there whole or gone;
- no workspace that the engine does not know was deleted, and none is left half made;
- every session answers with its messages, and its metrics are what they say.

Prints how many rounds held; the exit code is 1 when one did not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_magics.engine._ids import new_id
from agent_magics.engine._prompts import NewSession, Prompt
from tests.support.engine_harness import Harness, call, engine_in, say
from tests.support.kill_rounds import recorded_metrics

GENERATION = 15
"""Kills in the life of one data directory."""
WORKERS = 3
MOST_REPORTS = 60
"""Before an engine is killed."""
LOGGED = "older with the newer log"
LOSSES = ("missing", "empty", "other", "older", LOGGED, "older in its place")

Report = Callable[..., None]


@dataclass
class Journal:
    """What was begun and what was acknowledged, by whichever engine."""

    files: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By session and name: what may stand there, the acknowledged content first."""
    prompts: dict[str, set[str]] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    strangers: dict[str, str] = field(default_factory=dict)
    """Workspaces without a session, and what stands in their only file."""

    def add(self, report: dict[str, Any]) -> None:
        what, name = report["what"], report["session"]
        if what == "made":
            self.files[name] = {path: [text] for path, text in report["files"].items()}
            self.prompts[name] = set()
        elif what == "writing":
            self.files[name].setdefault(report["path"], [""]).append(report["text"])
        elif what == "written":
            self.files[name][report["path"]] = [report["text"]]
        elif what == "prompted":
            self.prompts[name].add(report["id"])
        elif what == "planted":
            self.strangers[name] = report["text"]
        elif what == "recovered":
            self.files[name] = {"note": [self.strangers.pop(name)]}
            self.prompts[name] = set()
        elif what == "ending":
            self.ending.add(name)
        elif what == "ended":
            self.ended.add(name)

    @property
    def living(self) -> set[str]:
        return self.files.keys() - self.ending


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.life_rounds")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    held, facts = life_rounds(options.rounds, options.seed)
    print(f"{held} of {options.rounds} rounds held; {facts}")
    return held != options.rounds


def life_rounds(rounds: int, seed: int) -> tuple[int, dict[str, int]]:
    """How many rounds held, and what was acknowledged in them."""
    logging.disable(logging.CRITICAL)
    chance, held, facts = random.Random(seed), 0, Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        for first in range(0, rounds, GENERATION):
            home, journal = Path(name) / str(first), Journal()
            home.mkdir()
            lost = ""
            last = min(first + GENERATION, rounds)
            for number in range(first, last + 1):
                if not one_round(home, journal, chance, lost, end=number == last):
                    print(f"round {number} of seed {seed} failed ({lost})", file=sys.stderr)
                    break
                held += number < last
                lost = lose(home, chance) if number % 3 == 2 and number < last - 1 else ""
                facts[lost] += bool(lost)
            facts["sessions"] += len(journal.files)
            facts["ended"] += len(journal.ended)
            facts["prompts"] += sum(map(len, journal.prompts.values()))
    return held, dict(facts)


def lose(home: Path, chance: random.Random) -> str:
    """Something happens to the database between two engines; what, in a word."""
    path, log, index = (home / f"engine.db{suffix}" for suffix in ("", "-wal", "-shm"))
    older = home.with_name(f"{home.name}.older")
    what = chance.choice(LOSSES)
    if what in ("missing", "empty"):
        for found in (path, log, index)[: chance.choice((1, 3))]:
            found.unlink(missing_ok=True)
        if what == "empty":
            path.touch()
    elif what == "other":
        other = home.with_name(f"{home.name}.other")
        asyncio.run(_make_other(other))
        for found in (log, index):
            found.unlink(missing_ok=True)
        shutil.copy(other / "engine.db", path)
    elif older.exists():
        if what != LOGGED:
            log.unlink(missing_ok=True)
            index.unlink(missing_ok=True)
        if what != "older in its place":
            path.unlink()
        shutil.copyfile(older, path)
    else:
        what = ""
    return what


async def _make_other(directory: Path) -> None:
    if not directory.exists():
        async with engine_in(directory) as harness:
            await harness.engine.delete_session(await harness.session())
            await harness.session()


def one_round(home: Path, journal: Journal, chance: random.Random, lost: str, *, end: bool) -> bool:
    """Fork an engine, and kill it when it has reported enough; the last one ends by itself."""
    reports, writing = os.pipe()
    seed, enough = chance.random(), chance.randrange(1, MOST_REPORTS)
    child = os.fork()
    if child == 0:
        os.close(reports)
        os._exit(_engine(home, journal, writing, seed, lost, end))
    os.close(writing)
    seen = 0
    with os.fdopen(reports) as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            report = json.loads(line)
            if report["what"] == "checked":
                journal.files = {n: {p: [t] for p, t in f.items()} for n, f in report["files"]}
                journal.prompts = {n: set(found) for n, found in report["prompts"]}
                journal.strangers = report["strangers"]
                # What was lost with its record is there again.
                journal.ended = (journal.ended | journal.ending) - journal.files.keys()
                journal.ending = set(journal.ended)
                continue
            journal.add(report)
            seen += 1
            if seen == enough and not end:
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return status == 0 if end else killed


def _engine(home: Path, journal: Journal, writing: int, seed: float, lost: str, end: bool) -> int:
    def report(what: str, session: str = "", **values: Any) -> None:
        line = json.dumps({"what": what, "session": session, **values}).encode() + b"\n"
        while line:
            line = line[os.write(writing, line) :]

    try:
        asyncio.run(_check_and_work(home, journal, report, random.Random(seed), lost, end))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


async def _check_and_work(
    home: Path, journal: Journal, report: Report, chance: random.Random, lost: str, end: bool
) -> None:
    async with engine_in(home) as harness:
        await _check(harness, home, journal, report, lost)
        if end:
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(_Worker(harness, home, chance, report).work())


class _Worker:
    """Has sessions of its own, about which it reports."""

    def __init__(self, harness: Harness, home: Path, chance: random.Random, report: Report) -> None:
        self._harness, self._home = harness, home
        self._chance, self._report = chance, report
        self._files: dict[str, dict[str, str]] = {}

    async def work(self) -> None:
        ways = [self._make, self._write, self._write, self._prompt, self._fork, self._end]
        while True:
            await self._chance.choice([*ways, self._recover, self._copy_database])()

    def _any(self) -> str | None:
        return self._chance.choice(sorted(self._files)) if self._files else None

    async def _make(self) -> None:
        session = await self._harness.engine.create_session(NewSession())
        self._files[session.id] = {}
        self._report("made", session.id, files={})

    async def _write(self) -> None:
        if (name := self._any()) is None:
            return
        path = f"f{self._chance.randrange(3)}"
        text = str(self._chance.random()) * self._chance.choice((1, 1, 2000))
        self._report("writing", name, path=path, text=text)
        answer = await self._harness.http.put(
            f"/session/{name}/fs", params={"path": f"/workspace/{path}"}, content=text.encode()
        )
        assert answer.status_code == 200, answer.text
        self._files[name][path] = text
        self._report("written", name, path=path, text=text)

    async def _prompt(self) -> None:
        if (name := self._any()) is None:
            return
        session = self._harness.engine.sessions.get(name)
        todo = {"todos": [{"content": "a", "status": "pending", "priority": "high"}]}
        self._harness.model.steps += [call(("todowrite", todo)), say("x" * 3000)]
        prompt = Prompt([{"type": "text", "text": "go"}])
        self._report("prompted", name, id=await self._harness.engine.prompt(session, prompt))
        if session.turn is not None:
            await session.turn.done.wait()

    async def _fork(self) -> None:
        if (name := self._any()) is None:
            return
        session = self._harness.engine.sessions.get(name)
        copy, skipped = await self._harness.engine.forks.fork(session, None)
        assert not skipped
        self._files[copy.id] = dict(self._files[name])
        self._report("made", copy.id, files=self._files[name])

    async def _end(self) -> None:
        if len(self._files) < 2 or (name := self._any()) is None:
            return
        del self._files[name]
        self._report("ending", name)
        await self._harness.engine.delete_session(self._harness.engine.sessions.get(name))
        self._report("ended", name)

    async def _recover(self) -> None:
        name, text = new_id("ses"), str(self._chance.random())
        place = self._home / "planted" / name
        (place / "workspace").mkdir(parents=True)
        (place / "workspace/note").write_text(text)
        place.rename(self._home / "sessions" / name)
        self._report("planted", name, text=text)
        if self._chance.random() < 0.7:
            await self._harness.engine.unclaimed.recover(name)
            self._files[name] = {"note": text}
            self._report("recovered", name)

    async def _copy_database(self) -> None:
        """As a backup program does that copies files as they are."""
        if self._chance.random() < 0.2:
            older = self._home.with_name(f"{self._home.name}.older")
            shutil.copyfile(self._home / "engine.db", older.with_suffix(".partial"))
            older.with_suffix(".partial").replace(older)


async def _check(harness: Harness, home: Path, journal: Journal, report: Report, lost: str) -> None:
    listed = await _listed(harness)
    unclaimed = {w["name"] for w in (await _get(harness, "/unclaimed"))["workspaces"]}
    places = {p.name for p in (home / "sessions").iterdir()}
    there = listed | unclaimed
    assert journal.living <= there, f"lost: {journal.living - there}"
    strangers = journal.strangers.keys()
    assert strangers <= there, f"deleted: {strangers - there}"
    assert places <= there, f"known to nobody: {places - there}"
    assert not list((home / "sessions").glob("*/.making"))
    if not lost:
        assert journal.living <= listed, f"not listed: {journal.living - listed}"
        assert not journal.ended & there, f"ended, and still there: {journal.ended & there}"
        for name in journal.ending:
            assert (name in listed) == (name in places), f"half ended: {name}"
    else:
        for name in sorted(unclaimed):
            await harness.engine.unclaimed.recover(name)
        listed = await _listed(harness)
        assert listed >= journal.living | strangers
        for name in journal.ended & listed - places:  # an older copy knows them
            await harness.engine.delete_session(harness.engine.sessions.get(name))
    found: dict[str, dict[str, str]] = {}
    prompts: dict[str, list[str]] = {}
    for name in sorted(await _listed(harness)):
        place = home / "sessions" / name / "workspace"
        files: dict[str, str] = {}
        if place.is_dir():  # else another or an older database has brought it
            files = found[name] = {path.name: path.read_text() for path in place.iterdir()}
        _check_files(files, journal, name)
        messages = await _get(harness, f"/session/{name}/message")
        prompts[name] = [m["info"]["id"] for m in messages if m["info"]["role"] == "user"]
        if not lost:
            missing = journal.prompts.get(name, set()) - set(prompts[name])
            assert not missing, f"lost prompts of {name}: {missing}"
        counted = harness.engine.sessions.get(name).metrics()
        recorded = recorded_metrics(messages)
        counters: dict[str, Any] = dict(counted)
        different = {n for n in recorded if counters[n] != recorded[n]}
        assert not different, (name, different, lost)
    left = {} if lost else {n: t for n, t in journal.strangers.items() if n not in found}
    report(
        "checked",
        files=list(found.items()),
        prompts=list(prompts.items()),
        strangers=left,
    )


def _check_files(files: dict[str, str], journal: Journal, name: str) -> None:
    if name in journal.strangers:
        assert files == {"note": journal.strangers[name]}, name
    if name in journal.ending:  # an older database knows it again, with what is left
        return
    for path, allowed in journal.files.get(name, {}).items():
        stands = files.get(path, "")
        # The fake container writes in place: what was being written may be cut.
        cut = any(text.startswith(stands) for text in allowed[1:])
        assert stands in allowed or cut, (
            f"{path} of {name}: {len(stands)} of {[len(text) for text in allowed]}"
        )


async def _listed(harness: Harness) -> set[str]:
    return {item["id"] for item in await _get(harness, "/session")}


async def _get(harness: Harness, path: str) -> Any:
    answer = await harness.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


if __name__ == "__main__":
    sys.exit(main())
