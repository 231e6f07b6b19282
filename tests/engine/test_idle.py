"""Containers that nobody uses are stopped; nothing but time is lost, and what is lost is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._config import ConfigError, EngineConfig
from agent_magics.engine._sessions import Session
from tests.support.engine_harness import (
    Harness,
    call,
    engine_in,
    eventually,
    say,
    wait_for,
)

LIMIT = 600.0
ALLOW = [{"permission": "*", "pattern": "*", "action": "allow"}]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def idling(directory: Path, *steps: Any) -> AsyncIterator[tuple[Harness, Clock, Session]]:
    clock = Clock()
    async with engine_in(directory, steps, idle=LIMIT, clock=clock) as harness:
        yield harness, clock, await harness.session(rules=ALLOW)


async def pass_time(harness: Harness, clock: Clock, seconds: float = LIMIT) -> None:
    """One look before, one after that time."""
    await harness.engine.idle.look()
    clock.now += seconds
    await harness.engine.idle.look()


def statuses(harness: Harness) -> list[str]:
    return [e["properties"]["status"] for e in harness.recorder.of("container.status")]


async def test_an_idle_container_rests_and_starts_again(tmp_path: Path) -> None:
    async with idling(tmp_path) as (harness, clock, session):
        box = harness.sandboxes[0]
        await pass_time(harness, clock, LIMIT - 1)
        assert box.alive
        await pass_time(harness, clock, 1)
        assert not box.alive
        event = await harness.recorder.wait("container.status", status="stopped")
        assert event["properties"] == {
            "sessionID": session.id,
            "status": "stopped",
            "message": "The container was stopped after 10 minutes without a command; "
            "it starts again with the next command.",
        }
        answer = await harness.http.post(f"/session/{session.id}/exec", json={"command": "echo on"})
        assert answer.json()["stdout"] == "on\n"
        assert box.alive and box.starts == 2
        await harness.recorder.wait("container.status", status="running")


async def test_every_use_begins_the_time_anew(tmp_path: Path) -> None:
    async with idling(tmp_path) as (harness, clock, session):
        box, path = harness.sandboxes[0], f"/session/{session.id}"
        await harness.http.put(f"{path}/fs?path=a", content=b"x")
        for method, rest, body in [
            ("POST", "/exec", {"command": "true"}),
            ("GET", "/fs?path=a", None),
            ("GET", "/fs/list", None),
        ]:
            await pass_time(harness, clock, LIMIT - 1)
            await harness.http.request(method, path + rest, json=body)
            await pass_time(harness, clock, 2)
            assert box.alive, rest
        await pass_time(harness, clock)
        assert not box.alive


async def test_never_while_a_command_runs(tmp_path: Path) -> None:
    async with idling(tmp_path) as (harness, clock, session):
        box = harness.sandboxes[0]
        command = "while [ ! -e /workspace/go ]; do sleep 0.05; done; echo done"
        running = asyncio.create_task(
            harness.http.post(f"/session/{session.id}/exec", json={"command": command})
        )
        await eventually(lambda: box.busy)
        await pass_time(harness, clock, 10 * LIMIT)
        await pass_time(harness, clock, 10 * LIMIT)
        assert box.alive
        (box.workspace / "go").touch()
        assert (await running).json()["stdout"] == "done\n"


async def test_never_while_a_turn_runs(tmp_path: Path) -> None:
    event = asyncio.Event()
    async with idling(tmp_path, wait_for(event, "Let me think", ".")) as (harness, clock, session):
        box = harness.sandboxes[0]
        message = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta")
        await pass_time(harness, clock, 10 * LIMIT)
        await pass_time(harness, clock, 10 * LIMIT)
        assert box.alive
        event.set()
        await harness.recorder.wait("turn.ended", messageID=message)
        await pass_time(harness, clock)
        assert not box.alive


async def test_never_while_something_else_keeps_the_session_busy(tmp_path: Path) -> None:
    async with idling(tmp_path) as (harness, clock, session):
        child = await harness.session(parent_id=session.id, shares_container=True)
        child.held = "a revert"
        await pass_time(harness, clock, 10 * LIMIT)
        assert harness.sandboxes[0].alive
        child.held = ""
        await pass_time(harness, clock, 10 * LIMIT)
        assert not harness.sandboxes[0].alive


async def test_lost_background_jobs_are_told_once(tmp_path: Path) -> None:
    steps = [
        call(("bash", {"command": "echo one"})),
        call(("bash", {"command": "echo two"})),
        say("Done."),
    ]
    async with idling(tmp_path, *steps) as (harness, clock, session):
        harness.sandboxes[0].jobs = ["python -m http.server 8000", "sleep 99"]
        await pass_time(harness, clock)
        event = await harness.recorder.wait("container.status", status="stopped")
        lost = "Processes that ended with it: python -m http.server 8000; sleep 99."
        assert event["properties"]["message"].endswith(lost)
        await harness.turn(session)
        first, second = (p["state"]["output"] for p in harness.recorder.parts("tool"))
        assert first.startswith("one\n\n[The container was stopped after 10 minutes")
        assert first.endswith(f"{lost}]")
        assert second == "two"
        assert harness.model.seen[1][-1].parts[0].content == first  # type: ignore[union-attr]


async def test_a_container_that_ended_by_itself_is_told(tmp_path: Path) -> None:
    steps = [call(("bash", {"command": "echo one"})), say("Done.")]
    async with idling(tmp_path, *steps) as (harness, _, session):
        harness.sandboxes[0].alive = False
        await harness.turn(session)
        (part,) = harness.recorder.parts("tool")
        assert "[The container had ended and was started again" in part["state"]["output"]


async def test_a_use_that_comes_during_the_stop_waits_for_it(tmp_path: Path) -> None:
    async with idling(tmp_path) as (harness, clock, session):
        box = harness.sandboxes[0]
        asked, go = asyncio.Event(), asyncio.Event()

        async def background() -> list[str]:
            asked.set()
            await go.wait()
            return []

        box.background = background  # type: ignore[method-assign]
        stopping = asyncio.create_task(pass_time(harness, clock))
        await asked.wait()
        path = f"/session/{session.id}/exec"
        using = asyncio.create_task(harness.http.post(path, json={"command": "echo on"}))
        await asyncio.sleep(0)
        go.set()
        await stopping
        assert (await using).json()["stdout"] == "on\n"
        assert box.starts == 2


async def test_sessions_that_ended_are_forgotten(tmp_path: Path) -> None:
    async with idling(tmp_path) as (harness, clock, session):
        await harness.engine.idle.look()
        await harness.engine.delete_session(session)
        await pass_time(harness, clock, 10 * LIMIT)
        assert statuses(harness).count("stopped") == 0


async def test_without_a_limit_nothing_rests(tmp_path: Path) -> None:
    async with engine_in(tmp_path, idle=None) as harness:
        await harness.session()
        await harness.engine.idle.look()
        await harness.engine.idle.look()
        assert harness.sandboxes[0].alive


async def test_a_session_without_a_container_is_told_where_its_files_are(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("Hello."), say("Hello.")]) as harness:
        for sandbox, told in [("local", True), ("auto", False)]:
            await harness.turn(await harness.session(sandbox=sandbox))
            instructions = harness.model.infos[-1].instructions or ""
            assert ("This session has no container" in instructions) is told


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"

    def load(value: str) -> float | None:
        path.write_text(f"[limits.container]\nidle_minutes = {value}")
        return EngineConfig.load(path, {}).idle

    assert load("1.5") == 90
    assert load('"unlimited"') is None
    assert EngineConfig().idle == 3600
    for value in ("0", "-1", "true", '"never"', "nan"):
        with pytest.raises(ConfigError, match=r"limits\.container\.idle_minutes: must be a number"):
            load(value)
