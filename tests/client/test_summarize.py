"""`summarize()` and limits through real HTTP, with a scripted model; a plain server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai.exceptions import ModelHTTPError

from agent_magics.client import (
    AsyncClient,
    BadRequest,
    Busy,
    ModelNotFound,
    ProviderAuth,
    ServerError,
    SessionNotFound,
    TooLarge,
)
from agent_magics.engine._config import CompactionConfig, LimitsConfig
from agent_magics.wire import AgentEvent, Compacted, CompactionPart, StatusChanged
from tests.support.engine_harness import (
    TOKEN,
    Harness,
    Step,
    call,
    engine_in,
    fail,
    hang,
    say,
    served,
    wait_for,
)
from tests.support.fake_engine import TOKEN as PLAIN_TOKEN
from tests.support.fake_engine import FakeEngine


@asynccontextmanager
async def client_of(
    directory: Path, *steps: Step, **options: Any
) -> AsyncIterator[tuple[Harness, AsyncClient]]:
    async with engine_in(directory, steps, **options) as harness, served(harness, directory):
        transport = httpx.AsyncHTTPTransport(uds=str(directory / "test.sock"))
        async with AsyncClient("http://agent", token=TOKEN, transport=transport) as client:
            yield harness, client


async def test_the_history_shows_it_and_the_status_tells(short_dir: Path) -> None:
    ready = asyncio.Event()
    steps = [say("One."), wait_for(ready, "Sum", "mary."), say("Two.")]
    async with client_of(short_dir, *steps) as (harness, client):
        session = await client.create_session()
        await session.send("first")
        task = asyncio.create_task(session.summarize())
        await harness.recorder.wait("message.part.delta", 2)
        assert (await session.get_info()).status == "compacting"
        with pytest.raises(Busy):
            await session.send("too early")
        with pytest.raises(Busy):
            await session.summarize()
        ready.set()
        assert await task is True
        assert (await session.get_info()).status == "idle"
        messages = await session.get_messages()
        assert [m.info.summary for m in messages] == [False, False, False, True]
        assert isinstance(messages[2].parts[0], CompactionPart)
        assert messages[3].text == "Summary." and messages[3].info.parent_id == messages[2].info.id
        result = await session.send("second")
        assert (result.text, result.error) == ("Two.", None)
        assert len(harness.model.seen[-1]) == 3
        metrics = await session.get_metrics()
        assert metrics.context_limit == 1000 and metrics.context_used


async def test_what_can_go_wrong_is_typed(short_dir: Path) -> None:
    overflow = fail(ModelHTTPError(400, "main", "prompt is too long"))
    steps = [say("One."), fail(ModelHTTPError(400, "main", "no")), overflow]
    async with client_of(short_dir, *steps) as (_, client):
        session = await client.create_session()
        with pytest.raises(BadRequest, match="nothing to summarize"):
            await session.summarize()
        await session.send("first")
        with pytest.raises(ServerError) as failed:
            await session.summarize()
        assert failed.value.name == "APIError" and failed.value.data["statusCode"] == 400
        with pytest.raises(TooLarge):
            await session.summarize()
        with pytest.raises(ProviderAuth):
            await session.summarize(model="fake/locked")
        with pytest.raises(ModelNotFound):
            await session.summarize("fake/none")
        with pytest.raises(BadRequest, match="provider/model-id"):
            await session.summarize("main")
        with pytest.raises(SessionNotFound):
            await client.session("ses_none").summarize()
        assert (await session.send("second")).error is None


async def test_abort_and_cancelling_leave_it_as_it_was(short_dir: Path) -> None:
    steps = [say("One."), hang("Half"), hang("Half"), say("Two.")]
    async with client_of(short_dir, *steps) as (harness, client):
        session = await client.create_session()
        await session.send("first")
        task = asyncio.create_task(session.summarize())
        await harness.recorder.wait("message.part.delta", 2)
        assert await session.abort()
        assert await task is False
        task = asyncio.create_task(session.summarize())
        await harness.recorder.wait("message.part.delta", 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await harness.recorder.wait("turn.ended", 2, outcome="aborted")
        assert (await session.send("second")).text == "Two."
        assert "Half" not in str(harness.model.seen[-1])


async def test_a_turn_tells_that_it_makes_room_and_goes_on(short_dir: Path) -> None:
    much = call(("bash", {"command": "printf '%4000s' end"}), text="Let me look. ")
    steps = [much, say("Sum."), say("Done.")]
    rules = [{"permission": "bash", "pattern": "*", "action": "allow"}]
    options = {"compaction": CompactionConfig(threshold=0.8)}
    async with client_of(short_dir, *steps, **options) as (_, client):
        session = await client.create_session(permission=rules)
        events: list[AgentEvent] = [event async for event in session.stream("go")]
        told = [e.status for e in events if isinstance(e, StatusChanged)]
        assert told[told.index("busy") :] == ["busy", "compacting", "busy"]
        result = events[-1].result  # type: ignore[union-attr]
        # The summary is no part of what the agent said.
        assert result.error is None and result.text == "Let me look. Done."
        messages = await session.get_messages()
        assert [m.info.summary for m in messages] == [False, False, False, True, False]
        assert result.message_id == messages[-1].info.id
        assert [e for e in events if e.type in ("compacted", "unknown")] == [
            Compacted(messages[3].info.id)
        ]


async def test_a_limit_is_a_typed_error_of_the_turn(short_dir: Path) -> None:
    steps = [call(("todoread", {})), say("Never.")]
    async with client_of(short_dir, *steps, limits=LimitsConfig(steps=1)) as (_, client):
        session = await client.create_session()
        result = await session.send("go")
        assert result.error is not None and result.error.name == "TurnLimitError"
        assert (result.error.data["limit"], result.error.data["value"]) == ("steps", 1)
        assert "[limits]" in result.error.message


async def test_a_limit_that_nobody_could_keep_is_refused(short_dir: Path) -> None:
    limits = LimitsConfig(cost=2, source="/etc/config.toml")
    async with client_of(short_dir, say("Never."), limits=limits) as (harness, client):
        session = await client.create_session()
        with pytest.raises(BadRequest, match="what fake/main costs is not known") as refused:
            await session.send("go")
        assert refused.value.name == "TurnLimitError" and "/etc/config.toml" in str(refused.value)
        assert (refused.value.data["limit"], refused.value.data["value"]) == ("cost", 2)
        assert await session.get_messages() == [] and harness.model.seen == []
        assert (await session.get_info()).status == "idle"


async def test_a_plain_server_is_told_the_model(engine: FakeEngine) -> None:
    engine.health = {"healthy": True, "version": "1.18.33"}
    engine.refusals[("POST", "summarize")] = [(200, True), (200, True)]
    transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
    async with AsyncClient("http://agent", token=PLAIN_TOKEN, transport=transport) as client:
        session = await client.create_session()
        with pytest.raises(BadRequest, match="name one"):
            await session.summarize()
        assert await session.summarize("a/b/c")
        info = {"id": session.id, "model": {"providerID": "d", "id": "e"}}
        engine.refusals["GET", session.id] = [(200, info)]
        assert await session.summarize()
        assert [request.json for request in engine.seen("POST", "summarize")] == [
            {"providerID": "a", "modelID": "b/c"},
            {"providerID": "d", "modelID": "e"},
        ]
