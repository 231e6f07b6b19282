"""
A day of work in minutes: memory, descriptors, threads, processes, database and log stay flat.

    python -m tests.support.soak --minutes 5 --sandbox bubblewrap

Engines are started and ended (the last client leaves, SIGTERM, SIGKILL) one after the other on
the same data. In each, sessions lead the lives of `soak_lives`, several at a time, in rounds.
After every round, when all sessions are ended, is measured what is held; after the first rounds,
which fill pools, caches and the ring of recent events, it must not grow, and the engine must not
have logged an error. The exit code is 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent_magics.client import AsyncClient
from tests.support.engine_harness import eventually
from tests.support.engine_process import EngineProcess, started
from tests.support.held import Held, Kept, row
from tests.support.scripted_llm import ThreadedLLM
from tests.support.soak_lives import LIVES, SCRIPT, vanish

__all__ = ["SCRIPT", "Growth", "Sample", "Soak"]

_AT_ONCE = 6
_WARM_UP = 25
"""Rounds; after about 20 the engine has as many recent events in memory as it ever will."""
_GRACE = {"lease": 5.0}
"""Seconds that an engine stays alone; long enough for its first client to come."""


@dataclass(frozen=True)
class Growth:
    """What may be added after the warm-up, in all the rounds of one engine's life."""

    memory: int = 4_000
    descriptors: int = 4
    threads: int = 10
    database: int = 1_000
    per_session: int = 1_000
    """Bytes of the log, and of the database from one engine's life to the next."""


@dataclass
class Sample:
    engine: Held
    client: Held
    kept: Kept
    sessions: int


@dataclass
class Soak:
    """`rounds` of each engine's life; `told` gets a line for each."""

    engine: EngineProcess
    llm: ThreadedLLM
    rounds: int
    warm_up: int
    growth: Growth = Growth()
    told: Callable[[str], None] = lambda line: None
    sessions: int = 0
    problems: list[str] = field(default_factory=list)
    ends: list[Sample] = field(default_factory=list)
    """The last sample of each engine's life."""

    async def life(self, end: str) -> None:
        """One engine from its start to its end: "lease", "SIGTERM" or "SIGKILL"."""
        samples: list[Sample] = []
        async with started(self.engine, grace=_GRACE.get(end, 60.0)):
            async with AsyncClient(state_dir=self.engine.state) as client:
                assert await client.list_sessions() == []
                for number in range(self.rounds):
                    await self._round(client)
                    if number == self.warm_up:
                        await vanish(client, self.engine.state, self._environ)
                    samples.append(await self._sample())
                    self.told(self._line(number, samples[-1]))
                if end != "lease":
                    await self.engine.end(signal.Signals[end])
            assert await self.engine.ended() == (-signal.SIGKILL if end == "SIGKILL" else 0)
        self.compare(samples)
        self.ends.append(samples[-1])
        if errors := [line for line in self.engine.log.splitlines() if " ERROR " in line]:
            self.problems.append(f"{len(errors)} errors in the engine's log, such as {errors[0]}")

    def between_lives(self) -> None:
        """What one engine leaves for the next one must not pile up either."""
        first, last = self.ends[0], self.ends[-1]
        most = self.growth.database + self.growth.per_session * self.sessions // 1024
        if last.kept.database - first.kept.database > most:
            sizes = f"{first.kept.database} -> {last.kept.database}"
            self.problems.append(f"the database from life to life (kB): {sizes}, at most {most}")

    @property
    def _environ(self) -> dict[str, str]:
        return {**self.engine.environ, "COVERAGE_PROCESS_START": ""}

    async def _round(self, client: AsyncClient) -> None:
        lives = [LIVES[number % len(LIVES)] for number in range(_AT_ONCE)]
        await asyncio.gather(*(life(client) for life in lives))
        self.sessions += len(lives)
        self.llm.log.clear()  # it keeps every request
        assert await client.list_sessions() == []

    async def _sample(self) -> Sample:
        assert self.engine.process is not None
        pid = self.engine.process.pid
        kept = Kept.by(self.engine.data, self.engine.state)
        await eventually(lambda: Held.by(pid).children == 0)
        await eventually(
            lambda: Kept.by(self.engine.data, self.engine.state).directories <= kept.directories
        )
        return Sample(
            Held.by(pid),
            Held.by(os.getpid()),
            Kept.by(self.engine.data, self.engine.state),
            self.sessions,
        )

    def _line(self, number: int, sample: Sample) -> str:
        return (
            f"round {number + 1:3} sessions={sample.sessions} engine: {row(sample.engine)} | "
            f"{row(sample.kept)} | client: {row(sample.client)}"
        )

    def compare(self, samples: Sequence[Sample]) -> None:
        """The last third against the first rounds after the warm-up."""
        later = samples[self.warm_up :]
        share = max(1, len(later) // 3)
        growth = self.growth
        sessions = later[-1].sessions - later[0].sessions
        limits: list[tuple[str, int, Callable[[Sample], int]]] = [
            ("the engine's memory (kB)", growth.memory, lambda s: s.engine.memory),
            ("the engine's descriptors", growth.descriptors, lambda s: s.engine.descriptors),
            ("the engine's threads", growth.threads, lambda s: s.engine.threads),
            ("the client's memory (kB)", growth.memory, lambda s: s.client.memory),
            ("the client's descriptors", growth.descriptors, lambda s: s.client.descriptors),
            ("the client's threads", growth.threads, lambda s: s.client.threads),
            ("the database (kB)", growth.database, lambda s: s.kept.database),
            ("directories of sessions", 0, lambda s: s.kept.directories),
            ("the log (bytes)", growth.per_session * sessions, lambda s: s.kept.log),
        ]
        for name, most, value in limits:
            before = statistics.median(value(s) for s in later[:share])
            after = statistics.median(value(s) for s in later[-share:])
            if after - before > most:
                self.problems.append(f"{name}: {before:g} -> {after:g}, at most {most} more")


ENDS = ("lease", "SIGTERM", "SIGKILL")


async def _run(minutes: float, sandbox: str, rounds: int) -> list[str]:
    until = time.monotonic() + minutes * 60
    with ThreadedLLM(SCRIPT) as llm, EngineProcess(model_url=llm.base_url, model="text") as engine:
        config = engine.config.read_text().replace('"local"', f'"{sandbox}"')
        engine.config.write_text(config)
        told = functools.partial(print, flush=True)
        soak = Soak(engine, llm, rounds, warm_up=min(_WARM_UP, rounds // 2), told=told)
        while time.monotonic() < until:
            end = ENDS[len(soak.ends) % len(ENDS)]
            print(f"engine {len(soak.ends) + 1}, to end by {end}", flush=True)
            await soak.life(end)
        soak.between_lives()
        print(f"{len(soak.ends)} engines, {soak.sessions} sessions")
        return soak.problems


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--sandbox", default="local", help="provider of the containers")
    parser.add_argument("--rounds", type=int, default=2 * _WARM_UP, help="in each engine's life")
    options = parser.parse_args(arguments)
    problems = asyncio.run(_run(options.minutes, options.sandbox, options.rounds))
    for problem in problems:
        print(f"grows: {problem}")
    print("not flat" if problems else "flat")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
