"""Many sessions at once, and many turns one after the other: nothing is lost, nothing piles up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_magics.client import AsyncClient
from agent_magics.wire import TextDelta
from tests.support.engine_harness import eventually
from tests.support.engine_process import EngineProcess, started
from tests.support.scripted_llm import ThreadedLLM

SESSIONS = 50
WORDS = 200
CALL = {"tool": {"name": "bash", "args": {"command": "echo hi"}, "id": "call_1"}}
SCRIPT: dict[str, Any] = {
    "default": "stream",
    "scenarios": {
        "stream": {"turns": [{"do": [{"text": {"repeat": "word ", "n": WORDS}, "delay": 0.02}]}]},
        "tool": {"turns": [{"do": [{"text": "Let me see. "}, CALL]}, {"do": [{"text": "Done."}]}]},
        "hang": {"turns": [{"do": [{"text": "Once"}, {"wait": 600}]}]},
    },
}
ALLOWED = [{"permission": "bash", "pattern": "*", "action": "allow"}]


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


@dataclass(frozen=True)
class Held:
    """What a process holds on to."""

    descriptors: int
    threads: int
    children: int
    memory: int  # kB

    @classmethod
    def by(cls, pid: int) -> Held:
        process = Path("/proc") / str(pid)
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        children = (process / "task" / str(pid) / "children").read_text().split()
        return cls(
            len(os.listdir(process / "fd")),
            int(status["Threads"]),
            len(children),
            int(status["VmRSS"].split()[0]),
        )


async def test_nothing_piles_up(engine: EngineProcess) -> None:
    async with started(engine), AsyncClient(state_dir=engine.state) as client:
        assert engine.process is not None
        pid = engine.process.pid
        await lives(client, 15)
        await eventually(lambda: Held.by(pid).children == 0)
        before = Held.by(pid)
        await lives(client, 60)
        await eventually(lambda: Held.by(pid).children == 0)
        await eventually(lambda: Held.by(pid).descriptors <= before.descriptors + 2)
        after = Held.by(pid)
        assert after.threads < before.threads + 10  # pools fill up to their size
        assert after.memory < before.memory + 16_000
        assert await client.list_sessions() == []
        assert list((engine.data / "sessions").iterdir()) == []


async def lives(client: AsyncClient, count: int) -> None:
    """`count` sessions: a turn with a tool, a command, a file, an aborted turn, the end."""

    async def live() -> None:
        session = await client.create_session(permission=ALLOWED)
        result = await session.send("go", model="scripted/tool")
        assert result.text == "Let me see. Done."
        assert (await session.shell("cat > file; wc -c < file", stdin=b"abc")).stdout.strip() == "3"
        assert await session.get_file_buffer("file") == b"abc"
        async with session.stream("go", model="scripted/hang") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    assert await session.abort()
        await session.end()

    for _ in range(0, count, 5):
        await asyncio.gather(*(live() for _ in range(5)))
