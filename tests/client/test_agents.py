"""Agents, sub-agents, tasks and standing rules: the client and a real engine over real HTTP."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.client import (
    AgentHandle,
    AgentNotFound,
    AsyncAgentHandle,
    AsyncClient,
    AsyncTask,
    BadRequest,
    Client,
    PermissionNotFound,
    ProviderAuth,
    RuleNotFound,
    SessionNotFound,
    Task,
    TaskNotFound,
)
from agent_magics.wire import (
    AgentEvent,
    PermissionAsked,
    PermissionReplied,
    PermissionRequest,
    TextDelta,
    ToolComplete,
    ToolPart,
    ToolStart,
    ToolUpdate,
    TurnEnded,
)
from tests.support.engine_harness import (
    TOKEN,
    Harness,
    Step,
    call,
    engine_in,
    eventually,
    hang,
    say,
    served,
    think,
)

MINE = {"name": "mine", "instructions": ("Be brief.",), "tools": {"bash": False}}


def bash(command: str) -> tuple[str, dict[str, Any]]:
    return "bash", {"command": command}


def task(prompt: str = "Look.") -> tuple[str, dict[str, Any]]:
    arguments = {"description": "Find it", "prompt": prompt, "subagent_type": "explore"}
    return "task", arguments


def transport(directory: Path) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(uds=str(directory / "test.sock"))


@asynccontextmanager
async def serving(directory: Path, *steps: Step) -> AsyncIterator[tuple[Harness, AsyncClient]]:
    async with (
        engine_in(directory, steps) as harness,
        served(harness, directory),
        AsyncClient(transport=transport(directory), token=TOKEN) as client,
    ):
        yield harness, client


@pytest.mark.parametrize(
    ("sync", "other", "attributes"),
    [
        (AgentHandle, AsyncAgentHandle, {"agent"}),
        (Task, AsyncTask, {"id", "session_id", "message_id"}),
    ],
)
def test_both_faces_take_the_same(sync: type, other: type, attributes: set[str]) -> None:
    names = {name for name in dir(sync) if not name.startswith("_")}
    assert names == {name for name in dir(other) if not name.startswith("_")} | attributes
    for name in names - attributes:
        mine, theirs = getattr(sync, name), getattr(other, name)
        assert callable(mine) == callable(theirs)
        if callable(mine):
            parameters = inspect.signature(theirs).parameters
            assert str(inspect.signature(mine).parameters) == str(parameters), name


# Agents


async def test_agents(short_dir: Path) -> None:
    async with serving(short_dir, say("1"), say("2"), say("3")) as (harness, client):
        agents = await client.list_agents()
        assert [agent.name for agent in agents] == ["build", "plan", "general", "explore"]
        plan = client.agent("plan")
        assert (plan.name, repr(plan)) == ("plan", "AsyncAgentHandle('plan')")
        session = await plan.create_session(title="A plan")
        info = await session.get_info()
        assert (info.title, info.agent) == ("A plan", "plan")
        await session.send("hi")
        await session.send("hi", agent="build")
        agents_of = [message.info.agent for message in await session.get_messages()]
        assert agents_of == ["plan", "plan", "build", "build"]
        mine = await client.agent(MINE).create_session()  # type: ignore[arg-type]
        assert (await mine.get_info()).agent == "mine"
        async for event in mine.stream("hi", agent="mine"):
            assert not isinstance(event, ToolStart)
        request = harness.model.seen[2][0]
        assert "Be brief." in str(request.instructions)  # type: ignore[union-attr]


async def test_unknown_agents(short_dir: Path) -> None:
    async with serving(short_dir) as (_, client):
        with pytest.raises(AgentNotFound, match="build, explore, general, plan"):
            await client.agent("nobody").create_session()
        session = await client.create_session()
        with pytest.raises(AgentNotFound, match="nobody"):
            await session.send("hi", agent="nobody")
        with pytest.raises(BadRequest, match="temperature"):
            await client.create_session(agent={"temperature": 99})
        with pytest.raises(TypeError, match="a name or a mapping"):
            client.agent(5)  # type: ignore[arg-type]


# Sub-agents


async def test_a_childs_work_stays_out_of_its_parents_turn(short_dir: Path) -> None:
    steps = [
        call(task(), text="Let me ask."),
        think("child thinks", "child says"),
        say("Parent says."),
    ]
    async with serving(short_dir, *steps) as (_, client):
        session = await client.create_session()
        events: list[AgentEvent] = [event async for event in session.stream("go")]
        texts = "".join(e.delta for e in events if isinstance(e, TextDelta))
        assert texts == "Let me ask.Parent says."
        assert not any(e.type in ("reasoning-delta", "unknown") for e in events)
        (ended,) = [e for e in events if isinstance(e, TurnEnded)]
        assert ended.outcome == "completed" and ended.result.text == texts
        (child,) = await session.get_children()
        assert child.parent_id == session.id and child.agent == "explore"
        assert child.title == "Find it (@explore subagent)" and child.status == "idle"
        updates = [e.part for e in events if isinstance(e, ToolUpdate)]
        assert any(part.state.metadata.get("sessionId") == child.id for part in updates)
        (done,) = [e.part for e in events if isinstance(e, ToolComplete)]
        assert done.state.output == "child says"
        assert {part.tool for part in ended.result.parts if isinstance(part, ToolPart)} == {"task"}
        metrics = await session.get_metrics()
        assert [m.session_id for m in metrics.children] == [child.id]
        assert [info.id for info in await client.list_sessions()] == [session.id]
        messages = await client.session(child.id).get_messages()
        assert messages[1].text == "child says"
        await session.end()
        with pytest.raises(SessionNotFound):
            await client.session(child.id).get_info()


async def test_a_childs_permission_is_answered_from_its_parents_turn(short_dir: Path) -> None:
    steps = [call(task()), call(bash("ls")), say("Found."), say("Good.")]
    async with serving(short_dir, *steps) as (_, client):
        session = await client.create_session()
        requests: list[PermissionRequest] = []
        listed: list[PermissionRequest] = []
        replied: list[PermissionReplied] = []
        async for event in session.stream("go"):
            if isinstance(event, PermissionAsked):
                requests.append(event.request)
                listed += await session.get_permissions()
                await session.reply_to_permission(event.request.id, "once")
            elif isinstance(event, PermissionReplied):
                replied.append(event)
        assert listed == requests
        (request,) = requests
        assert request.session_id != session.id and request.parent_id == session.id
        assert request.agent == "explore" and "Find it" in request.session_title
        assert [(r.request_id, r.reply) for r in replied] == [(request.id, "once")]
        with pytest.raises(PermissionNotFound):
            await session.reply_to_permission(request.id, "once")


async def test_rules_are_listed_and_withdrawn(short_dir: Path) -> None:
    steps = [call(task()), call(bash("ls -l")), say("a"), say("b")]
    steps += [call(bash("ls")), say("c"), call(bash("ls")), say("d")]
    async with serving(short_dir, *steps) as (_, client):
        session = await client.create_session()
        asked: list[str] = []

        def always(request: PermissionRequest) -> str:
            asked.append(request.id)
            return "always"

        await session.send("go", on_permission=always)
        (rule,) = await session.get_rules()
        assert (rule.permission, rule.pattern, rule.action) == ("bash", "ls *", "allow")
        assert rule.session_id == session.id
        await session.send("go", on_permission=always)
        assert len(asked) == 1
        await session.withdraw_rule(rule.id)
        assert await session.get_rules() == []
        with pytest.raises(RuleNotFound):
            await session.withdraw_rule(rule.id)
        await session.send("go", on_permission=always)
        assert len(asked) == 2
        with pytest.raises(SessionNotFound):
            await client.session("ses_nobody").get_rules()


# Tasks


async def test_a_task_from_start_to_end(short_dir: Path) -> None:
    async with serving(short_dir, hang("Half"), say("Done.")) as (harness, client):
        agent = client.agent("build")
        first = await agent.run("Take your time", title="Slow")
        assert (await first.session.get_info()).title == "Slow"
        info = await first.poll()
        assert (info.status, info.done, info.result) == ("running", False, None)
        with pytest.raises(TimeoutError):
            await first.result(timeout=0.05)
        await harness.recorder.wait("message.part.delta", field="text")
        assert await first.cancel() and not await first.cancel()
        result = await first.result()
        assert result.text == "Half" and result.error is not None
        assert (await first.poll()).status == "aborted"
        second = await agent.run("Be quick")
        result = await second.result(timeout=30)
        assert (result.text, result.error) == ("Done.", None)
        assert (await second.poll()).result == result
        # Somebody else, who knows nothing but the id.
        async with AsyncClient(transport=transport(short_dir), token=TOKEN) as other:
            assert (await other.task(second.id).result()) == result
            assert repr(other.task(second.id)) == f"AsyncTask({second.id!r})"
        await second.session.end()
        with pytest.raises(TaskNotFound):
            await second.poll()


async def test_a_task_goes_on_without_its_client(short_dir: Path) -> None:
    go = asyncio.Event()

    async def wait(messages: Any, info: Any) -> AsyncIterator[str]:
        await go.wait()
        yield "Here I am."

    async with serving(short_dir, wait) as (harness, client):
        async with AsyncClient(transport=transport(short_dir), token=TOKEN) as starter:
            started = await starter.agent("build").run("go")
        waiting = asyncio.create_task(client.task(started.id).result())
        await eventually(lambda: len(harness.model.seen) == 1)
        go.set()
        assert (await waiting).text == "Here I am."


async def test_a_task_does_not_wait_for_nobody(short_dir: Path) -> None:
    steps = [call(bash("rm f")), say("I may not.")]
    async with serving(short_dir, *steps) as (_, client):
        running = await client.agent("build").run("go")
        assert (await running.result()).text == "I may not."
        (part,) = [p for p in (await running.result()).parts if isinstance(p, ToolPart)]
        assert "Nobody is there" in part.state.error


async def test_a_task_that_is_told_to_wait_can_be_answered_later(short_dir: Path) -> None:
    steps = [call(task()), call(bash("ls")), say("Found."), say("I could.")]
    async with serving(short_dir, *steps) as (harness, client):
        started = await client.agent("build").run("go", on_permission="ask")
        await harness.recorder.wait("permission.asked")
        later = client.task(started.id)
        info = await later.poll()
        assert info.status == "waiting" and info.permissions[0].agent == "explore"
        assert list(info.permissions) == await later.session.get_permissions()
        await later.session.reply_to_permission(info.permissions[0].id, "once")
        assert (await later.result()).text == "I could."
        assert (await later.poll()).status == "completed"


async def test_cancelling_an_old_task_spares_a_new_turn(short_dir: Path) -> None:
    async with serving(short_dir, say("Done."), hang("On and on")) as (_, client):
        old = await client.agent("build").run("go")
        await old.result()
        stream = old.session.stream("more")
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        assert not await old.cancel()
        assert (await old.session.get_info()).status == "busy"
        assert (await old.poll()).status == "completed"
        await old.session.abort()
        await stream.aclose()


@pytest.mark.parametrize("id", ["", "x", "ses_1", "ses_1.", "msg_1.ses_1"])
async def test_what_is_no_task(id: str) -> None:
    async with AsyncClient("http://agent", token="x") as client:
        with pytest.raises(BadRequest, match="no id of a task"):
            client.task(id)


async def test_tasks_that_do_not_exist_or_do_not_start(short_dir: Path) -> None:
    async with serving(short_dir, say("hi")) as (harness, client):
        session = await client.create_session()
        for id in ("ses_none.msg_1", f"{session.id}.msg_none"):
            for ask in (client.task(id).poll, client.task(id).result):
                with pytest.raises(TaskNotFound):
                    await ask()
        with pytest.raises(TaskNotFound):
            await client.task("ses_none.msg_1").cancel()
        with pytest.raises(BadRequest, match="empty"):
            await client.agent("build").run(" ")
        with pytest.raises(ProviderAuth):
            await client.agent("build").run("go", model="fake/locked")
        # What did not start leaves no session behind.
        assert [s.id for s in harness.engine.sessions] == [session.id]


async def test_the_sync_face(short_dir: Path) -> None:
    async with serving(short_dir, call(task()), say("a"), say("b"), say("c")) as (_, _client):
        await asyncio.to_thread(_use_the_sync_face, lambda: transport(short_dir))


def _use_the_sync_face(make_transport: Callable[[], httpx.AsyncHTTPTransport]) -> None:
    with Client(transport=make_transport(), token=TOKEN) as client:
        assert {"build", "explore"} <= {agent.name for agent in client.list_agents()}
        agent = client.agent("build")
        assert (agent.name, agent.agent, repr(agent)) == ("build", "build", "AgentHandle('build')")
        running = agent.run("go", title="T")
        assert running.result(timeout=30).text == "b"
        assert repr(running) == f"Task({running.id!r})"
        assert running.id == f"{running.session_id}.{running.message_id}"
        assert running.poll().status == "completed" and not running.cancel()
        assert client.task(running.id).result().text == "b"
        (child,) = running.session.get_children()
        assert child.parent_id == running.session.id
        assert running.session.get_rules() == []
        with pytest.raises(RuleNotFound):
            running.session.withdraw_rule("rul_none")
        session = agent.create_session("S")
        assert session.send("hi", agent="plan").text == "c"
        assert session.get_messages()[1].info.agent == "plan"
        with pytest.raises(AgentNotFound):
            client.create_session(agent="nobody")
