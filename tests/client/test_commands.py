"""`run_command()` and `list_commands()` on an engine over real HTTP, both faces."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from agent_magics.client import (
    AsyncClient,
    BadRequest,
    CommandArguments,
    CommandCall,
    CommandFailed,
    CommandNotFound,
    ProtocolError,
    SessionNotFound,
)
from agent_magics.engine._commands import CommandBook
from agent_magics.engine._config_tables import CommandConfig
from agent_magics.engine._extensions import Extensions
from agent_magics.wire import Command, TurnEnded
from tests.support.engine_harness import call, engine_in, fail, say
from tests.support.served_client import clients_of

BOOK = CommandBook({"test": CommandConfig("Run the tests in $path.", "Run tests")})
EXTRAS = Extensions(commands=BOOK)


async def test_both_faces(tmp_path: Path, short_dir: Path) -> None:
    steps = [call(("bash", {"command": "echo hi"})), say("All ", "green."), say("Again.")]
    async with (
        engine_in(tmp_path, steps, extensions=EXTRAS) as harness,
        clients_of(harness, short_dir) as (other, client),
    ):
        session = await asyncio.to_thread(client.create_session)
        texts: list[str] = []

        def run() -> str:
            return session.run_command(
                "test",
                {"path": Path("./src") / "x"},
                on_text=texts.append,
                on_permission=lambda request: "once",
            )

        assert await asyncio.to_thread(run) == "".join(texts) == "All green."
        same = other.session(session.id)
        assert await same.run_command("test", "path=b", model="fake/main") == "Again."
        prompts = [m.text for m in await same.get_messages() if m.info.role == "user"]
        assert prompts == ["Run the tests in src/x.", "Run the tests in b."]
        commands = {c.name: c for c in await asyncio.to_thread(client.list_commands)}
        template = "Run the tests in $path."
        assert commands["test"] == Command("test", template, "Run tests", ("$path",), "user")
        harness.sandboxes[0].workspace.joinpath(".agent-magics/commands").mkdir(parents=True)
        await same.put_file(".agent-magics/commands/mine.md", "Mine")
        assert "mine" in [c.name for c in await other.list_commands(session.id)]


async def test_refusals(tmp_path: Path, short_dir: Path) -> None:
    async with (
        engine_in(tmp_path, [fail(ValueError("x"), "half")], extensions=EXTRAS) as harness,
        clients_of(harness, short_dir) as (client, _),
    ):
        session = await client.create_session()
        with pytest.raises(CommandNotFound, match="There is no command tset") as unknown:
            await session.run_command("tset")
        assert "review" in unknown.value.data["commands"]
        with pytest.raises(CommandArguments) as caught:
            await session.run_command("test", {"paht": "x"})
        assert caught.value.unknown == ["paht"] and caught.value.missing == []
        with pytest.raises(CommandArguments) as caught:
            await session.run_command("test")
        assert caught.value.missing == ["$path"]
        with pytest.raises(BadRequest):
            await session.run_command(" ")
        with pytest.raises(SessionNotFound):
            await client.session("ses_nobody").run_command("test")
        with pytest.raises(SessionNotFound):
            await client.list_commands("ses_nobody")
        with pytest.raises(CommandFailed, match="The command review failed") as failed:
            await session.run_command("review")
        assert failed.value.result.text == "half" and failed.value.result.error is not None


async def test_a_command_can_be_streamed(tmp_path: Path, short_dir: Path) -> None:
    async with (
        engine_in(tmp_path, [say("Fine.")], extensions=EXTRAS) as harness,
        clients_of(harness, short_dir) as (client, _),
    ):
        session = await client.create_session()
        events = [event async for event in session.stream(CommandCall("test", ["x"]))]
        assert isinstance(events[-1], TurnEnded)


async def test_a_plain_server_is_refused() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"healthy": True, "version": "1.18"})

    async with AsyncClient("http://x", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ProtocolError, match="has no commands"):
            await client.session("ses_1").run_command("test")
