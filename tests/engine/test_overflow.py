"""Requests that the provider finds too large: room is made once, and the step tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError
from pydantic_ai.messages import ModelMessage

from agent_magics.engine._config import CompactionConfig
from agent_magics.engine._overflow import is_overflow, window_named
from agent_magics.engine.models import Window
from tests.support.engine_harness import Harness, call, engine_in, fail, hang, say
from tests.support.legal_history import check_legal, prompts

AUTO = CompactionConfig()
ALLOW = [{"permission": "bash", "pattern": "*", "action": "allow"}]


def told(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


OPENAI = told(
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 "
    "tokens. Please reduce the length of the messages.",
    code="context_length_exceeded",
)
REFUSALS: list[tuple[int, Any, int | None]] = [
    (400, OPENAI, 8192),
    (400, told("Your input exceeds the limit.", code="context_length_exceeded"), None),
    (400, told("prompt is too long: 201234 tokens > 200000 maximum"), 200_000),
    (400, told("input length and `max_tokens` exceed context limit: 9 + 9 > 2,000"), 2000),
    (413, told("prompt is too long"), None),
    (
        400,
        told(
            "request (9412 tokens) exceeds the available context size (8192 tokens), try "
            "increasing it",
            type="exceed_context_size_error",
            n_ctx=8192,
        ),
        8192,
    ),
    (400, told("the request exceeds the available context size (4096 tokens)"), 4096),
    (400, {"message": "This model's maximum context length is 4096 tokens, and so on"}, 4096),
    (
        400,
        told("too large for model with 32768 maximum context length"),
        32768,
    ),
    (
        400,
        told("maximum prompt length is 131072 but the request contains 140000"),
        131072,
    ),
    (400, told("maximum context length is 12 tokens"), None),
]


def refusal(status: int = 400, body: Any = OPENAI) -> ModelHTTPError:
    return ModelHTTPError(status, "main", body)


@pytest.mark.parametrize(("status", "body", "window"), REFUSALS)
def test_how_providers_say_it(status: int, body: Any, window: int | None) -> None:
    error = refusal(status, body)
    assert is_overflow(error)
    assert window_named(error) == window


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "no such parameter"),
        (429, "maximum context length is 8192 tokens"),
        (500, "prompt is too long"),
        (413, "Request too large on tokens per minute (TPM): Limit 6000, Requested 9000"),
    ],
)
def test_other_refusals(status: int, message: str) -> None:
    assert not is_overflow(refusal(status, told(message)))
    assert not is_overflow(ValueError("prompt is too long"))


def test_what_counts_as_the_window() -> None:
    assert Window().size() is None
    assert Window().size(500) == 500
    assert Window(1000).size(9999) == 1000
    assert Window(1000, served=400).size(9999) == 400
    assert Window(served=400).size(300) == 300
    assert Window(served=400).size(9999) == 9999
    window = Window(served=400)
    window.learn(None)
    assert window.size() == 400
    window.learn(256)
    assert (window.size(), window.size(9999)) == (256, 256)


def statuses(harness: Harness) -> list[str]:
    return [e["properties"]["status"]["type"] for e in harness.recorder.of("session.status")]


async def messages_of(harness: Harness, session_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await harness.http.get(f"/session/{session_id}/message")).json()
    return found


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [p["text"] for m in messages for p in m["parts"] if p["type"] == "text"]


@pytest.fixture(params=[None, 1_000_000])
def window(request: pytest.FixtureRequest) -> Window:
    """Nothing is known, or what is known is wrong."""
    return Window(request.param)


async def test_between_turns(tmp_path: Path, window: Window) -> None:
    steps = [say("One."), fail(refusal()), say("Sum."), say("Two."), say("Three.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        harness.registry.window = window
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert (ended["outcome"], ended.get("error")) == ("completed", None)
        assert statuses(harness)[2:] == ["busy", "compacting", "busy", "idle"]
        assert len(harness.recorder.of("session.compacted")) == 1
        assert len(harness.recorder.of("turn.ended")) == 2
        assert "first" in prompts(harness.model.seen[2])[0]
        seen = harness.model.seen[3]
        check_legal(seen)
        assert len(seen) == 3 and prompts(seen)[1:] == ["second"]
        assert texts(await messages_of(harness, session.id)) == [
            *("first", "One.", "second"),
            *("Sum.", "Two."),
        ]
        assert session.error is None
        # What the provider said of its window is remembered, and counts from then on.
        assert window.size() == 8192
        metrics = (await harness.http.get(f"/session/{session.id}/metrics")).json()
        assert metrics["context"]["limit"] == 8192
        await harness.turn(session, "third")
        check_legal(harness.model.seen[-1])
        assert prompts(harness.model.seen[-1])[1:] == ["second", "third"]


async def test_between_steps(tmp_path: Path, window: Window) -> None:
    look = call(("bash", {"command": "echo seen"}), text="Let me look. ")
    steps = [look, fail(refusal()), say("Sum."), say("Done.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        harness.registry.window = window
        session = await harness.session(rules=ALLOW)
        assert (await harness.turn(session, "go"))["outcome"] == "completed"
        assert statuses(harness) == ["busy", "compacting", "busy", "idle"]
        transcript = prompts(harness.model.seen[2])[0]
        assert transcript.count("Let me look.") == transcript.count('"result":"seen"') == 1
        seen = harness.model.seen[3]
        check_legal(seen)
        assert len(seen) == 3 and "go" in prompts(seen)[1] and "summarized" in prompts(seen)[1]
        assert texts(await messages_of(harness, session.id)) == [
            *("go", "Let me look. "),
            *("Sum.", "Done."),
        ]
        history: list[ModelMessage] = await harness.engine._services.history.load(session.id)
        check_legal(history)


async def test_what_overflows_again_ends_the_turn(tmp_path: Path, window: Window) -> None:
    steps = [say("One."), fail(refusal()), say("Sum."), fail(refusal()), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        harness.registry.window = window
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert (ended["outcome"], ended["error"]["name"]) == ("error", "ContextOverflowError")
        assert len(harness.recorder.of("turn.ended")) == 2
        assert len(harness.model.seen) == 4
        assert session.error == ended["error"]
        assert (await harness.turn(session, "third"))["outcome"] == "completed"
        check_legal(harness.model.seen[-1])


async def test_it_is_made_again_when_the_turn_went_on(tmp_path: Path) -> None:
    look = call(("bash", {"command": "echo seen"}))
    steps = [look, fail(refusal()), say("Sum."), look, fail(refusal()), say("Sum."), say("Done.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        harness.registry.window = Window()
        assert (await harness.turn(session))["outcome"] == "completed"
        assert len(harness.recorder.of("session.compacted")) == 2
        check_legal(await harness.engine._services.history.load(session.id))


@pytest.mark.parametrize("auto", [True, False])
async def test_where_there_is_nothing_to_summarize(tmp_path: Path, auto: bool) -> None:
    """A first prompt that is too large; and any, when summaries are made on demand only."""
    steps = [fail(refusal())] if auto else [say("One."), fail(refusal())]
    async with engine_in(tmp_path, steps, compaction=CompactionConfig(auto=auto)) as harness:
        session = await harness.session()
        for _ in steps:
            ended = await harness.turn(session)
        assert ended["error"]["name"] == "ContextOverflowError"
        assert harness.recorder.of("session.compacted") == []
        assert len(harness.model.seen) == len(steps)


async def test_a_summary_that_does_not_fit_either(tmp_path: Path) -> None:
    steps = [say("One."), fail(refusal()), fail(refusal())]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert ended["error"]["name"] == "ContextOverflowError"
        assert (await harness.turn(session, "third"))["outcome"] == "completed"
        check_legal(harness.model.seen[-1])
        assert prompts(harness.model.seen[-1]) == ["first", "third"]


async def test_abort_while_room_is_made(tmp_path: Path) -> None:
    steps = [say("One."), fail(refusal()), hang("Half"), say("Three.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        message_id = await harness.prompt(session, "second")
        await harness.recorder.wait("message.part.delta", delta="Half")
        assert await harness.engine.abort(session)
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "aborted"
        assert (await harness.turn(session, "third"))["outcome"] == "completed"
        check_legal(harness.model.seen[-1])


async def test_what_was_said_is_not_said_again(tmp_path: Path) -> None:
    """A provider that notices in mid-reply: the reply can't be taken back, so the turn ends."""
    steps = [say("One."), fail(refusal(), "Half of it")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert ended["error"]["name"] == "ContextOverflowError"
        assert len(harness.model.seen) == 2
        assert texts(await messages_of(harness, session.id))[-1] == "Half of it"


# A reply that breaks off


async def test_a_reply_that_breaks_off_is_called_that(tmp_path: Path) -> None:
    cut = ModelConnectionError("main", "Connection error.", phase="read")
    async with engine_in(tmp_path, [fail(cut, "Half of"), say("Yes.")]) as harness:
        session = await harness.session()
        ended = await harness.turn(session, "first")
        assert ended["error"]["name"] == "APIError" and ended["error"]["data"]["isRetryable"]
        message = ended["error"]["data"]["message"]
        assert "broke off" in message and "is kept" in message and "go on" in message
        assert "No reply from" not in message and "Connection error" not in message
        assert len(harness.model.seen) == 1
        assert (await harness.turn(session, "go on"))["outcome"] == "completed"
        check_legal(harness.model.seen[-1])
        assert "Half of" in str(harness.model.seen[-1])


async def test_a_summary_that_breaks_off(tmp_path: Path) -> None:
    cut = ModelConnectionError("main", "cut", phase="read")
    async with engine_in(tmp_path, [say("One."), fail(cut, "Half")]) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        answer = await harness.http.post(f"/session/{session.id}/summarize", json={})
        message = answer.json()["data"]["message"]
        assert "broke off" in message and "conversation is as it was" in message
