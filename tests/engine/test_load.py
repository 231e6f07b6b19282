"""Many sessions at once, and many turns one after the other: nothing is lost, nothing piles up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agent_magics.client import AsyncClient
from tests.support import soak
from tests.support.engine_process import EngineProcess, started
from tests.support.held import Held, Kept
from tests.support.scripted_llm import ThreadedLLM

SESSIONS = 50
WORDS = 200
SCRIPT: dict[str, Any] = {
    "default": "stream",
    "scenarios": {
        "stream": {"turns": [{"do": [{"text": {"repeat": "word ", "n": WORDS}, "delay": 0.02}]}]},
    },
}


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with (
        ThreadedLLM(SCRIPT) as llm,
        EngineProcess(model_url=llm.base_url, model="stream") as engine,
    ):
        yield engine


async def test_fifty_sessions_stream_at_once(engine: EngineProcess) -> None:
    async with started(engine), AsyncClient(state_dir=engine.state) as client:
        sessions = await asyncio.gather(*(client.create_session() for _ in range(SESSIONS)))
        pieces: list[list[str]] = [[] for _ in sessions]
        most = 0

        def hear(number: int, delta: str) -> None:
            nonlocal most
            pieces[number].append(delta)
            most = max(most, sum(0 < len("".join(p)) < 5 * WORDS for p in pieces))

        results = await asyncio.gather(
            *(
                session.send("go", on_text=lambda delta, number=number: hear(number, delta))
                for number, session in enumerate(sessions)
            )
        )
        assert {result.text for result in results} == {"word " * WORDS}
        assert {"".join(heard) for heard in pieces} == {"word " * WORDS}
        assert most > SESSIONS / 2, "they did not stream at the same time"
        for session in sessions[::10]:
            numbers = []
            async with session.parsed_events(0) as events:
                async for event in events:
                    numbers.append(event.seq)
                    if event.type == "session.idle":
                        break
            assert numbers == sorted(set(numbers))


async def test_nothing_piles_up() -> None:
    """A short soak; `python -m tests.support.soak` is the long one."""
    with ThreadedLLM(soak.SCRIPT) as llm, EngineProcess(model_url=llm.base_url) as engine:
        growth = soak.Growth(memory=12_000)  # recent events are kept until there are enough
        short = soak.Soak(engine, llm, rounds=6, warm_up=2, growth=growth)
        await short.life("SIGTERM")
        assert short.sessions == 36
        assert short.problems == []


def test_what_grows_is_noticed() -> None:
    def sample(number: int) -> soak.Sample:
        held = Held(100_000 + 5_000 * number, 20 + number, 9, 0)
        return soak.Sample(held, Held(90_000, 20, 3, 1), Kept(4_000, 100 * number, 0), 6 * number)

    with EngineProcess() as engine, ThreadedLLM() as llm:
        long = soak.Soak(engine, llm, rounds=12, warm_up=2)
        long.compare([sample(number) for number in range(12)])
    assert [problem.partition(":")[0] for problem in long.problems] == [
        "the engine's memory (kB)",
        "the engine's descriptors",
    ]
