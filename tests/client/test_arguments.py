"""The names that people bring along, and what a wrong one is answered with."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import agent_magics
from agent_magics.client import (
    AgentError,
    AsyncClient,
    AsyncSessionHandle,
    Client,
    SessionHandle,
    StreamCallbacks,
    UnknownArgument,
)
from tests.support.fake_engine import FakeEngine, FakeTurn
from tests.support.fake_launcher import FakeLauncher, async_client, sync_client


def test_the_package_has_the_client() -> None:
    assert agent_magics.Client is Client and agent_magics.AsyncClient is AsyncClient
    assert agent_magics.SessionHandle is SessionHandle and agent_magics.AgentError is AgentError
    assert {"Client", "SessionHandle", "ask"} <= set(dir(agent_magics))
    with pytest.raises(AttributeError, match="Klient"):
        agent_magics.Klient  # noqa: B018


@pytest.mark.parametrize("name", ["Client", "SessionHandle"])
def test_the_package_imports_no_more_than_is_asked_for(name: str) -> None:
    program = f"""
import sys, agent_magics
assert not [m for m in sys.modules if m.startswith("agent_magics.")], "nothing at first"
agent_magics.{name}
assert "agent_magics.notebook" not in sys.modules and "IPython" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c, _: c.create_session(timeoutMs=3), "there are agent, limits, model"),
        (lambda c, _: c.create_session(Title="x"), "it is 'title' here"),
        (lambda c, _: c.create_session({"titel": "x"}), "it is 'title' here"),
        (lambda c, _: c.create_session({"title": "x"}, title="y"), "got 'title' twice"),
        (lambda c, _: c.create_session(permission="yes"), '"allow", "ask", "deny" or a list'),
        (lambda c, _: c.fork_session("ses_1", messageId="m"), "it is 'message_id' here"),
        (lambda c, _: c.agent("plan").create_session(permissions=[]), "it is 'permission' here"),
        (lambda c, _: c.agent("plan").run("hi", onPermission="once"), "it is 'on_permission' here"),
        (lambda _, s: s.send("hi", onText=print), "it is 'on_text' here"),
        (lambda _, s: s.send("hi", onToolStart=print), "it is 'on_tool_start' here"),
        (lambda _, s: s.send("hi", Model="m"), "it is 'model' here"),
        (lambda _, s: s.send("hi", zzz=print), "there are agent, model, on_attachment"),
        (lambda _, s: s.shell("ls", timeoutMs=5), "it is 'timeout_ms' here"),
        (lambda _, s: s.shell("ls", workdir="/"), "there are command, cwd, env"),
        (lambda _, s: s.reply_to_permission(requestId="p", reply="once"), "'request_id' here"),
        (lambda _, s: s.events(lastEventId=3), "it is 'last_event_id' here"),
        (lambda _, s: s.get_todos(all=True), "it takes no arguments by name"),
    ],
)
async def test_a_wrong_name_is_told_the_right_one(
    engine: FakeEngine, call: Callable[[Any, Any], Any], said: str
) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(UnknownArgument) as caught:
            await call(client, session)
        assert said in str(caught.value) and isinstance(caught.value, AgentError | TypeError)
    assert len(engine.sessions) == 1


def test_the_sync_face_tells_it_too(engine: FakeEngine) -> None:
    with pytest.raises(UnknownArgument, match=r"Client has no argument 'timeOut'; it is 'timeout'"):
        Client(launcher=FakeLauncher(engine), timeOut=3)  # type: ignore[call-arg]
    with sync_client(engine) as client:
        session = client.create_session()
        with pytest.raises(UnknownArgument, match=r"SessionHandle\.shell\(\).*'timeout_ms'"):
            session.shell("ls", timeoutMs=5)  # type: ignore[call-arg]
        with pytest.raises(UnknownArgument, match="on_text"):
            session.send("hi", onText=print)


@pytest.mark.parametrize("face", [Client, AsyncClient, SessionHandle, AsyncSessionHandle])
def test_methods_keep_their_signatures(face: type) -> None:
    method = face.create_session if "Client" in face.__name__ else face.shell  # type: ignore[attr-defined]
    parameters = inspect.signature(method).parameters
    assert list(parameters)[:2] == ["self", "title" if "Client" in face.__name__ else "command"]
    assert method.__doc__ and method.__qualname__.startswith(face.__name__)


async def test_a_mapping_of_options(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        first = await client.create_session({"title": "Mine"})
        second = await client.create_session({"title": "Mine"}, permission="deny")
        plan = client.agent("plan")
        third = await plan.create_session({"title": "Planned", "permission": "allow"})
        assert [(await s.get_info()).title for s in (first, second, third)] == [
            "Mine",
            "Mine",
            "Planned",
        ]
        made = [r for r in engine.requests if (r.method, r.path) == ("POST", "/session")]
        everything = {"permission": "*", "pattern": "*"}
        assert [request.json.get("permission") for request in made] == [
            None,
            [{**everything, "action": "deny"}],
            [{**everything, "action": "allow"}],
        ]
        assert plan.session(third.id).id == third.id


async def test_on_todo(engine: FakeEngine) -> None:
    async def script(turn: FakeTurn) -> None:
        turn.events.begin().todos("one", "two").step().end()

    engine.script = script
    seen: list[Any] = []
    callbacks = StreamCallbacks(on_todo=seen.append, on_todos=seen.append)
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send("todos", callbacks)
        await session.send("todos", on_todo=seen.append)
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2]
