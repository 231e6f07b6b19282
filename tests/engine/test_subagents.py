"""Sub-agents: child sessions of the `task` tool, their events, permissions, limits and ends."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai.messages import ModelMessage, UserPromptPart
from pydantic_ai.models.function import AgentInfo

from agent_magics.engine._errors import RuleNotFound
from agent_magics.engine._sessions import Session
from agent_magics.engine._subagents import MOST_CHILDREN
from agent_magics.wire import SessionMetrics
from tests.support.engine_harness import (
    PATIENCE,
    Harness,
    Step,
    call,
    engine_in,
    eventually,
    fail,
    hang,
    say,
)
from tests.support.engine_process import EngineProcess, started
from tests.support.scripted_llm import ThreadedLLM

Call = tuple[str, dict[str, Any]]


def bash(command: str) -> Call:
    return "bash", {"command": command}


def task(prompt: str, agent: str = "general", description: str = "Some work") -> Call:
    return "task", {"description": description, "prompt": prompt, "subagent_type": agent}


def prompt_of(messages: list[ModelMessage]) -> str:
    parts = [p for m in messages for p in m.parts if isinstance(p, UserPromptPart)]
    return str(parts[-1].content)


def by_prompt(scripts: dict[str, list[Step]], requests: int = 20) -> list[Step]:
    """Steps for turns that run at the same time: each takes the script of its last prompt."""

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        script = scripts[prompt_of(messages)]
        async for item in (script.pop(0) if script else say("nothing more"))(messages, info):
            yield item

    return [step] * requests


async def asked(harness: Harness, count: int = 1) -> dict[str, Any]:
    event = await harness.recorder.wait("permission.asked", count)
    properties: dict[str, Any] = event["properties"]
    return properties


def reply(harness: Harness, request: dict[str, Any], answer: Any) -> None:
    harness.engine.permissions.reply(request["id"], answer, None, session_id=None)


def child_of(harness: Harness, session: Session) -> Session:
    (child,) = harness.engine.sessions.children(session.id)
    return child


def calls_of(harness: Harness, session: Session) -> list[dict[str, Any]]:
    return [p for p in harness.recorder.parts("tool") if p["sessionID"] == session.id]


def check_all_closed(harness: Harness) -> None:
    """One end per turn, no open part, no open question; the numbers of a stream are one row."""
    started = [e["properties"]["messageID"] for e in harness.recorder.of("turn.started")]
    ended = [e["properties"]["messageID"] for e in harness.recorder.of("turn.ended")]
    assert sorted(started) == sorted(ended)
    assert harness.engine.permissions.pending() == []
    assert harness.engine.status() == {}
    states = {p["state"]["status"] for p in harness.recorder.parts("tool")}
    assert states <= {"completed", "error"}
    streams: dict[str, list[int]] = {}
    created = [e["properties"]["info"] for e in harness.recorder.of("session.created")]
    root_of = {info["id"]: info.get("parentID", info["id"]) for info in created}
    for event in harness.recorder.events:
        streams.setdefault(root_of[event["sessionID"]], []).append(event["seq"])
    for seqs in streams.values():
        assert seqs == list(range(1, len(seqs) + 1))


async def test_a_task_is_done_in_a_child_session(tmp_path: Path) -> None:
    steps = [
        call(task("Count the files.", description="Count")),
        call(bash("echo done > /workspace/made; ls /workspace"), text="Looking."),
        say("There is one file."),
        say("One."),
    ]
    allow = [{"permission": "bash", "pattern": "*", "action": "allow"}]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=allow)
        await harness.sandboxes[0].write_file("/workspace/given", b"")
        assert (await harness.turn(session))["outcome"] == "completed"
        child = child_of(harness, session)
        (part,) = calls_of(harness, session)
        state = part["state"]
        assert state["status"] == "completed" and state["output"] == "There is one file."
        assert state["title"] == "Count (@general)"
        assert state["metadata"]["sessionId"] == child.id
        assert state["metadata"]["agent"] == "general"
        assert state["metadata"]["model"] == {"providerID": "fake", "modelID": "main"}
        assert state["metadata"]["toolCalls"] == 1
        assert "There is one file." in str(harness.model.seen[3])
        # The child: its own history, the same container, files and rules.
        assert child.parent_id == session.id and child.title == "Count (@general subagent)"
        assert len(harness.sandboxes) == 1
        assert await harness.sandboxes[0].read_file("/workspace/made") == b"done\n"
        assert "given" in calls_of(harness, child)[0]["state"]["output"]
        assert len(harness.model.seen[1]) == 1 and prompt_of(harness.model.seen[1]) == (
            "Count the files."
        )
        history = await harness.engine.messages.history(child.id)
        assert [m["info"]["agent"] for m in history] == ["general", "general"]
        assert len(await harness.engine.messages.history(session.id)) == 2
        # Its work is seen live in the parent's call.
        running = [
            e["properties"]["part"]["state"]
            for e in harness.recorder.of("message.part.updated")
            if e["properties"]["part"]["id"] == part["id"]
        ]
        live = [s for s in running if s["status"] == "running" and s["metadata"]]
        assert live[0]["metadata"]["sessionId"] == child.id
        output = "".join(
            e["properties"]["delta"]
            for e in harness.recorder.of("tool.output")
            if e["properties"]["partID"] == part["id"]
        )
        assert output.startswith("bash: ")
        check_all_closed(harness)


async def test_metrics_list_the_children(tmp_path: Path) -> None:
    steps = [call(task("a")), call(("todoread", {})), say("A."), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.turn(session)
        child = child_of(harness, session)
        data = (await harness.http.get(f"/session/{session.id}/metrics")).json()
        metrics = SessionMetrics.from_json(data)
        assert metrics.tool_usage == {"task": 1} and metrics.steps == 2
        (of_child,) = metrics.children
        assert (of_child.session_id, of_child.agent) == (child.id, "general")
        assert of_child.title == child.title and of_child.tool_usage == {"todoread": 1}
        assert of_child.tokens.output > 0
        assert metrics.total_tokens == metrics.tokens + of_child.tokens
        children = (await harness.http.get(f"/session/{session.id}/children")).json()
        assert [c["id"] for c in children] == [child.id]
        everything = (await harness.http.get("/session")).json()
        roots = (await harness.http.get("/session?roots=true")).json()
        assert len(everything) == 2 and [s["id"] for s in roots] == [session.id]


def test_total_cost_is_unknown_when_a_part_of_it_is() -> None:
    child = SessionMetrics("ses_b", cost=0.25)
    assert SessionMetrics("ses_a", cost=0.5, children=(child,)).total_cost == 0.75
    unknown = SessionMetrics("ses_b", cost=None)
    assert SessionMetrics("ses_a", cost=0.5, children=(unknown,)).total_cost is None


async def test_a_child_asks_where_its_parent_does(tmp_path: Path) -> None:
    steps = [call(task("x", description="Clean up")), call(bash("rm f")), say("A."), say("B.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        request = await asked(harness)
        child = child_of(harness, session)
        assert request["sessionID"] == child.id and request["parentID"] == session.id
        assert request["agent"] == "general"
        assert request["sessionTitle"] == "Clean up (@general subagent)"
        for asker in (session, child):
            listed = await harness.http.get(f"/permission?sessionID={asker.id}")
            assert listed.json() == [request]
        assert (await harness.http.get("/permission?sessionID=ses_other")).json() == []
        reply(harness, request, "once")
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "completed"
        await harness.recorder.wait("session.idle", 2)
        check_all_closed(harness)


async def test_always_holds_for_the_family_and_answers_equal_asks(tmp_path: Path) -> None:
    scripts = {
        "go": [call(task("one"), task("two")), call(bash("touch c")), say("Done.")],
        "one": [call(bash("touch a")), say("1")],
        "two": [call(bash("touch b")), say("2")],
    }
    async with engine_in(tmp_path, by_prompt(scripts)) as harness:
        session, other = await harness.session(), await harness.session()
        message_id = await harness.prompt(session)
        await asked(harness, 2)
        first, second = harness.engine.permissions.pending()
        assert first["sessionID"] != second["sessionID"] and first["always"] == ["touch *"]
        reply(harness, first, "always")
        await harness.recorder.wait("turn.ended", messageID=message_id)
        assert len(harness.recorder.of("permission.asked")) == 2
        replies = [e["properties"]["reply"] for e in harness.recorder.of("permission.replied")]
        assert replies == ["always", "always"]
        # The rule says where it holds, is listed for all of the family, and can be withdrawn.
        for member in (session, *harness.engine.sessions.children(session.id)):
            (rule,) = (await harness.http.get(f"/session/{member.id}/rule")).json()
            assert rule["sessionID"] == session.id
            assert (rule["permission"], rule["pattern"]) == ("bash", "touch *")
        assert (await harness.http.get(f"/session/{other.id}/rule")).json() == []
        await harness.recorder.wait("session.idle", 3)
        check_all_closed(harness)
        gone = await harness.http.delete(f"/session/{session.id}/rule", params={"id": rule["id"]})
        assert gone.json() == []
        stale = await harness.http.delete(f"/session/{session.id}/rule", params={"id": rule["id"]})
        assert stale.status_code == 404 and stale.json()["name"] == "RuleNotFoundError"
        scripts["again"] = [call(bash("touch d")), say("Ok.")]
        await harness.prompt(session, "again")
        await asked(harness, 3)
        assert await harness.engine.abort(session)


async def test_rules_survive_a_restart(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("echo a")), say("A.")]) as harness:
        session = await harness.session()
        await harness.prompt(session)
        reply(harness, await asked(harness), "always")
        await harness.recorder.wait("session.idle")
        (before,) = harness.engine.permissions.standing(session)
    async with engine_in(tmp_path, [call(bash("echo b")), say("B.")]) as harness:
        session = harness.engine.sessions.get(session.id)
        assert harness.engine.permissions.standing(session) == [before]
        await harness.turn(session)
        assert harness.recorder.of("permission.asked") == []
        harness.engine.permissions.withdraw(session, before["id"])
        with pytest.raises(RuleNotFound):
            harness.engine.permissions.withdraw(session, before["id"])


async def test_what_the_parent_may_not_its_children_may_not(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def look(then: Step) -> Step:
        async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            seen.append({tool.name for tool in info.function_tools})
            async for item in then(messages, info):
                yield item

        return step

    write = ("write", {"filePath": "f", "content": "x"})
    steps = [call(task("x")), look(call(write, bash("rm -r ."))), say("No."), say("No.")]
    everything = [{"permission": "*", "pattern": "*", "action": "allow"}]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(agent="plan", rules=everything)
        await harness.turn(session)
        states = [p["state"]["status"] for p in calls_of(harness, child_of(harness, session))]
        assert states == ["error", "error"]
        assert "task" not in seen[0] and "read" in seen[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (task("x", "nobody"), "There are: general, explore."),
        (task("x", "plan"), "There are: general, explore."),
        (task(" \n"), "`prompt` is empty"),
    ],
)
async def test_bad_tasks_are_the_models_to_mend(
    tmp_path: Path, arguments: Call, complaint: str
) -> None:
    async with engine_in(tmp_path, [call(arguments), say("Sorry.")]) as harness:
        session = await harness.session()
        assert (await harness.turn(session))["outcome"] == "completed"
        (part,) = calls_of(harness, session)
        assert complaint in part["state"]["error"]
        assert harness.engine.sessions.children(session.id) == []


async def test_children_have_no_children(tmp_path: Path) -> None:
    steps = [call(task("x")), call(task("y")), say("I did it myself."), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.turn(session)
        child = child_of(harness, session)
        assert [p["state"]["status"] for p in calls_of(harness, child)] == ["error"]
        assert harness.engine.sessions.children(child.id) == []
        check_all_closed(harness)


async def test_a_child_that_fails_fails_the_call_only(tmp_path: Path) -> None:
    steps = [call(task("x")), fail(ZeroDivisionError(), "So far"), say("A pity.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        assert (await harness.turn(session))["outcome"] == "completed"
        error = calls_of(harness, session)[0]["state"]["error"]
        assert "did not finish" in error and "So far" in error
        check_all_closed(harness)


async def test_only_so_many_children_work_at_once(tmp_path: Path) -> None:
    count = MOST_CHILDREN + 2
    scripts: dict[str, list[Step]] = {f"t{i}": [hang("…")] for i in range(count)}
    scripts["go"] = [call(*(task(f"t{i}") for i in range(count)))]
    async with engine_in(tmp_path, by_prompt(scripts)) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await harness.recorder.wait("turn.started", 1 + MOST_CHILDREN)
        children = harness.engine.sessions.children(session.id)
        assert len(children) == MOST_CHILDREN
        # One that ends makes room for the next.
        await eventually(lambda: children[0].turn is not None)
        assert await harness.engine.abort(children[0])
        await harness.recorder.wait("turn.started", 2 + MOST_CHILDREN)
        assert len(harness.engine.sessions.children(session.id)) == MOST_CHILDREN + 1
        assert await harness.engine.abort(session)
        await harness.recorder.wait("turn.ended", messageID=message_id)
        await harness.recorder.wait("session.idle", 2 + MOST_CHILDREN)
        check_all_closed(harness)


Ending = Callable[[Harness, Session], Any]


async def abort(harness: Harness, session: Session) -> None:
    assert await harness.engine.abort(session)


async def delete(harness: Harness, session: Session) -> None:
    await harness.engine.delete_session(session)


async def close(harness: Harness, session: Session) -> None:
    await harness.engine.finish()


@pytest.mark.parametrize("end", [abort, delete, close])
@pytest.mark.parametrize(
    ("work", "sign"),
    [
        (hang("Well"), "message.part.delta"),
        (call(bash("rm f")), "permission.asked"),
        (call(bash("echo a; sleep 60")), "tool.output"),
    ],
)
async def test_children_end_with_their_parents_turn(
    tmp_path: Path, work: Step, sign: str, end: Ending
) -> None:
    rules = [
        {"permission": "bash", "pattern": pattern, "action": "allow"}
        for pattern in ("echo *", "sleep *")
    ]
    async with engine_in(tmp_path, [call(task("x")), work, say("more")]) as harness:
        session = await harness.session(rules=rules)
        message_id = await harness.prompt(session)
        await harness.recorder.wait("turn.started", 2)
        child = child_of(harness, session)
        await harness.recorder.until(
            lambda: any(
                event["sessionID"] == child.id and event["type"] == sign
                for event in harness.recorder.events
            )
        )
        await end(harness, session)
        await harness.recorder.wait("turn.ended", 2)
        ended = [e["properties"] for e in harness.recorder.of("turn.ended")]
        assert [e["outcome"] for e in ended] == ["aborted", "aborted"]
        assert ended[1]["messageID"] == message_id  # the child's end comes first
        await harness.recorder.wait("session.idle", 2)
        check_all_closed(harness)
        assert child.turn is None
        if end is delete:
            await harness.recorder.wait("session.deleted", 2)
            assert list(harness.engine.sessions) == []
            assert not (tmp_path / "sessions" / session.id).exists()


async def test_a_child_that_is_aborted_by_itself(tmp_path: Path) -> None:
    steps = [call(task("x")), hang("Half"), say("Then not.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta", field="text")
        assert await harness.engine.abort(child_of(harness, session))
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "completed"
        assert "aborted" in calls_of(harness, session)[0]["state"]["error"]
        assert harness.sandboxes[0].alive


async def test_deleting_a_child_keeps_the_container(tmp_path: Path) -> None:
    steps = [call(task("x")), hang("Half"), say("Then not.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta", field="text")
        await harness.engine.delete_session(child_of(harness, session))
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "completed"
        assert calls_of(harness, session)[0]["state"]["status"] == "error"
        assert harness.sandboxes[0].alive
        assert (tmp_path / "sessions" / session.id).exists()


async def test_an_unattended_turn_has_unattended_children(tmp_path: Path) -> None:
    steps = [call(task("x")), call(bash("rm f")), say("I may not."), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.turn(session, unattended="reject")
        (part,) = calls_of(harness, child_of(harness, session))
        assert "Nobody is there" in part["state"]["error"]
        check_all_closed(harness)


async def test_images_of_a_child_are_shown_by_its_parent(tmp_path: Path) -> None:
    steps = [call(task("x")), call(bash("printf x > /workspace/a.png")), say("A."), say("B.")]
    allow = [{"permission": "bash", "pattern": "*", "action": "allow"}]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=allow)
        await harness.turn(session)
        files = [p for p in harness.recorder.parts("file") if p["sessionID"] == session.id]
        assert [f["filename"] for f in files] == ["a.png"]


async def test_abort_of_another_prompt_does_nothing(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("a"), hang("b")]) as harness:
        session = await harness.session()
        first = (await harness.turn(session))["messageID"]
        second = await harness.prompt(session)
        path = f"/session/{session.id}/abort"
        assert (await harness.http.post(path, json={"messageID": first})).json() is False
        assert session.turn is not None
        async with asyncio.timeout(60):
            assert (await harness.http.post(path, json={"messageID": second})).json() is True


SCRIPT = {
    "scenarios": {
        "parent": {
            "match": "^parent$",
            "turns": [
                {"do": [{"tool": {"name": "task", "args": task("child")[1], "id": "call_1"}}]},
                {"do": [{"text": "Done."}]},
            ],
        },
        "child": {
            "match": "^child$",
            "turns": [{"do": [{"tool": {"name": "bash", "args": {"command": "x"}, "id": "c"}}]}],
        },
        "next": {"match": "^next$", "turns": [{"do": [{"text": "Here."}]}]},
    },
}


async def test_a_crash_closes_children_before_their_parent() -> None:
    with ThreadedLLM(SCRIPT) as llm, EngineProcess(model_url=llm.base_url, model="any") as engine:
        engine.config.write_text(f"{engine.config.read_text()}\n[agents.reviewer]\n")
        async with started(engine) as client:
            assert "reviewer" in [a["name"] for a in (await client.get("/agent")).json()]
            session = (await client.post("/session", json={})).json()["id"]
            prompt = {"messageID": "msg_cut", "parts": [{"type": "text", "text": "parent"}]}
            await client.post(f"/session/{session}/prompt_async", json=prompt)

            async def asks() -> bool:
                return bool((await client.get(f"/permission?sessionID={session}")).json())

            await eventually(asks)
            (child,) = (await client.get(f"/session/{session}/children")).json()
            await engine.end(signal.SIGKILL)
        async with started(engine) as client:
            assert (await client.get("/session/status")).json() == {}
            assert (await client.get("/permission")).json() == []
            events = await _stored_events(client, session, until="msg_cut")
            ended = [e for e in events if e["type"] == "turn.ended"]
            assert [e["sessionID"] for e in ended] == [child["id"], session]
            assert {e["properties"]["error"]["name"] for e in ended} == {"EngineStoppedError"}
            (replied,) = [e["properties"] for e in events if e["type"] == "permission.replied"]
            assert replied["sessionID"] == child["id"] and replied["reply"] == "reject"
            _, answer = (await client.get(f"/session/{session}/message")).json()
            (part,) = [p for p in answer["parts"] if p["type"] == "tool"]
            assert part["state"]["status"] == "error"
            assert part["state"]["metadata"]["sessionId"] == child["id"]
            prompt = {"parts": [{"type": "text", "text": "next"}]}
            answer = (await client.post(f"/session/{session}/message", json=prompt)).json()
            assert answer["parts"][1]["text"] == "Here."
            assert await engine.end(signal.SIGTERM) == 0


async def _stored_events(client: httpx.AsyncClient, session: str, until: str) -> list[Any]:
    """All events of a session up to the end of a turn."""
    events = []
    path = f"/session/{session}/event?lastEventId=0"
    async with asyncio.timeout(PATIENCE), client.stream("GET", path) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            events.append(json.loads(line[6:]))
            last = events[-1]
            if last["type"] == "turn.ended" and last["properties"]["messageID"] == until:
                break
    return events
