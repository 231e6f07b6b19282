"""What `get_info()` says of a session whose last turn failed, through real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic_ai.exceptions import ModelHTTPError

from agent_magics.client import AsyncClient, AsyncSessionHandle, Client, ServerError
from agent_magics.wire import WireError
from tests.support.engine_harness import Harness, Step, call, engine_in, fail, hang, say, wait_for
from tests.support.served_client import clients_of

REFUSED = fail(ModelHTTPError(400, "main", {"error": {"message": "no such thing"}}))


@asynccontextmanager
async def client_of(
    directory: Path, *steps: Step
) -> AsyncIterator[tuple[Harness, AsyncClient, Client]]:
    async with engine_in(directory, steps) as harness, clients_of(harness, directory) as clients:
        yield harness, *clients


async def state(session: AsyncSessionHandle) -> tuple[str, str]:
    """Status, and the name of the error."""
    info = await session.get_info()
    return info.status, info.error.name if info.error else ""


async def test_a_failed_turn_shows_until_the_next_prompt(short_dir: Path) -> None:
    ready = asyncio.Event()
    async with client_of(short_dir, REFUSED, wait_for(ready, "So", ".")) as (
        harness,
        client,
        sync,
    ):
        session = await client.create_session()
        assert await state(session) == ("idle", "")
        failed = await session.send("first")
        assert failed.error is not None and failed.error.name == "APIError"
        info = await session.get_info()
        assert (info.status, info.error) == ("error", failed.error)
        assert await client.list_sessions() == [info]
        assert await asyncio.to_thread(sync.session(session.id).get_info) == info
        assert await asyncio.to_thread(sync.list_sessions) == [info]
        # Other programs ask this path what runs: nothing does.
        assert (await harness.http.get("/session/status")).json() == {}
        told = [e["properties"]["info"] for e in harness.recorder.of("session.updated")]
        assert WireError.from_json(told[-1]["error"]) == failed.error
        order = [e["type"] for e in harness.recorder.events]
        assert order.index("turn.ended") > len(order) - 1 - order[::-1].index("session.updated")

        task = asyncio.create_task(session.send("second"))
        await harness.recorder.wait("message.part.delta")
        assert await state(session) == ("busy", "")
        ready.set()
        assert (await task).error is None
        assert await state(session) == ("idle", "")
        told = [e["properties"]["info"] for e in harness.recorder.of("session.updated")]
        assert "error" not in told[-1]


async def test_an_abort_is_no_failure(short_dir: Path) -> None:
    async with client_of(short_dir, REFUSED, hang("Half")) as (harness, client, _):
        session = await client.create_session()
        await session.send("first")
        task = asyncio.create_task(session.send("second"))
        await harness.recorder.wait("message.part.delta")
        assert await session.abort()
        assert (await task).error is not None
        assert await state(session) == ("idle", "")


async def test_it_outlives_the_engine(short_dir: Path) -> None:
    async with client_of(short_dir, REFUSED) as (_, client, _sync):
        session = await client.create_session()
        failed = await session.send("first")
    async with client_of(short_dir, say("Yes.")) as (_, client, _sync):
        again = client.session(session.id)
        info = await again.get_info()
        assert (info.status, info.error) == ("error", failed.error)
        await again.send("second")
        assert await state(again) == ("idle", "")


async def test_it_goes_and_comes_with_its_turn(short_dir: Path) -> None:
    async with client_of(short_dir, say("One."), REFUSED) as (_, client, _sync):
        session = await client.create_session()
        await session.send("first")
        await session.send("second")
        prompt = (await session.get_messages())[2].info.id
        whole = await client.fork_session(session.id)
        before = await client.fork_session(session.id, prompt)
        assert await state(whole) == ("error", "APIError")
        assert await state(before) == ("idle", "")
        await session.revert(prompt)
        assert await state(session) == ("idle", "")
        await session.revert((await session.get_messages())[0].info.id)
        await session.unrevert()
        assert await state(session) == ("error", "APIError")


async def test_a_summary_that_fails(short_dir: Path) -> None:
    async with client_of(short_dir, say("One."), REFUSED, say("Sum.")) as (_, client, _sync):
        session = await client.create_session()
        await session.send("first")
        with pytest.raises(ServerError):
            await session.summarize()
        assert await state(session) == ("error", "APIError")
        assert await session.summarize()
        assert await state(session) == ("idle", "")


async def test_sub_agents_and_tasks(short_dir: Path) -> None:
    delegate = {"description": "Try", "prompt": "try", "subagent_type": "general"}
    steps = [call(("task", delegate)), REFUSED, say("It failed."), REFUSED]
    async with client_of(short_dir, *steps) as (_, client, _sync):
        session = await client.create_session()
        assert (await session.send("go")).text == "It failed."
        (child,) = await session.get_children()
        assert child.status == "error" and child.error is not None
        assert await state(session) == ("idle", "")
        task = await client.agent("build").run("go")
        await task.result(timeout=30)
        assert (await task.poll()).status == "error"
        assert await state(task.session) == ("error", "APIError")
