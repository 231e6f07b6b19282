"""A server without `engine` in its health answer: opencode's API, no numbers, no `turn.ended`."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from agent_magics.client import AsyncClient, ProtocolError, StreamPolicy
from agent_magics.wire import AgentEvent, StatusChanged, TextDelta, TurnEnded
from tests.support.fake_engine import TOKEN, FakeEngine, FakeTurn
from tests.support.fake_launcher import QUICK
from tests.support.turn_events import a_rich_turn


@pytest.fixture
def plain(engine: FakeEngine) -> FakeEngine:
    engine.health = {"healthy": True, "version": "1.18.33"}
    return engine


def client_of(engine: FakeEngine, policy: StreamPolicy = QUICK) -> AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
    return AsyncClient("http://agent", token=TOKEN, transport=transport, policy=policy)


async def rich(turn: FakeTurn) -> None:
    turn.events = a_rich_turn(turn.session.id, turn.events.message_id)
    turn.events.events = [e for e in turn.events.events if not e["type"].startswith("turn.")]


async def test_a_turn(plain: FakeEngine) -> None:
    plain.script = rich
    async with client_of(plain) as client:
        assert (await client.health()).protocol == 0
        session = await client.create_session("title", sandbox="local", model="a/b")
        assert plain.seen("POST", "/session")[0].json == {"title": "title"}
        result = await session.send("hi")
        assert result.error is None
        assert result.text.endswith("Done.")
        assert plain.seen("GET", "/event")
        # Its ids must be older than ours by text, or it takes the prompt for answered.
        assert plain.seen("POST", "prompt_async")[0].json["messageID"] > "msg_2038"
        assert (await session.send("again")).text == result.text


@pytest.mark.parametrize("cut", [300, 1000, 2000, 2500, 3000, 4000])
async def test_what_a_break_swallows_is_asked_for(plain: FakeEngine, cut: int) -> None:
    """Nothing is sent again, so the history has to tell."""
    plain.script = rich
    plain.cuts = [cut]
    events: list[AgentEvent] = []
    policy = StreamPolicy(give_up=1, first_delay=0, longest_delay=0.05, quiet=1)
    async with client_of(plain, policy) as client:
        session = await client.create_session()
        async for event in session.stream("hi"):
            events.append(event)
    assert "reconnecting" in [e.status for e in events if isinstance(e, StatusChanged)]
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.outcome == "completed"
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == ended.result.text
    assert ended.result.text.endswith("Done.")


async def test_what_it_lacks_is_said(plain: FakeEngine, tmp_path: Path) -> None:
    async with client_of(plain) as client:
        session = await client.create_session()
        with pytest.raises(ProtocolError, match="no agent-magics engine; it has no shell"):
            await session.shell("ls")
        for call in [
            session.get_file("/x"),
            session.put_file("/x", b""),
            session.list_files(),
            session.get_metrics(),
        ]:
            with pytest.raises(ProtocolError, match="no agent-magics engine"):
                await call
