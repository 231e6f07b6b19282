"""Turns from prompt to end: order of events, tools, permissions, aborts, errors."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError
from pydantic_ai.messages import BinaryContent, UserPromptPart

from agent_magics.engine._errors import Conflict, PermissionNotFound, SessionBusy
from agent_magics.engine._prompts import Prompt
from tests.support.engine_harness import (
    Harness,
    call,
    engine_in,
    eventually,
    fail,
    hang,
    say,
    think,
)


def bash(command: str) -> tuple[str, dict[str, Any]]:
    return "bash", {"command": command}


async def ask(harness: Harness, count: int = 1) -> dict[str, Any]:
    event = await harness.recorder.wait("permission.asked", count)
    return event["properties"]


def check_ends(harness: Harness) -> None:
    """What holds after any turns: every start has one end, nothing is left open."""
    started = [e["properties"]["messageID"] for e in harness.recorder.of("turn.started")]
    ended = [e["properties"]["messageID"] for e in harness.recorder.of("turn.ended")]
    assert sorted(started) == sorted(ended)
    asked = {e["properties"]["id"] for e in harness.recorder.of("permission.asked")}
    replied = [e["properties"]["requestID"] for e in harness.recorder.of("permission.replied")]
    assert asked == set(replied) and len(replied) == len(asked)
    assert harness.engine.permissions.pending() == []
    assert harness.engine.status() == {}
    for part in harness.recorder.parts("tool"):
        assert part["state"]["status"] in ("completed", "error")
    for part in [*harness.recorder.parts("text"), *harness.recorder.parts("reasoning")]:
        assert "end" in part.get("time", {"end": 0})
    by_stream: dict[str, list[int]] = {}
    for event in harness.recorder.events:
        by_stream.setdefault(event["sessionID"], []).append(event["seq"])
    for seqs in by_stream.values():
        assert seqs == list(range(1, len(seqs) + 1))


async def test_order_of_a_plain_turn(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("Hel", "lo ", "there")]) as harness:
        session = await harness.session()
        ended = await harness.turn(session, "Say hello")
        assert ended["outcome"] == "completed" and "error" not in ended
        types = harness.recorder.types
        assert types[types.index("message.updated") :] == [
            "message.updated",
            "message.part.updated",
            "session.updated",
            "turn.started",
            "session.status",
            "message.updated",
            "message.part.updated",  # step-start
            "message.part.updated",  # text, open
            *["message.part.delta"] * 3,
            "message.part.updated",  # text, closed
            "message.part.updated",  # step-finish
            "message.updated",
            "session.updated",
            "message.updated",
            "session.updated",
            "turn.ended",
            "session.status",
            "session.idle",
        ]
        text = harness.recorder.parts("text")[-1]
        assert text["text"] == "Hello there"
        deltas = harness.recorder.of("message.part.delta")
        assert "".join(e["properties"]["delta"] for e in deltas) == "Hello there"
        answer = harness.recorder.of("message.updated")[-1]["properties"]["info"]
        assert answer["parentID"] == ended["messageID"]
        assert answer["time"]["completed"] and answer["tokens"]["output"] > 0
        assert session.title == "Say hello"
        check_ends(harness)


async def test_reasoning_is_a_part_of_its_own(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [think("Let me see", "It is 4.")]) as harness:
        await harness.turn(await harness.session())
        assert harness.recorder.parts("reasoning")[0]["text"] == "Let me see"
        assert harness.recorder.parts("text")[-1]["text"] == "It is 4."
        check_ends(harness)


async def test_prompt_reaches_the_model_unchanged(tmp_path: Path) -> None:
    prompt = '{x} {{y}} "q" <b>é</b> \u2028\t 😀\0' + "z" * (1 << 20)
    async with engine_in(tmp_path, [say("ok")]) as harness:
        session = await harness.session()
        await harness.turn(session, prompt)
        (request,) = harness.model.seen[0]
        assert isinstance(request.parts[0], UserPromptPart)
        assert request.parts[0].content == prompt
        messages = await harness.engine.messages.history(session.id)
        assert messages[0]["parts"][0]["text"] == prompt


async def test_parallel_tools_and_todos(tmp_path: Path) -> None:
    todos = [{"content": "look", "status": "in_progress", "priority": "high"}]
    steps = [
        call(bash("echo one"), bash("echo two >&2"), ("todowrite", {"todos": todos}), text="Go."),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])
        assert (await harness.turn(session))["outcome"] == "completed"
        tools = harness.recorder.parts("tool")
        assert [t["state"]["status"] for t in tools] == ["completed"] * 3
        assert [t["tool"] for t in tools] == ["bash", "bash", "todowrite"]
        assert tools[0]["state"]["input"] == {"command": "echo one"}
        assert "one" in tools[0]["state"]["output"]
        outputs = {e["properties"]["stream"]: e["properties"] for e in outputs_of(harness)}
        assert outputs["stdout"]["delta"] == "one\n" and outputs["stderr"]["delta"] == "two\n"
        assert harness.recorder.of("todo.updated")[0]["properties"]["todos"] == todos
        assert session.todos == todos
        metrics = session.metrics()
        assert metrics["toolUsage"] == {"bash": 2, "todowrite": 1}
        assert metrics["steps"] == 2 and metrics["messages"] == 2
        assert metrics["context"]["limit"] == 1000
        assert harness.recorder.parts("step-finish")[-1]["context"] == metrics["context"]
        check_ends(harness)


def rule(permission: str, pattern: str, action: str) -> dict[str, str]:
    return {"permission": permission, "pattern": pattern, "action": action}


def outputs_of(harness: Harness) -> list[dict[str, Any]]:
    return harness.recorder.of("tool.output")


async def test_permission_once(tmp_path: Path) -> None:
    steps = [call(bash("echo hi")), say("Done."), call(bash("echo again")), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.prompt(session)
        request = await ask(harness)
        assert request["permission"] == "bash" and request["patterns"] == ["echo hi"]
        assert request["metadata"] == {"command": "echo hi"}
        assert harness.engine.permissions.pending(session.id) == [request]
        assert harness.recorder.parts("tool")[0]["state"]["status"] == "pending"
        reply(harness, request, "once")
        await harness.recorder.wait("session.idle")
        await harness.prompt(session)
        reply(harness, await ask(harness, 2), "once")
        await harness.recorder.wait("session.idle", 2)
        assert session.standing == []
        check_ends(harness)


def reply(harness: Harness, request: dict[str, Any], how: Any, message: str | None = None) -> None:
    harness.engine.permissions.reply(request["id"], how, message, session_id=None)


async def test_always_answers_equal_requests_and_stays(tmp_path: Path) -> None:
    steps = [
        call(bash("echo 1"), bash("echo 2"), bash("true")),
        say("Done."),
        call(bash("echo 3")),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.prompt(session)
        await ask(harness, 3)
        first, second, other = (e["properties"] for e in harness.recorder.of("permission.asked"))
        reply(harness, first, "always")
        await harness.recorder.wait("permission.replied", requestID=second["id"], reply="always")
        assert [r["id"] for r in harness.engine.permissions.pending()] == [other["id"]]
        reply(harness, other, "reject")
        await harness.recorder.wait("session.idle")
        assert (await harness.turn(session))["outcome"] == "completed"
        assert len(harness.recorder.of("permission.asked")) == 3
        assert session.standing == [rule("bash", "echo *", "allow")]
        assert harness.engine.permissions.forget_rules(session, "write") == 0
        assert harness.engine.permissions.forget_rules(session) == 1 and session.standing == []
        check_ends(harness)


async def test_reject_is_told_to_the_model_and_the_turn_goes_on(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("rm x")), say("As you wish.")]) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        reply(harness, await ask(harness), "reject", "Use trash instead.")
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "completed"
        state = harness.recorder.parts("tool")[0]["state"]
        assert state["status"] == "error" and "Use trash instead." in state["error"]
        assert "Use trash instead." in str(harness.model.seen[1])
        with pytest.raises(PermissionNotFound):
            reply(harness, harness.recorder.of("permission.asked")[0]["properties"], "once")
        await harness.recorder.wait("session.idle")
        check_ends(harness)


async def test_deny_needs_no_question(tmp_path: Path) -> None:
    steps = [call(("write", {"filePath": "/etc/passwd", "content": "x"})), say("No.")]
    async with engine_in(tmp_path, steps) as harness:
        assert (await harness.turn(await harness.session()))["outcome"] == "completed"
        assert "deny" in harness.recorder.parts("tool")[0]["state"]["error"]
        assert harness.recorder.of("permission.asked") == []
        check_ends(harness)


# Aborts


async def aborted(harness: Harness, message_id: str) -> None:
    ended = await harness.recorder.wait("turn.ended", messageID=message_id)
    assert ended["properties"]["outcome"] == "aborted"
    assert ended["properties"]["error"]["name"] == "MessageAbortedError"
    await harness.recorder.wait("session.idle")
    check_ends(harness)


async def test_abort_in_mid_text_keeps_what_was_said(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang("Once upon"), say("Yes?")]) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta")
        assert await harness.engine.abort(session)
        assert session.turn is None
        await aborted(harness, message_id)
        assert harness.recorder.parts("text")[-1]["text"] == "Once upon"
        assert (await harness.turn(session, "still there?"))["outcome"] == "completed"
        assert "Once upon" in str(harness.model.seen[1])


async def test_abort_in_mid_tool_leaves_no_process(tmp_path: Path) -> None:
    command = "echo $$ > /workspace/pid; echo started; sleep 60"
    async with engine_in(tmp_path, [call(bash(command)), say("Yes?")]) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])
        message_id = await harness.prompt(session)
        await harness.recorder.wait("tool.output")
        pid = (tmp_path / "sessions" / session.id / "workspace" / "pid").read_text().strip()
        assert await harness.engine.abort(session)
        await aborted(harness, message_id)
        assert harness.recorder.parts("tool")[0]["state"]["error"] == "Tool execution aborted"
        assert not Path(f"/proc/{pid}").exists()
        assert (await harness.turn(session))["outcome"] == "completed"


async def test_abort_in_mid_ask_withdraws_the_question(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("a"), bash("b")), say("Yes?")]) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await ask(harness, 2)
        assert await harness.engine.abort(session)
        await aborted(harness, message_id)
        assert all(
            e["properties"]["reply"] == "reject" for e in harness.recorder.of("permission.replied")
        )
        assert (await harness.turn(session))["outcome"] == "completed"


async def test_abort_at_once_and_when_idle(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang()]) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        assert await harness.engine.abort(session)
        await aborted(harness, message_id)
        count = len(harness.recorder.events)
        assert not await harness.engine.abort(session)
        await harness.engine.store.flushed()
        assert len(harness.recorder.events) == count


async def test_abort_while_waiting_for_a_retry(tmp_path: Path) -> None:
    error = ModelHTTPError(429, "main", headers={"retry-after": "30"})
    async with engine_in(tmp_path, [fail(error)]) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await harness.recorder.wait("session.status", 2)
        assert harness.engine.status()[session.id]["type"] == "retry"
        assert await harness.engine.abort(session)
        await aborted(harness, message_id)


# Errors


async def test_retries_are_visible_and_honour_retry_after(tmp_path: Path) -> None:
    errors = [
        ModelHTTPError(429, "main", headers={"retry-after": "0"}),
        ModelHTTPError(500, "main"),
        ModelConnectionError("main", "connection refused"),
    ]
    async with engine_in(tmp_path, [*map(fail, errors), say("At last.")]) as harness:
        ended = await harness.turn(await harness.session())
        assert ended["outcome"] == "completed"
        statuses = [e["properties"]["status"] for e in harness.recorder.of("session.status")]
        retries = [s for s in statuses if s["type"] == "retry"]
        assert [s["attempt"] for s in retries] == [1, 2, 3]
        assert all(s["message"] and s["next"] for s in retries)
        assert [s["type"] for s in statuses][-2:] == ["busy", "idle"]
        assert [p["text"] for p in harness.recorder.parts("text")][-1] == "At last."
        check_ends(harness)


@pytest.mark.parametrize(
    ("error", "name", "requests"),
    [
        (ModelHTTPError(401, "main", {"error": {"message": "bad key"}}), "ProviderAuthError", 1),
        (ModelHTTPError(400, "main", {"error": {"message": "no"}}), "APIError", 1),
        (ModelHTTPError(503, "main"), "APIError", 6),
        (ModelConnectionError("main", "refused"), "APIError", 3),
        (ModelHTTPError(400, "main", "prompt is too long"), "ContextOverflowError", 1),
        (ModelHTTPError(429, "main", headers={"retry-after": "9999"}), "APIError", 1),
        (ZeroDivisionError("secret prompt"), "UnknownError", 1),
    ],
)
async def test_errors_close_the_turn(
    tmp_path: Path, error: Exception, name: str, requests: int
) -> None:
    async with engine_in(tmp_path, [fail(error)] * requests) as harness:
        session = await harness.session()
        ended = await harness.turn(session)
        assert ended["outcome"] == "error" and ended["error"]["name"] == name
        assert ended["error"]["data"]["message"]
        assert "secret prompt" not in json.dumps(ended)
        assert len(harness.model.seen) == requests
        assert harness.recorder.of("session.error")[0]["properties"]["error"] == ended["error"]
        assert (await harness.turn(session))["outcome"] == "completed"
        check_ends(harness)


async def test_stream_cut_keeps_the_text_and_the_session(tmp_path: Path) -> None:
    error = ModelConnectionError("main", "cut", in_stream=True)
    async with engine_in(tmp_path, [fail(error, "Half of")]) as harness:
        session = await harness.session()
        ended = await harness.turn(session)
        assert ended["outcome"] == "error"
        assert harness.recorder.parts("text")[-1]["text"] == "Half of"
        assert (await harness.turn(session))["outcome"] == "completed"
        check_ends(harness)


async def test_unknown_tool_and_bad_arguments_are_the_models_to_mend(tmp_path: Path) -> None:
    steps = [call(("nope", {}), ("bash", '{"command": "ls'), ("read", {})), say("Sorry.")]
    async with engine_in(tmp_path, steps) as harness:
        assert (await harness.turn(await harness.session()))["outcome"] == "completed"
        states = [p["state"] for p in harness.recorder.parts("tool")]
        assert [s["status"] for s in states] == ["error"] * 3
        assert "nope" in states[0]["error"]
        assert states[1]["raw"] == '{"command": "ls'
        check_ends(harness)


async def test_a_key_in_a_providers_message_is_removed(tmp_path: Path) -> None:
    key = "sk-very-secret-0123456789"
    error = ModelHTTPError(401, "main", {"error": {"message": f"Incorrect key: {key}"}})
    async with engine_in(tmp_path, [fail(error)]) as harness:
        session = await harness.session()
        ended = await harness.turn(session, environ={"FAKE_API_KEY": key})
        assert "[redacted]" in ended["error"]["data"]["message"]
        assert harness.registry.environs == [{"FAKE_API_KEY": key}]
    assert key.encode() not in b"".join(p.read_bytes() for p in tmp_path.glob("engine.db*"))


async def test_a_tool_that_breaks_ends_only_its_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_in(tmp_path, [call(bash("echo x")), say("Hm.")]) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("private text")

        harness.sandboxes[0].run = broken  # type: ignore[assignment]
        assert (await harness.turn(session))["outcome"] == "completed"
        error = harness.recorder.parts("tool")[0]["state"]["error"]
        assert "ZeroDivisionError" in error and "private text" not in error
        assert "ZeroDivisionError" in caplog.text and "private text" not in caplog.text
        check_ends(harness)


async def test_a_container_that_went_away_starts_again(tmp_path: Path) -> None:
    steps = [call(bash("echo 1")), call(bash("echo 2")), say("Fine.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])
        harness.sandboxes[0].gone_once = True
        assert (await harness.turn(session))["outcome"] == "completed"
        states = [p["state"]["status"] for p in harness.recorder.parts("tool")]
        assert states == ["error", "completed"]
        assert harness.sandboxes[0].starts >= 2
        check_ends(harness)


async def test_a_container_that_cannot_start_ends_the_turn(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("echo 1"))]) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])
        harness.sandboxes[0].alive = False
        harness.sandboxes[0].unavailable = "No namespaces here."
        ended = await harness.turn(session)
        assert ended["error"]["name"] == "SandboxUnavailableError"
        assert ended["error"]["data"]["nextStep"] == "Install it."
        check_ends(harness)


async def test_a_missing_file_ends_the_turn(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        parts = [{"type": "file", "mime": "text/csv", "url": "file:///workspace/no.csv"}]
        await harness.engine.prompt(await harness.session(), Prompt(parts))
        ended = (await harness.recorder.wait("turn.ended"))["properties"]
        assert ended["outcome"] == "error" and ended["error"]["name"] == "NotFoundError"
        assert "no.csv" in ended["error"]["data"]["message"]


# Prompts


async def test_a_repeated_prompt_is_accepted_once(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("one"), say("two")]) as harness:
        session, other = await harness.session(), await harness.session()
        for _ in range(2):
            assert await harness.prompt(session, message_id="msg_mine") == "msg_mine"
        await harness.recorder.wait("session.idle")
        assert await harness.prompt(session, message_id="msg_mine") == "msg_mine"
        assert len(harness.recorder.of("turn.started")) == 1
        with pytest.raises(Conflict):
            await harness.prompt(other, message_id="msg_mine")


async def test_busy(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang()]) as harness:
        session = await harness.session()
        await harness.prompt(session)
        with pytest.raises(SessionBusy):
            await harness.prompt(session, "second")
        assert await harness.engine.abort(session)


async def test_attachments(tmp_path: Path) -> None:
    refused = ModelHTTPError(400, "main", {"error": {"message": "can't see images"}})
    async with engine_in(tmp_path, [fail(refused), say("ok")]) as harness:
        session = await harness.session()
        await harness.sandboxes[0].write_file("/workspace/a b.csv", b"x,y\n1,2\n")
        parts = [
            {"type": "text", "text": "look"},
            {"type": "file", "mime": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="},
            {"type": "file", "mime": "text/csv", "url": "file:///workspace/a%20b.csv"},
        ]
        await harness.engine.prompt(session, Prompt(parts))
        await harness.recorder.wait("session.idle")
        content = harness.model.seen[0][0].parts[0].content
        assert content[0] == "look"
        assert isinstance(content[1], BinaryContent) and content[1].media_type == "image/png"
        assert "x,y\n1,2" in content[2]
        # What the provider refused must not be sent with every later turn.
        await harness.turn(session)
        assert not any(isinstance(c, BinaryContent) for c in _contents(harness.model.seen[1]))


def _contents(messages: Any) -> list[Any]:
    return [
        item
        for message in messages
        for part in message.parts
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        for item in part.content
    ]


async def test_images_made_by_tools_are_shown(tmp_path: Path) -> None:
    steps = [
        call(bash("printf x > '/workspace/a chart.png'; printf x > /workspace/data.csv")),
        call(bash("true")),
        call(("write", {"filePath": "/workspace/b.svg", "content": "<svg/>"})),
        say("There."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])
        await harness.sandboxes[0].write_file("old.png", b"x")
        assert (await harness.turn(session))["outcome"] == "completed"
        files = harness.recorder.parts("file")
        assert [(f["mime"], f["filename"], f["url"]) for f in files] == [
            ("image/png", "a chart.png", "file:///workspace/a%20chart.png"),
            ("image/svg+xml", "b.svg", "file:///workspace/b.svg"),
        ]
        edited = harness.recorder.of("file.edited")
        assert edited[0]["properties"]["file"] == "/workspace/b.svg"
        check_ends(harness)


async def test_live_output_is_bounded(tmp_path: Path) -> None:
    steps = [call(bash("yes abcdefgh | head -c 3000000")), say("ok")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=[rule("bash", "*", "allow")])
        await harness.turn(session)
        total = sum(len(e["properties"]["delta"]) for e in outputs_of(harness))
        assert 400_000 < total < 600_000
        assert len(outputs_of(harness)) < 100


async def test_deleting_a_session_in_mid_turn(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("x"))]) as harness:
        session = await harness.session()
        child = await harness.session(parent_id=session.id)
        await harness.prompt(session)
        await ask(harness)
        await harness.engine.delete_session(session)
        assert harness.recorder.of("turn.ended")[0]["properties"]["outcome"] == "aborted"
        await harness.recorder.wait("session.deleted", 2)
        assert list(harness.engine.sessions) == []
        assert not (tmp_path / "sessions" / session.id).exists()
        assert not (tmp_path / "sessions" / child.id).exists()


async def test_closing_the_engine_aborts_turns(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(bash("x"))]) as harness:
        session = await harness.session()
        message_id = await harness.prompt(session)
        await ask(harness)
        await asyncio.wait_for(harness.engine.finish(), 30)
        await aborted(harness, message_id)
        with pytest.raises(SessionBusy):
            await harness.prompt(session)


async def test_turns_of_sessions_run_side_by_side(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang("a"), say("b")]) as harness:
        first, second = await harness.session(), await harness.session()
        await harness.prompt(first)
        await eventually(lambda: bool(harness.model.seen))
        assert (await harness.turn(second))["outcome"] == "completed"
        assert list(harness.engine.status()) == [first.id]
        await harness.engine.abort(first)
        await harness.recorder.wait("session.idle", 2)
        check_ends(harness)
