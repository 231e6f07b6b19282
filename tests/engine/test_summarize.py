"""Summaries on demand: over HTTP, their failures and their end, and what the model sees then."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError
from pydantic_ai.messages import ModelResponse

from agent_magics.engine._context import starts_with_summary
from tests.support.engine_harness import (
    Harness,
    Step,
    call,
    engine_in,
    eventually,
    fail,
    hang,
    say,
    wait_for,
)
from tests.support.legal_history import check_legal, prompts

TODOS = {
    "todos": [
        {"content": "load it", "status": "completed", "priority": "high"},
        {"content": "draw it", "status": "in_progress", "priority": "medium"},
    ]
}


async def summarize(harness: Harness, session_id: str, **body: Any) -> Any:
    """The answer to the request, which must be a good one."""
    response = await harness.http.post(f"/session/{session_id}/summarize", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def messages_of(harness: Harness, session_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await harness.http.get(f"/session/{session_id}/message")).json()
    return found


async def test_a_summary_takes_the_place_of_the_conversation(tmp_path: Path) -> None:
    steps = [
        call(("todowrite", TODOS), text="I plan."),
        say("Planned, 42 rows."),
        say("## Goal\n", "A chart."),
        say("Going on."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.turn(session, "Draw <sales>, 'in blue'")
        before = await messages_of(harness, session.id)
        assert await summarize(harness, session.id) is True
        await harness.recorder.wait("session.idle", 2)

        # What the model was given to write it: text only, no tools, everything in it.
        assert harness.model.infos[2].function_tools == []
        assert "summarize a conversation" in (harness.model.infos[2].instructions or "")
        (transcript,) = prompts(harness.model.seen[2])
        for said in ("Draw <sales>, 'in blue'", "I plan.", "Planned, 42 rows.", "draw it"):
            assert said in transcript

        # What readers see: all that was there, then the question and its answer.
        after = await messages_of(harness, session.id)
        assert after[: len(before)] == before
        question, answer = after[len(before) :]
        assert question["info"]["role"] == "user"
        assert [(p["type"], p["auto"]) for p in question["parts"]] == [("compaction", False)]
        assert answer["info"]["summary"] is True
        assert answer["info"]["parentID"] == question["info"]["id"]
        assert answer["info"]["mode"] == answer["info"]["agent"] == "compaction"
        assert answer["info"]["time"]["completed"] and "error" not in answer["info"]
        kinds = ["step-start", "text", "step-finish"]
        assert [p["type"] for p in answer["parts"]] == kinds
        assert answer["parts"][1]["text"] == "## Goal\nA chart."

        # What the model sees from now on: its instructions, the summary with the todos, the rest.
        await harness.turn(session, "And now?")
        seen = harness.model.seen[3]
        check_legal(seen)
        assert harness.model.infos[3].instructions == harness.model.infos[0].instructions
        assert len(seen) == 3 and prompts(seen)[1:] == ["And now?"]
        assert "- [x] load it\n- [>] draw it" in prompts(seen)[0]
        assert isinstance(seen[1], ModelResponse) and seen[1].text == "## Goal\nA chart."
        assert session.todos == TODOS["todos"]


async def test_events_status_and_figures(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("Long story."), say("Short.")]) as harness:
        session = await harness.session()
        await harness.turn(session)
        begin = len(harness.recorder.events)
        metrics = (await harness.http.get(f"/session/{session.id}/metrics")).json()
        assert await harness.engine.summarize(session)
        await harness.recorder.wait("session.idle", 2)
        events = harness.recorder.events[begin:]
        types = [e["type"] for e in events]
        assert types.count("turn.started") == types.count("turn.ended") == 1
        assert types[-4:] == ["session.compacted", "turn.ended", "session.status", "session.idle"]
        statuses = [
            e["properties"]["status"]["type"] for e in events if e["type"] == "session.status"
        ]
        assert statuses == ["compacting", "idle"]
        later = (await harness.http.get(f"/session/{session.id}/metrics")).json()
        assert later["messages"] == metrics["messages"] + 2
        assert later["steps"] == metrics["steps"] + 1
        assert later["tokens"]["output"] > metrics["tokens"]["output"]
        assert later["context"]["limit"] == 1000
        assert 0 < later["context"]["used"] < metrics["context"]["used"]


async def test_a_session_is_busy_while_it_is_summarized(tmp_path: Path) -> None:
    ready = asyncio.Event()
    async with engine_in(tmp_path, [say("One."), wait_for(ready, "Sum", "mary.")]) as harness:
        session = await harness.session()
        await harness.turn(session)
        task = asyncio.create_task(summarize(harness, session.id))
        await harness.recorder.wait("message.part.delta", 2)
        statuses = (await harness.http.get("/session/status")).json()
        assert statuses == {session.id: {"type": "compacting"}}
        body = {"parts": [{"type": "text", "text": "hi"}]}
        for path, json in (("prompt_async", body), ("summarize", {})):
            response = await harness.http.post(f"/session/{session.id}/{path}", json=json)
            assert (response.status_code, response.json()["name"]) == (409, "SessionBusyError")
        ready.set()
        assert await task is True
        assert (await harness.http.get("/session/status")).json() == {}


async def test_mistakes(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("One.")]) as harness:
        session = await harness.session()

        async def refused(body: Any, session_id: str = session.id) -> tuple[int, str]:
            response = await harness.http.post(f"/session/{session_id}/summarize", json=body)
            return response.status_code, response.json()["name"]

        assert await refused({}) == (400, "BadRequest")  # nothing to summarize
        assert await refused({}, "ses_none") == (404, "NotFoundError")
        await harness.turn(session)
        assert await refused({"providerID": "fake"}) == (400, "BadRequest")
        assert await refused({"auto": 1}) == (400, "BadRequest")
        assert await refused([]) == (400, "BadRequest")
        unknown = {"providerID": "fake", "modelID": "none"}
        assert await refused(unknown) == (404, "ModelNotFoundError")
        locked = {"providerID": "fake", "modelID": "locked"}
        assert await refused(locked) == (401, "ProviderAuthError")
        assert len(await messages_of(harness, session.id)) == 2
        assert harness.recorder.of("session.compacted") == []
        response = await harness.http.post(f"/session/{session.id}/summarize")
        assert response.json() is True


@pytest.mark.parametrize(
    ("step", "status", "name"),
    [
        (fail(ModelHTTPError(400, "main", "no")), 502, "APIError"),
        (fail(ModelHTTPError(401, "main", "bad key")), 401, "ProviderAuthError"),
        (fail(ModelHTTPError(400, "main", "prompt is too long")), 413, "ContextOverflowError"),
        (fail(ModelConnectionError("main", "cut", in_stream=True), "Half"), 502, "APIError"),
        (fail(ZeroDivisionError("a secret")), 502, "UnknownError"),
        (call(("bash", {"command": "ls"})), 502, "APIError"),
        (say(" \n"), 502, "APIError"),
    ],
)
async def test_a_model_that_fails_changes_nothing(
    tmp_path: Path, step: Step, status: int, name: str
) -> None:
    async with engine_in(tmp_path, [say("One."), step, say("Two.")]) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        response = await harness.http.post(f"/session/{session.id}/summarize", json={})
        assert (response.status_code, response.json()["name"]) == (status, name), response.text
        assert "a secret" not in response.text
        await harness.recorder.wait("session.idle", 2)
        ended = harness.recorder.of("turn.ended")[-1]["properties"]
        assert (ended["outcome"], ended["error"]["name"]) == ("error", name)
        answer = (await messages_of(harness, session.id))[-1]
        assert answer["info"]["error"]["name"] == name and answer["info"]["time"]["completed"]
        for part in answer["parts"]:
            assert part["type"] != "tool" or part["state"]["status"] == "error"
            assert part["type"] != "text" or "end" in part["time"]
        assert (await harness.turn(session, "second"))["outcome"] == "completed"
        assert prompts(harness.model.seen[-1]) == ["first", "second"]
        assert harness.recorder.of("session.compacted") == []


async def test_a_failed_request_is_tried_again_visibly(tmp_path: Path) -> None:
    errors = [ModelHTTPError(429, "main", headers={"retry-after": "0"}), ModelHTTPError(503, "m")]
    async with engine_in(tmp_path, [say("One."), *map(fail, errors), say("Sum.")]) as harness:
        session = await harness.session()
        await harness.turn(session)
        assert await harness.engine.summarize(session)
        await harness.recorder.wait("session.idle", 2)
        statuses = [e["properties"]["status"] for e in harness.recorder.of("session.status")][2:]
        names = ["compacting", "retry", "compacting", "retry", "compacting", "idle"]
        assert [s["type"] for s in statuses] == names
        assert [s["attempt"] for s in statuses if s["type"] == "retry"] == [1, 2]


async def test_what_is_too_long_for_the_provider_is_shortened(tmp_path: Path) -> None:
    overflow = fail(ModelHTTPError(400, "main", "maximum context length exceeded"))
    async with engine_in(tmp_path, [say("y" * 3000), overflow, overflow, say("Sum.")]) as harness:
        session = await harness.session()
        await harness.turn(session)
        assert await harness.engine.summarize(session)
        sizes = [len(prompts(seen)[0]) for seen in harness.model.seen[1:]]
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


async def aborted(harness: Harness, task: asyncio.Task[Any]) -> None:
    assert await task is False
    await harness.recorder.wait("session.idle", 2)
    ended = harness.recorder.of("turn.ended")[-1]["properties"]
    assert (ended["outcome"], ended["error"]["name"]) == ("aborted", "MessageAbortedError")
    assert harness.engine.status() == {}


async def test_abort_leaves_the_conversation_as_it_was(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("One."), hang("Half a sum"), say("Two.")]) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        task = asyncio.create_task(summarize(harness, session.id))
        await harness.recorder.wait("message.part.delta", 2)
        assert (await harness.http.post(f"/session/{session.id}/abort")).json() is True
        await aborted(harness, task)
        answer = (await messages_of(harness, session.id))[-1]
        assert answer["info"]["error"]["name"] == "MessageAbortedError"
        assert answer["parts"][1]["text"] == "Half a sum"
        await harness.turn(session, "second")
        assert prompts(harness.model.seen[-1]) == ["first", "second"]
        check_legal(harness.model.seen[-1])


async def test_abort_at_once(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("One."), hang()]) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        task = asyncio.create_task(harness.engine.summarize(session))
        await eventually(lambda: session.turn is not None)
        assert await harness.engine.abort(session)
        await aborted(harness, task)


async def test_a_model_that_resists_an_abort_cannot_replace_anything(tmp_path: Path) -> None:
    deaf = asyncio.Event()

    async def resist(messages: Any, info: Any) -> Any:
        yield "Sum"
        while not deaf.is_set():
            try:
                await deaf.wait()
            except asyncio.CancelledError:
                deaf.set()
        yield "mary"

    async with engine_in(tmp_path, [say("One."), resist, say("Two.")]) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        task = asyncio.create_task(harness.engine.summarize(session))
        await harness.recorder.wait("message.part.delta", 2)
        await harness.engine.abort(session)
        await aborted(harness, task)
        await harness.turn(session, "second")
        assert prompts(harness.model.seen[-1]) == ["first", "second"]


async def test_deleting_and_closing_end_a_summary(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("One."), hang(), say("Two."), hang()]) as harness:
        first, second = await harness.session(), await harness.session()
        for session in (first, second):
            await harness.turn(session)
            task = asyncio.create_task(harness.engine.summarize(session))
            await eventually(lambda: len(harness.model.seen) % 2 == 0)
            if session is first:
                await harness.engine.delete_session(session)
            else:
                await harness.engine.finish()
            assert await task is False


async def test_two_in_a_row_and_a_turn_that_is_aborted_then(tmp_path: Path) -> None:
    steps = [say("One."), say("Sum 1."), say("Sum 2."), hang("Once upon"), say("Two.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        assert await harness.engine.summarize(session)
        assert await harness.engine.summarize(session)
        assert '"summary":"Sum 1."' in prompts(harness.model.seen[2])[0]
        await harness.prompt(session, "second")
        await eventually(lambda: "Once upon" in str(harness.recorder.events))
        await harness.engine.abort(session)
        await harness.turn(session, "third")
        seen = harness.model.seen[-1]
        check_legal(seen)
        assert prompts(seen)[1:] == ["second", "third"]
        assert "Sum 2." in str(seen) and "Sum 1." not in str(seen) and "Once upon" in str(seen)


async def test_a_summary_outlives_the_engine(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("One."), say("Sum.")]) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        assert await harness.engine.summarize(session)
    async with engine_in(tmp_path, [say("Two.")]) as harness:
        await harness.turn(harness.engine.sessions.get(session.id), "second")
        assert prompts(harness.model.seen[0])[1:] == ["second"]


OPERATIONS = ("text", "tools", "abort text", "abort tool", "abort ask", "fail", "sum", "bad sum")


@pytest.mark.parametrize("seed", range(6))
async def test_history_is_legal_after_a_summary_at_any_point(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with engine_in(tmp_path) as harness:
        session = await harness.session(
            rules=[
                {"permission": "bash", "pattern": "*", "action": "allow"},
                {"permission": "edit", "pattern": "ask.txt", "action": "ask"},
            ]
        )
        await harness.turn(session, "prompt 0")
        for number in range(1, 13):
            await perform(harness, session, chance.choice(OPERATIONS), number)
            history = await harness.engine._services.history.load(session.id)
            check_legal(history)
            for seen in harness.model.seen:
                check_legal(seen)
        harness.model.steps = [say("Summary.")]
        assert await harness.engine.summarize(session)
        history = await harness.engine._services.history.load(session.id)
        assert starts_with_summary(history) and len(history) == 2


async def perform(harness: Harness, session: Any, operation: str, number: int) -> None:
    model, events = harness.model, harness.recorder
    if operation in ("sum", "bad sum"):
        model.steps = [say(f"Sum {number}") if operation == "sum" else say("")]
        response = await harness.http.post(f"/session/{session.id}/summarize", json={})
        assert response.status_code == (200 if operation == "sum" else 502)
        return
    two = call(("todoread", {}), ("bash", {"command": "echo begun; sleep 60"}), text="Let me see.")
    asking = call(("todoread", {}), ("write", {"filePath": "ask.txt", "content": ""}))
    model.steps = {
        "text": [say("Yes.")],
        "tools": [call(("todoread", {}), ("nope", {})), say("Done.")],
        "abort text": [hang("Once")],
        "abort tool": [two],
        "abort ask": [asking],
        "fail": [call(("todoread", {})), fail(ModelHTTPError(400, "main", "no"))],
    }[operation]
    awaited = {
        "abort text": "message.part.delta",
        "abort tool": "tool.output",
        "abort ask": "permission.asked",
    }.get(operation)
    if awaited is None:
        await harness.turn(session, f"prompt {number}")
        return
    begin = len(events.of(awaited))
    message_id = await harness.prompt(session, f"prompt {number}")
    await events.wait(awaited, begin + 1)
    await harness.engine.abort(session)
    await events.wait("turn.ended", messageID=message_id)
