"""Following a turn that somebody else began, through real HTTP, with a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from agent_magics.client import AsyncClient, ProtocolError, SessionNotFound
from agent_magics.wire import AgentEvent, TextDelta, ToolComplete, TurnEnded, TurnStarted
from tests.support.engine_harness import TOKEN, Step, call, engine_in, hang, say, served, wait_for
from tests.support.fake_engine import FakeEngine
from tests.support.fake_launcher import async_client
from tests.support.waiting import until

ALLOW = [{"permission": "bash", "pattern": "*", "action": "allow"}]


def text_of(events: list[AgentEvent]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def another(directory: Path) -> AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(directory / "test.sock"))
    return AsyncClient("http://agent", token=TOKEN, transport=transport)


@asynccontextmanager
async def client_of(directory: Path, *steps: Step) -> AsyncIterator[AsyncClient]:
    async with (
        engine_in(directory, steps) as harness,
        served(harness, directory),
        another(directory) as client,
    ):
        yield client


async def test_a_late_reader_sees_all_of_the_running_turn(short_dir: Path) -> None:
    go = asyncio.Event()
    steps = [say("Before."), call(("bash", {"command": "ls"}), text="One. "), wait_for(go, "Two.")]
    async with client_of(short_dir, *steps) as first, another(short_dir) as second:
        session = await first.create_session(permission=ALLOW)
        await session.send("a turn before")
        mine: list[AgentEvent] = []
        turn = session.start("go", on_event=mine.append)
        await until(lambda: "One. " in text_of(mine))
        theirs: list[AgentEvent] = []
        follower = await second.session(session.id).follow(on_event=theirs.append)
        assert follower is not None and follower.message_id == turn.message_id
        await until(lambda: "One. " in text_of(theirs))
        go.set()
        result, seen = await turn.result(), await follower.result()
        assert result == seen and seen.text == text_of(theirs) == "One. Two."
        assert sum(isinstance(event, TurnStarted) for event in theirs) == 1
        assert sum(isinstance(event, ToolComplete) for event in theirs) == 1
        assert isinstance(theirs[-1], TurnEnded)


async def test_the_last_turn_when_none_runs(short_dir: Path) -> None:
    async with client_of(short_dir, say("One."), say("Two.")) as client:
        session = await client.create_session()
        events: list[AgentEvent] = []
        assert await session.follow(on_event=events.append) is None
        await session.send("first")
        result = await session.send("second")
        follower = await session.follow(on_event=events.append)
        assert follower is not None and (seen := await follower.result()) == result
        assert result.seconds is not None and seen.seconds is not None
        assert text_of(events) == "Two."
        assert await session.follow(on_event=events.append, only_running=True) is None


async def test_a_follower_can_stop_the_turn(short_dir: Path) -> None:
    async with client_of(short_dir, hang("Half")) as client:
        session = await client.create_session()
        mine: list[AgentEvent] = []
        turn = session.start("go", on_event=mine.append)
        await until(lambda: text_of(mine) == "Half")
        follower = await session.follow(on_event=lambda event: None, only_running=True)
        assert follower is not None
        await follower.abort()
        assert (await follower.result()).error == (await turn.result()).error
        assert (await turn.result()).text == "Half"


async def test_after_a_restart_of_the_engine(short_dir: Path) -> None:
    async with client_of(short_dir, say("One.")) as client:
        session = await client.create_session()
        await session.send("first")
    async with client_of(short_dir) as client:
        events: list[AgentEvent] = []
        follower = await client.session(session.id).follow(on_event=events.append)
        assert follower is not None and (await follower.result()).text == "One."


async def test_no_such_session_and_a_plain_server(short_dir: Path, engine: FakeEngine) -> None:
    async with client_of(short_dir) as client:
        with pytest.raises(SessionNotFound):
            await client.session("ses_none").follow(on_event=lambda event: None)
    engine.health = {"healthy": True, "version": "1.18.33"}
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(ProtocolError, match="following a turn"):
            await session.follow(on_event=lambda event: None)
