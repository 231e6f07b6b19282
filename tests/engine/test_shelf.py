"""What goes with reverted turns besides files: artifacts, sub-agents, and the ids of messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine import _artifacts
from agent_magics.engine._engine import Engine
from agent_magics.engine._sessions import Session
from agent_magics.wire import RevertPreview, RevertResult, SessionMetrics
from tests.support.engine_harness import Harness, Step, call, engine_in, say
from tests.support.past import allowed, messages, post, preview, revert, run, sh

TASK = call(("task", {"description": "d", "prompt": "p", "subagent_type": "general"}))


def publish(key: str, text: str) -> list[Step]:
    return [sh(f"printf '{text}' > file"), call(("artifact", {"path": "file", "key": key}))]


async def artifacts(harness: Harness, session: Session) -> dict[str, str]:
    path = f"/session/{session.id}/artifact"
    keys = [a["key"] for a in (await harness.http.get(path)).json()]
    return {key: (await harness.http.get(f"{path}/{key}")).text for key in keys}


def told(result: RevertResult | RevertPreview) -> dict[str, str]:
    return {change.key: change.status for change in result.artifacts}


THREE = [
    *publish("r", "one"),
    say("first"),
    *(*publish("r", "two"), *publish("r", "two again"), *publish("new", "n"), say("second")),
    *(*publish("r", "three"), say("third")),
]


async def test_artifacts_go_and_come_back(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [*THREE, say("last")]) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 3)
        assert await artifacts(harness, session) == {"r": "three", "new": "n"}
        expected = {"r": "modified", "new": "deleted"}
        assert told(await preview(harness, session, ids[1])) == expected
        assert await artifacts(harness, session) == {"r": "three", "new": "n"}
        assert told(await revert(harness, session, ids[1])) == expected
        assert await artifacts(harness, session) == {"r": "one"}
        missing = await harness.http.get(f"/session/{session.id}/artifact/new")
        assert missing.json()["data"]["keys"] == ["r"]
        assert told(await revert(harness, session, ids[0])) == {"r": "deleted"}
        assert await artifacts(harness, session) == {}
        assert told(await revert(harness, session, ids[2])) == {"r": "added", "new": "added"}
        assert await artifacts(harness, session) == {"r": "two again", "new": "n"}
        await post(harness, session, "unrevert")
        assert await artifacts(harness, session) == {"r": "three", "new": "n"}
        await revert(harness, session, ids[1])
    async with engine_in(tmp_path, [say("last")]) as harness:
        session = harness.engine.sessions.get(session.id)
        assert await artifacts(harness, session) == {"r": "one"}
        await run(harness, session)
        await post(harness, session, "unrevert")  # the prompt was the end of it
        assert await artifacts(harness, session) == {"r": "one"}
        rows = harness.engine.store.query("SELECT key FROM artifact_version")
        assert rows == [("r",)]


async def test_a_copy_has_the_artifacts_of_its_turns(tmp_path: Path) -> None:
    async with engine_in(tmp_path, THREE) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 3)
        copy_id = (await post(harness, session, "fork", messageID=ids[2]))["id"]
        copy = harness.engine.sessions.get(copy_id)
        assert await artifacts(harness, copy) == {"r": "two again", "new": "n"}
        second = (await messages(harness, copy))[2]["info"]["id"]
        assert told(await revert(harness, copy, second)) == {"r": "modified", "new": "deleted"}
        assert await artifacts(harness, copy) == {"r": "one"}
        assert await artifacts(harness, session) == {"r": "three", "new": "n"}


async def test_replaced_contents_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not kept is gone with a revert; an even older content does not take its place."""
    monkeypatch.setattr(_artifacts, "LARGEST_TOTAL", 10)
    steps = [s for i in range(4) for s in (*publish("r", str(i) * 5), say("done"))]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 4)
        assert told(await preview(harness, session, ids[3])) == {"r": "modified"}
        assert told(await revert(harness, session, ids[1])) == {"r": "deleted"}
        assert await artifacts(harness, session) == {}
        await post(harness, session, "unrevert")
        assert await artifacts(harness, session) == {"r": "33333"}


async def sessions(harness: Harness) -> set[str]:
    return {session["id"] for session in (await harness.http.get("/session")).json()}


async def children(harness: Harness, session: Session) -> list[str]:
    listed = await harness.http.get(f"/session/{session.id}/children")
    return [child["id"] for child in listed.json()]


async def metrics(harness: Harness, session: Session) -> SessionMetrics:
    answer: Any = (await harness.http.get(f"/session/{session.id}/metrics")).json()
    return SessionMetrics.from_json(answer)


