"""The lives that sessions lead in a soak: everything that a day of work brings, in a second."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent_magics.client import AsyncClient, AsyncSessionHandle
from agent_magics.wire import PermissionAsked, PermissionReply, SendResult, TextDelta

__all__ = ["LIVES", "SCRIPT", "vanish"]


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": {"name": name, "args": arguments}}


WRITE = tool("bash", command="mkdir -p d; date +%N > d/f; head -c 20000 /dev/zero > d/g; echo hi")
TASK = tool("task", description="Look", prompt="child", subagent_type="general")
SCRIPT: dict[str, Any] = {
    "default": "text",
    "scenarios": {
        "text": {"turns": [{"do": [{"text": {"repeat": "word ", "n": 100}}]}]},
        "slow": {"turns": [{"do": [{"text": {"repeat": "w ", "n": 40}, "delay": 0.01}]}]},
        "tool": {"turns": [{"do": [{"text": "Let me see. "}, WRITE]}, {"do": [{"text": "Done."}]}]},
        "hang": {"turns": [{"do": [{"text": "Once"}, {"wait": 600}]}]},
        "cut": {"turns": [{"do": [{"text": "Half"}, {"disconnect": True}]}]},
        "refuse": {"turns": [{"fail": [{"status": 400, "message": "no"}] * 1_000_000}]},
        "parent": {"turns": [{"do": [TASK]}, {"do": [{"text": "Done."}]}]},
        "child": {"match": "^child$", "turns": [{"do": [WRITE]}, {"do": [{"text": "Seen."}]}]},
    },
}
"""Scenarios are chosen by the model's name; `child` is what the parent's sub-agent is told."""

_ALLOWED = [{"permission": "*", "pattern": "*", "action": "allow"}]


async def _turn(session: AsyncSessionHandle, model: str, text: str = "go") -> SendResult:
    return await session.send(text, model=f"scripted/{model}")


async def _until_text(session: AsyncSessionHandle, model: str) -> None:
    """Begin a turn, leave its stream at the first text, and abort it."""
    async with session.stream("go", model=f"scripted/{model}") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break
    assert await session.abort()


async def work(client: AsyncClient) -> None:
    """A turn with a tool, a command, files, an artifact, an aborted turn."""
    session = await client.create_session(permission=_ALLOWED)
    assert (await _turn(session, "tool")).text == "Let me see. Done."
    assert (await session.shell("cat > file; wc -c < file", stdin=b"abc")).stdout.strip() == "3"
    assert await session.get_file_buffer("file") == b"abc"
    await session.put_file("artifacts/a.txt", b"x" * 50_000)
    assert [a.key for a in await session.list_artifacts()] == ["a.txt"]
    await _until_text(session, "hang")
    await session.end()


async def ask(client: AsyncClient) -> None:
    """Permissions: once, rejected, for ever, and one that an abort takes away."""
    session = await client.create_session()
    answers: list[PermissionReply] = ["once", "reject", "always"]
    for answer in answers:
        result = await session.send(
            "go", model="scripted/tool", on_permission=lambda event, answer=answer: answer
        )
        assert result.text == "Let me see. Done."
    (rule,) = await session.get_rules()
    await session.withdraw_rule(rule.id)
    async with session.stream("go", model="scripted/tool") as stream:
        async for event in stream:
            if isinstance(event, PermissionAsked):
                assert await session.abort()
    assert await session.get_permissions() == []
    await session.end()


async def undo(client: AsyncClient) -> None:
    """Turns are taken back and brought back, for good in the end; a copy of the session."""
    session = await client.create_session(permission=_ALLOWED)
    for _ in range(2):
        await _turn(session, "tool")
    prompts = [m.info.id for m in await session.get_messages() if m.info.role == "user"]
    assert (await session.revert(prompts[1], preview=True)).files
    await session.revert(prompts[1])
    await session.unrevert()
    copy = await client.fork_session(session.id, prompts[1])
    await session.revert(prompts[0])
    assert (await _turn(session, "text")).error is None
    assert len(await session.get_messages()) == len(await copy.get_messages()) == 2
    await copy.end()
    await session.end()


async def summarize(client: AsyncClient) -> None:
    """Summaries, of a whole conversation and again, with failed turns between them."""
    session = await client.create_session(permission=_ALLOWED)
    for model in ("text", "cut", "refuse"):
        await _turn(session, model)
        assert ((await session.get_info()).error is None) == (model == "text")
        assert await session.summarize("scripted/text")
    assert (await _turn(session, "text")).error is None
    await session.end()


async def watch(client: AsyncClient) -> None:
    """A turn whose readers come, go and come back where they left off."""
    session = await client.create_session()
    turn = asyncio.create_task(_turn(session, "slow"))
    last, seen = 0, list[int]()
    while not turn.done():
        async with session.parsed_events(last) as events:
            async for event in events:
                assert event.seq is not None
                seen.append(event.seq)
                if len(seen) % 20 == 0 or event.type == "session.idle":
                    break
        last = seen[-1]
        if event.type == "session.idle":
            break
    assert (await turn).text == "w " * 40
    assert seen == sorted(set(seen))
    async with session.events(0) as raw:
        async for _ in raw:
            break
    await session.end()


async def delegate(client: AsyncClient) -> None:
    """A sub-agent works; a task goes on without its client."""
    session = await client.create_session(permission=_ALLOWED)
    assert (await _turn(session, "parent")).text == "Done."
    assert len(await session.get_children()) == 1
    await session.end()
    task = await client.agent("build").run("go", model="scripted/text")
    assert (await task.result(timeout=60)).error is None
    await task.session.end()


LIVES: tuple[Callable[[AsyncClient], Awaitable[None]], ...] = (
    work,
    ask,
    undo,
    summarize,
    watch,
    delegate,
)

_KERNEL = """
import sys
from agent_magics.client import Client
client = Client(state_dir=sys.argv[1])
session = client.create_session()
with session.stream("go", model="scripted/hang") as stream:
    for event in stream:
        if event.type == "text-delta":
            print(session.id, flush=True)
"""


async def vanish(client: AsyncClient, state: Path, environ: dict[str, str]) -> None:
    """A kernel is killed in the middle of its turn; somebody else finds the session and ends it."""
    command = [sys.executable, "-c", _KERNEL, str(state)]
    kernel = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environ)
    assert kernel.stdout is not None
    session = client.session((await kernel.stdout.readline()).decode().strip())
    kernel.kill()
    await kernel.wait()
    assert (await session.get_info()).status == "busy"
    assert await session.abort()
    assert (await session.get_messages())[-1].text == "Once"
    await session.end()
