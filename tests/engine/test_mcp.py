"""MCP servers: their tools in turns, and that a broken one never breaks a turn."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo

from agent_magics.engine import _mcp
from agent_magics.engine._agent_config import agent_profile
from agent_magics.engine._agents import BUILT_IN, AgentBook
from agent_magics.engine._config_tables import McpConfig
from agent_magics.engine._extensions import Extensions
from agent_magics.engine._mcp import McpServers
from tests.support.engine_harness import Harness, Step, call, engine_in, eventually, say

pytest.importorskip("pydantic_ai.mcp", exc_type=ImportError)

SERVER = str(Path(__file__).parents[1] / "support" / "mcp_server.py")
ALLOW = [{"permission": "test_*", "pattern": "*", "action": "allow"}]


def stdio(*arguments: str, **options: Any) -> McpConfig:
    return McpConfig(command=(sys.executable, SERVER, *arguments), **options)


def servers(directory: Path, environ: dict[str, str] | None = None, **all: McpConfig) -> Extensions:
    return Extensions(mcp=McpServers(all, environ, directory))


def tools_seen(into: set[str], then: Step | None = None) -> Step:
    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        into.update(tool.name for tool in info.function_tools)
        async for item in (then or say("Seen."))(messages, info):
            yield item

    return step


def results(harness: Harness) -> list[tuple[str, str, str]]:
    return [
        (p["tool"], p["state"]["status"], p["state"].get("output") or p["state"].get("error", ""))
        for p in harness.recorder.parts("tool")
    ]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_tools_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process for all turns; it asks; it sees no keys; it goes with the engine."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    pids, seen = tmp_path / "pids", set[str]()
    tools = ("add", "environ", "fail", "long", "picture", "nothing")
    config = stdio(str(pids), env={"TOKEN": "${TEST_TOKEN}"}, tools=tools)
    off = stdio(enabled=False)
    steps = [
        call(("test_add", {"a": 2, "b": 3})),
        say("5"),
        call(("test_environ", {}), ("test_fail", {}), ("test_long", {}), ("test_picture", {})),
        tools_seen(seen),
    ]
    extras = servers(tmp_path, {"TEST_TOKEN": "secret"}, test=config, off=off)
    async with engine_in(tmp_path, steps, extensions=extras) as harness:
        disabled = {"status": "disabled"}
        statuses = (await harness.http.get("/mcp")).json()
        assert statuses == {"test": {"status": "pending"}, "off": disabled}
        session = await harness.session()
        await harness.prompt(session)
        asked = (await harness.recorder.wait("permission.asked"))["properties"]
        assert (asked["permission"], asked["metadata"]) == ("test_add", {"a": 2, "b": 3})
        harness.engine.permissions.reply(asked["id"], "once", None, session_id=session.id)
        await harness.recorder.wait("session.idle")
        session.rules = ALLOW
        await harness.turn(session)
        added, environ, failed, long, picture = results(harness)
        assert added[1] == "completed" and "5" in added[2]
        assert "TOKEN" in environ[2].split(",") and "ANTHROPIC_API_KEY" not in environ[2]
        assert failed[1] == "error" and "no luck" in failed[2]
        assert long[1] == "completed" and len(long[2]) < 40_000
        assert picture[1] == "completed" and "Image" in picture[2]
        assert "bash" in seen
        assert {name for name in seen if "_" in name} == {f"test_{name}" for name in tools[:-1]}
        statuses = (await harness.http.get("/mcp")).json()
        assert statuses == {"test": {"status": "connected"}, "off": disabled}
        (pid,) = map(int, pids.read_text().split())
        assert is_alive(pid)
    await eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize(
    ("config", "timeout", "reason"),
    [
        (McpConfig(command=("/no/such/server",)), 20, "/no/such/server"),
        (McpConfig(command=(sys.executable, "-c", "exit(1)")), 20, "can't be used"),
        (McpConfig(command=("/bin/sleep", "60")), 0.2, "did not answer within 0.2 s"),
        (McpConfig(url="http://127.0.0.1:9/mcp"), 20, "can't be used"),
        (stdio(env={"X": "${MISSING}"}), 20, "the environment variable MISSING is not set"),
    ],
)
async def test_a_server_that_cannot_be_had(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: McpConfig,
    timeout: float,
    reason: str,
) -> None:
    """The turn says so, once, and goes on; the next one does not wait for it again."""
    monkeypatch.setattr(_mcp, "_START_TIMEOUT", timeout)
    extras = servers(tmp_path, bad=config)
    async with engine_in(tmp_path, [say("Hello."), say("Again.")], extensions=extras) as harness:
        session = await harness.session()
        assert (await harness.turn(session))["outcome"] == "completed"
        ((tool, status, error),) = results(harness)
        assert (tool, status) == ("mcp", "error")
        assert "The MCP server bad can't be used" in error and reason in error
        stated = (await harness.http.get("/mcp")).json()["bad"]
        assert stated == {"status": "failed", "error": error}
        assert (await harness.turn(session))["outcome"] == "completed"
        assert len(results(harness)) == 1


async def test_after_a_while_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mcp, "_PAUSE", 0.0)
    environ: dict[str, str] = {}
    extras = servers(tmp_path, environ, test=stdio(env={"X": "${LATER}"}))
    async with engine_in(tmp_path, extensions=extras) as harness:
        session = await harness.session()
        for count in (1, 2):
            await harness.turn(session)
            assert len(results(harness)) == count
        environ["LATER"] = "now"
        await harness.turn(session)
        assert len(results(harness)) == 2
        assert (await harness.http.get("/mcp")).json() == {"test": {"status": "connected"}}


async def test_an_abort_and_a_death(tmp_path: Path) -> None:
    """An aborted call leaves the server usable, a dead server comes back with the next turn."""
    pids = tmp_path / "pids"
    add = call(("test_add", {"a": 1, "b": 1}))
    steps = [call(("test_wait", {})), call(("test_die", {})), say("Gone."), add, say("Back.")]
    extras = servers(tmp_path, test=stdio(str(pids)))
    async with engine_in(tmp_path, steps, extensions=extras) as harness:
        session = await harness.session(rules=ALLOW)
        await harness.prompt(session)
        await harness.recorder.until(
            lambda: any(p["state"]["status"] == "running" for p in harness.recorder.parts("tool"))
        )
        await harness.engine.abort(session)
        ended = await harness.recorder.wait("turn.ended")
        assert ended["properties"]["outcome"] == "aborted"
        assert (await harness.turn(session))["outcome"] == "completed"
        assert (await harness.turn(session))["outcome"] == "completed"
        waited, died, added = results(harness)
        assert waited[1:] == ("error", "Tool execution aborted")
        assert died[1] == "error" and died[2]
        assert added[1] == "completed"
        assert len(pids.read_text().split()) == 2


EVERYTHING = [{"permission": "*", "pattern": "*", "action": "allow"}]
NAMES = ("look", "change", "silent")


async def test_read_only_agents_call_only_what_reads(tmp_path: Path) -> None:
    """Whatever was allowed, alone, in a batch, or by a sub-agent that has all tools."""
    named = {"permission": {"test_*": "allow", "test_silent": "deny"}}
    may_call = {"plan": {"look"}, "named": {"look", "change"}}
    log, seen = tmp_path / "calls", {"plan": set[str](), "named": set[str]()}
    calls = [(f"test_{name}", {}) for name in NAMES]
    publish = ("artifact", {"path": "f"})
    batched = [{"tool": tool, "parameters": given} for tool, given in (*calls, publish)]
    task = {"description": "all of it", "prompt": "go", "subagent_type": "general"}
    steps = [
        step
        for into in seen.values()
        for step in (
            tools_seen(into, call(*calls, publish)),
            call(("batch", {"tool_calls": batched})),
            call(("task", task)),
            tools_seen(into, call(*calls, ("write", {"filePath": "g", "content": ""}), publish)),
            say("Done below."),
            say("Done."),
        )
    ]
    extras = servers(tmp_path, test=stdio(env={"CALLS": str(log)}, tools=NAMES))
    agents = AgentBook(
        {"named": agent_profile("named", named, replace(BUILT_IN["plan"], name="named"))}
    )
    async with engine_in(tmp_path, steps, extensions=extras, agents=agents) as harness:
        for number, (agent, may) in enumerate(may_call.items()):
            session = await harness.session(agent=agent, rules=EVERYTHING)
            session.standing = [*EVERYTHING]
            await harness.sandboxes[number].write_file("/workspace/f", b"data")
            await harness.turn(session)
            assert harness.recorder.of("permission.asked") == []
            assert sorted(log.read_text().split()) == sorted([*may] * 3)
            log.write_text("")
            tools = {name for name in seen[agent] if name.startswith("test_")}
            assert tools == {f"test_{name}" for name in may}
            assert await harness.engine.artifacts.all(session) == []
            assert not (harness.sandboxes[number].workspace / "g").exists()