async def test_sub_agents_go_and_come_back(tmp_path: Path) -> None:
    steps = [TASK, say("child 1"), say("parent"), TASK, sh("echo 1 > f"), say("child 2"), say("p")]
    async with engine_in(tmp_path, [*steps, say("last")]) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 2)
        first, second = await children(harness, session)
        spent = await metrics(harness, session)
        assert len(spent.children) == 2 and spent.children[1].tool_usage == {"bash": 1}
        await revert(harness, session, ids[1])
        assert await children(harness, session) == [first]
        assert await sessions(harness) == {session.id, first}
        body = {"parts": [{"type": "text", "text": "go"}], "messageID": "msg_x"}
        for method, path in (
            *(("GET", ""), ("GET", "/message"), ("DELETE", ""), ("GET", "/event")),
            *(("POST", "/prompt_async"), ("POST", "/exec"), ("GET", "/artifact")),
        ):
            request = harness.http.request(method, f"/session/{second}{path}", json=body)
            assert (await request).status_code == 404, path
        create = await harness.http.post("/session", json={"parentID": second})
        assert create.status_code == 404
        now = await metrics(harness, session)
        assert (now.total_tokens, now.total_cost) == (spent.total_tokens, spent.total_cost)
        await post(harness, session, "unrevert")
        assert await children(harness, session) == [first, second]
        await revert(harness, session, ids[0])
        await revert(harness, session, ids[1])
        assert await children(harness, session) == [first]
        assert harness.recorder.of("session.deleted") == []
        await run(harness, session)
        (deleted,) = harness.recorder.of("session.deleted")
        assert deleted["properties"]["sessionID"] == second
        now = await metrics(harness, session)
        assert [child.session_id for child in now.children] == [first, ""]
        assert now.children[1].tool_usage == {"bash": 1}
        own = now.tokens.total - spent.tokens.total
        assert now.total_tokens.total == spent.total_tokens.total + own
        for table in ("message", "part", "turn", "checkpoint"):
            query = f"SELECT count(*) FROM {table} WHERE session_id = ?"
            assert harness.engine.store.query(query, second) == [(0,)], table
        await harness.http.delete(f"/session/{first}")
    async with engine_in(tmp_path) as harness:
        session = harness.engine.sessions.get(session.id)
        again = await metrics(harness, session)
        assert again.total_tokens == now.total_tokens and len(again.children) == 1


async def test_a_crash_before_sub_agents_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(self: Engine) -> None:
        pass

    async with engine_in(tmp_path, [TASK, say("child"), say("parent"), say("last")]) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        await revert(harness, session, first)
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "_delete_leftovers", crash)
            await run(harness, session)
        assert await sessions(harness) == {session.id}
        assert len(list(harness.engine.sessions)) == 2
    async with engine_in(tmp_path) as harness:
        assert [s.id for s in harness.engine.sessions] == [session.id]


async def test_hidden_sub_agents_outlive_the_engine(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [TASK, say("child"), say("parent")]) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        (child,) = await children(harness, session)
        await revert(harness, session, first)
    async with engine_in(tmp_path) as harness:
        assert await sessions(harness) == {session.id}
        await post(harness, session, "unrevert")
        assert await children(harness, session) == [child]


async def send(harness: Harness, session: Session, message_id: str) -> tuple[int, str]:
    body = {"parts": [{"type": "text", "text": "go"}], "messageID": message_id}
    answer = await harness.http.post(f"/session/{session.id}/prompt_async", json=body)
    return answer.status_code, answer.json()["name"] if answer.content else ""


REMOVED = (409, "MessageRemovedError")
TAKEN = (409, "ConflictError")


async def test_a_reverted_message_is_not_sent_again(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("one"), say("two"), say("three")]) as harness:
        session, other = await allowed(harness), await allowed(harness)
        first, second = await run(harness, session, 2)
        assert await send(harness, session, second) == (204, "")
        answer = (await messages(harness, session))[1]["info"]["id"]
        assert await send(harness, session, answer) == TAKEN  # no prompt's
        await revert(harness, session, second)
        assert await send(harness, session, second) == REMOVED
        assert await send(harness, session, first) == (204, "")
        assert await send(harness, other, second) == TAKEN
        await post(harness, session, "unrevert")
        assert await send(harness, session, second) == (204, "")
        await revert(harness, session, second)
    async with engine_in(tmp_path, [say("three")]) as harness:
        session = harness.engine.sessions.get(session.id)
        assert await send(harness, session, second) == REMOVED
        await run(harness, session)
        assert await send(harness, session, second) == REMOVED  # for good now
    async with engine_in(tmp_path) as harness:
        session = harness.engine.sessions.get(session.id)
        assert await send(harness, session, second) == REMOVED
        assert len(await messages(harness, session)) == 4
        assert harness.recorder.of("turn.started") == []
        await harness.http.delete(f"/session/{session.id}")
        assert harness.engine.store.query("SELECT count(*) FROM removed_message") == [(0,)]


async def test_one_id_for_two_sessions_at_once(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("one"), say("two")]) as harness:
        pair = [await allowed(harness), await allowed(harness)]
        answers = await asyncio.gather(*(send(harness, s, "msg_same") for s in (*pair, *pair)))
        assert sorted(answers) == [(204, ""), (204, ""), TAKEN, TAKEN]
        await harness.recorder.wait("turn.ended", messageID="msg_same")
        assert len(harness.recorder.of("turn.started")) == 1
