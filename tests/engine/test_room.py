"""Room in the context window: when a turn makes it by itself, and what limits a turn."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from agent_magics.engine._config import CompactionConfig, LimitsConfig
from agent_magics.engine._context import Room, estimate, kept_messages, since_summary
from agent_magics.engine._errors import ContextOverflow
from agent_magics.engine._transcript import summary_prompts
from agent_magics.engine.models import Window
from tests.support.engine_harness import Harness, call, engine_in, eventually, fail, hang, say
from tests.support.legal_history import check_legal, prompts

AUTO = CompactionConfig(threshold=0.8)
"""Full from 800 of the test model's 1000 tokens on."""
LONG = "yes " * 1000
"""More than the window, by the test model's count (words) and by an estimate of its bytes."""
ALLOW = [{"permission": "bash", "pattern": "*", "action": "allow"}]


def print_much(size: int = 4000) -> Any:
    return call(("bash", {"command": f"printf '%{size}s' end"}), text="Let me look.")


def statuses(harness: Harness) -> list[str]:
    return [e["properties"]["status"]["type"] for e in harness.recorder.of("session.status")]


async def roles(harness: Harness, session_id: str) -> list[str]:
    """Of the messages, in order: the role, with `summary` for a summary."""
    messages = (await harness.http.get(f"/session/{session_id}/message")).json()
    return ["summary" if m["info"].get("summary") else m["info"]["role"] for m in messages]


# Between turns


async def test_room_is_made_before_the_first_step(tmp_path: Path) -> None:
    steps = [say(LONG), say("Sum."), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert ended["outcome"] == "completed"
        assert statuses(harness) == ["busy", "idle", "busy", "compacting", "busy", "idle"]
        assert '"agent":"yes yes' in prompts(harness.model.seen[1])[0]
        assert "second" not in prompts(harness.model.seen[1])[0]
        check_legal(harness.model.seen[2])
        assert prompts(harness.model.seen[2])[1:] == ["second"]
        assert await roles(harness, session.id) == [
            *("user", "assistant", "user"),
            *("user", "summary"),
            "assistant",
        ]
        messages = (await harness.http.get(f"/session/{session.id}/message")).json()
        assert messages[3]["parts"][0]["auto"] is True
        ids = [m["info"]["id"] for m in messages]
        assert ids == sorted(ids) and len(harness.recorder.of("session.compacted")) == 1
        answer = await harness.engine.answer(session, ended["messageID"])
        assert answer is not None and answer["parts"][1]["text"] == "Two."


@pytest.mark.parametrize(
    ("config", "made"),
    [
        (CompactionConfig(auto=False), False),
        (CompactionConfig(threshold=1.0), True),
        (CompactionConfig(threshold=0.8, context_limit=9999), True),  # the model's own counts
    ],
)
async def test_it_is_configurable(tmp_path: Path, config: CompactionConfig, made: bool) -> None:
    steps = [say(LONG), say("Sum."), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=config) as harness:
        session = await harness.session()
        await harness.turn(session)
        await harness.turn(session)
        assert ("compacting" in statuses(harness)) is made


async def test_nothing_is_made_of_nothing(tmp_path: Path) -> None:
    """A long prompt goes to the model as it is when there is nothing before it but a summary."""
    steps = [say("One."), say("Sum."), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session()
        assert (await harness.turn(session, LONG))["outcome"] == "completed"
        assert await harness.engine.summarize(session)
        assert (await harness.turn(session, LONG))["outcome"] == "completed"
        assert len(harness.model.seen) == 3
        assert prompts(harness.model.seen[2])[1] == LONG


# Between steps


async def test_room_is_made_between_steps_and_the_turn_goes_on(tmp_path: Path) -> None:
    steps = [print_much(), say("Sum."), call(("todoread", {})), say("Done.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        ended = await harness.turn(session, "the prompt")
        assert ended["outcome"] == "completed"
        assert statuses(harness) == ["busy", "compacting", "busy", "idle"]
        types = harness.recorder.types
        assert types.count("turn.ended") == types.count("session.compacted") == 1
        (transcript,) = prompts(harness.model.seen[1])
        assert '"user":"the prompt"' in transcript and "Let me look." in transcript
        assert '"of":"bash"' in transcript and "printf" in transcript
        for seen in harness.model.seen:
            check_legal(seen)
        question, prompt = prompts(harness.model.seen[2])
        assert "replaced by a summary" in question
        assert prompt.startswith("the prompt [The conversation was summarized")
        order = ["user", "assistant", "user", "summary", "assistant"]
        assert await roles(harness, session.id) == order
        assert session.usage.messages == len(order)
        answer = await harness.engine.answer(session, ended["messageID"])
        assert answer is not None and answer["parts"][-2]["text"] == "Done."
        # The next turn begins with the same summary.
        await harness.turn(session, "next")
        check_legal(harness.model.seen[-1])
        assert len(prompts(harness.model.seen[-1])) == 3
        assert "Let me look." not in str(harness.model.seen[-1])


async def test_it_is_made_again_when_the_turn_goes_on_for_long(tmp_path: Path) -> None:
    steps = [print_much(), say("Sum 1."), print_much(), say("Sum 2."), say("Done.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        assert (await harness.turn(session))["outcome"] == "completed"
        assert len(harness.recorder.of("session.compacted")) == 2
        assert '"summary":"Sum 1."' in prompts(harness.model.seen[3])[0]
        assert "Sum 2." in str(harness.model.seen[4]) and "Sum 1." not in str(harness.model.seen[4])
        check_legal(harness.model.seen[4])
        assert (await harness.turn(session))["outcome"] == "completed"


async def test_a_result_larger_than_the_window_is_shortened_for_the_summary(
    tmp_path: Path,
) -> None:
    steps = [print_much(20_000), say("Sum."), say("Done.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        assert (await harness.turn(session))["outcome"] == "completed"
        (transcript,) = prompts(harness.model.seen[1])
        assert len(transcript) < 800 * 4 + 200 and "characters left out" in transcript


async def test_a_summary_that_is_too_large_ends_the_turn(tmp_path: Path) -> None:
    steps = [say(LONG), say(LONG), say("Sum."), say("Usable.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert (ended["outcome"], ended["error"]["name"]) == ("error", "ContextOverflowError")
        assert "1000 tokens" in ended["error"]["data"]["message"]
        assert ended["error"]["data"]["limit"] == 1000
        assert len(harness.model.seen) == 2
        # The session is usable: this summary is short enough.
        assert (await harness.turn(session, "third"))["outcome"] == "completed"
        assert "second" in prompts(harness.model.seen[2])[0]
        check_legal(harness.model.seen[3])


async def test_a_turn_does_not_summarize_for_ever(tmp_path: Path) -> None:
    """When the first step after a summary fills the window again, there is nothing to gain."""
    steps = [say(LONG), say("Sum."), *[call(("todoread", {}), text=LONG)] * 9]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        await harness.turn(session)
        ended = await harness.turn(session)
        assert (ended["outcome"], ended["error"]["name"]) == ("error", "ContextOverflowError")
        assert len(harness.recorder.of("session.compacted")) == 1
        assert len(harness.model.seen) == 3
        states = [p["state"]["status"] for p in harness.recorder.parts("tool")]
        assert states == ["completed"]
        history = await harness.engine._services.history.load(session.id)
        assert isinstance(history[-2], ModelRequest)  # with the result of the call
        assert "ended here: the context window was full" in str(history[-1])
        check_legal(history)


async def test_abort_while_room_is_made(tmp_path: Path) -> None:
    steps = [print_much(), hang("Half a sum"), say("Sum."), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        message_id = await harness.prompt(session, "first")
        await harness.recorder.until(lambda: "Half a sum" in str(harness.recorder.events))
        assert harness.engine.status()[session.id] == {"type": "compacting"}
        assert await harness.engine.abort(session)
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "aborted"
        messages = (await harness.http.get(f"/session/{session.id}/message")).json()
        assert [m["info"]["error"]["name"] for m in messages if "error" in m["info"]] == [
            "MessageAbortedError",
            "MessageAbortedError",
        ]
        assert harness.recorder.of("session.compacted") == []
        assert session.usage.messages == len(messages) == 4
        history = await harness.engine._services.history.load(session.id)
        check_legal(history)
        assert " end" in str(history[-2]) and len(history) == 4
        assert "aborted this turn here" in str(history[-1])
        assert (await harness.turn(session, "second"))["outcome"] == "completed"
        assert "printf" in prompts(harness.model.seen[2])[0]


async def test_abort_before_anything_was_said(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say(LONG), hang()], compaction=AUTO) as harness:
        session = await harness.session()
        await harness.turn(session)
        message_id = await harness.prompt(session, "second")
        await eventually(lambda: len(harness.model.seen) == 2)
        assert await harness.engine.abort(session)
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "aborted"
        found = await roles(harness, session.id)
        assert found[-3:] == ["user", "summary", "assistant"]
        assert session.usage.messages == len(found)


async def test_a_model_that_fails_to_summarize_ends_the_turn(tmp_path: Path) -> None:
    steps = [print_much(), fail(ModelHTTPError(400, "main", "no")), say("Sum."), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        ended = await harness.turn(session)
        assert (ended["outcome"], ended["error"]["name"]) == ("error", "APIError")
        check_legal(await harness.engine._services.history.load(session.id))
        assert (await harness.turn(session))["outcome"] == "completed"


async def test_attachments_are_sent_again_with_the_prompt_and_count(tmp_path: Path) -> None:
    image = {"type": "file", "mime": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}
    steps = [print_much(), say("Sum."), say("Done.")]
    async with engine_in(tmp_path, steps, compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        parts = [{"type": "text", "text": "see"}, image]
        body = {"parts": parts, "messageID": "msg_image"}
        await harness.http.post(f"/session/{session.id}/prompt_async", json=body)
        ended = await harness.recorder.wait("turn.ended")
        # An image counts for more than this model's whole window: no summary can help.
        assert ended["properties"]["error"]["name"] == "ContextOverflowError"
        assert "an attachment of type image/png" in prompts(harness.model.seen[1])[0]


def killed(directory: Path) -> Path:
    """What a SIGKILL would leave of an engine that has nothing more to store."""
    return Path(shutil.copytree(directory, directory.with_name(directory.name + "_killed")))


@pytest.mark.parametrize("begun", [False, True])
async def test_a_crash_while_room_is_made(tmp_path: Path, begun: bool) -> None:
    first = print_much() if begun else say(LONG)
    async with engine_in(tmp_path, [first, hang("Half a sum")], compaction=AUTO) as harness:
        session = await harness.session(rules=ALLOW)
        if not begun:
            await harness.turn(session, "earlier")
        message_id = await harness.prompt(session, "the prompt")
        await harness.recorder.until(lambda: "Half a sum" in str(harness.recorder.events))
        left = killed(tmp_path)
    async with engine_in(left, [say("Going on.")]) as harness:
        messages = (await harness.http.get(f"/session/{session.id}/message")).json()
        assert messages[-1]["info"]["error"]["name"] == "EngineStoppedError"
        assert messages[-1]["info"]["summary"] and messages[-1]["parts"][1]["text"] == "Half a sum"
        assert all("completed" in m["info"]["time"] for m in messages if "mode" in m["info"])
        rows = harness.engine.store.query("SELECT body FROM event WHERE body LIKE '%turn.ended%'")
        assert sum(message_id in body for (body,) in rows) == 1
        history = await harness.engine._services.history.load(session.id)
        check_legal(history)
        assert "the prompt" in prompts(history) and "Half" not in str(history)
        if begun:
            assert " end" in str(history[2]) and str(history).count("Let me look.") == 1
        ended = await harness.turn(harness.engine.sessions.get(session.id), "next")
        assert ended["outcome"] == "completed"
        check_legal(harness.model.seen[-1])


# Limits


@pytest.mark.parametrize(
    ("limits", "name", "steps"),
    [
        (LimitsConfig(steps=2, source="/etc/config.toml"), "steps", 2),
        (LimitsConfig(tokens=50, source="/etc/config.toml"), "tokens", 1),
        (LimitsConfig(cost=0.01, source="/etc/config.toml"), "cost", 1),
    ],
)
async def test_a_limit_ends_the_turn_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: LimitsConfig, name: str, steps: int
) -> None:
    monkeypatch.setattr("agent_magics.engine._limits.is_priced", lambda model: True)
    monkeypatch.setattr("agent_magics.engine._steps.price", lambda response: 0.02)
    working = [call(("todoread", {})) for _ in range(9)]
    async with engine_in(tmp_path, working, limits=limits) as harness:
        session = await harness.session()
        ended = await harness.turn(session)
        assert (ended["outcome"], ended["error"]["name"]) == ("error", "TurnLimitError")
        data = ended["error"]["data"]
        assert data["limit"] == name and data["value"] == getattr(limits, name)
        assert repr(name) in data["message"] and "/etc/config.toml" in data["message"]
        assert len(harness.model.seen) == steps
        states = [p["state"]["status"] for p in harness.recorder.parts("tool")]
        assert states == ["completed"] * steps
        answer = await harness.engine.answer(session, ended["messageID"])
        assert answer is not None and answer["info"]["error"] == ended["error"]
        history = await harness.engine._services.history.load(session.id)
        check_legal(history)
        assert isinstance(history[-2], ModelRequest)
        assert "ended here by its limit" in str(history[-1])
        harness.model.steps = [say("Going on.")]
        assert (await harness.turn(session, "go on"))["outcome"] == "completed"
        check_legal(harness.model.seen[-1])


@pytest.mark.parametrize("by", ["a reply", "a sub-agent"])
async def test_a_price_that_turns_out_to_be_unknown_ends_the_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The name of the model promised a price that its replies, or those of another one, lack."""
    prices = iter([None] if by == "a reply" else [0.0, None])
    monkeypatch.setattr("agent_magics.engine._limits.is_priced", lambda model: True)
    monkeypatch.setattr("agent_magics.engine._steps.price", lambda response: next(prices))
    order = {"description": "Some work", "prompt": "Do it.", "subagent_type": "general"}
    steps = [call(("todoread", {})) if by == "a reply" else call(("task", order)), say("Never.")]
    async with engine_in(tmp_path, steps, limits=LimitsConfig(cost=5.0)) as harness:
        ended = await harness.turn(session := await harness.session())
        assert (ended["outcome"], ended["error"]["name"]) == ("error", "TurnLimitError")
        data = ended["error"]["data"]
        assert (data["limit"], data["value"], data["model"]) == ("cost", 5.0, "fake/main")
        assert len(harness.model.seen) == (1 if by == "a reply" else 2)
        check_legal(await harness.engine._services.history.load(session.id))


async def test_the_last_step_may_reach_the_limit(tmp_path: Path) -> None:
    limits = LimitsConfig(steps=1, tokens=1)
    async with engine_in(tmp_path, [say("Done.")], limits=limits) as harness:
        assert (await harness.turn(await harness.session()))["outcome"] == "completed"


async def test_summaries_count_as_tokens_not_as_steps(tmp_path: Path) -> None:
    steps = [print_much(), say("Sum."), print_much(10), say("Never.")]
    limits = LimitsConfig(steps=2)
    async with engine_in(tmp_path, steps, compaction=AUTO, limits=limits) as harness:
        session = await harness.session(rules=ALLOW)
        ended = await harness.turn(session)
        assert ended["error"]["data"]["limit"] == "steps"
        assert len(harness.model.seen) == 3


async def test_what_sub_agents_use_counts(tmp_path: Path) -> None:
    order = {"description": "Some work", "prompt": "Do it.", "subagent_type": "general"}
    steps = [call(("task", order)), say(LONG), say("Never.")]
    async with engine_in(tmp_path, steps, limits=LimitsConfig(tokens=1000)) as harness:
        session = await harness.session()
        ended = await harness.turn(session)
        assert ended["error"]["data"]["limit"] == "tokens"
        assert len(harness.model.seen) == 2
        check_legal(await harness.engine._services.history.load(session.id))


# The parts


def text(role: str, said: str, tokens: int = 0) -> ModelMessage:
    if role == "user":
        return ModelRequest(parts=[UserPromptPart(said)])
    usage = RequestUsage(input_tokens=tokens)
    return ModelResponse(parts=[TextPart(said)], usage=usage)


def test_what_was_measured_counts_more_than_what_is_estimated() -> None:
    room = Room(AUTO, Window(1000))
    prompt = ModelRequest(parts=[UserPromptPart("hi")])
    assert not room.is_needed([text("user", LONG), text("agent", "ok", 100)], [], prompt)
    assert room.is_needed([text("user", "hi"), text("agent", "ok", 900)], [], prompt)
    # An aborted reply tells no usage: what is before it counts, and what follows is estimated.
    partial = [text("user", "hi"), text("agent", "ok", 700), text("user", "a"), text("agent", "b")]
    assert not room.is_needed(partial, [], prompt)
    assert room.is_needed([*partial, text("user", LONG)], [], prompt)


def test_without_a_known_window_there_is_always_room() -> None:
    prompt = ModelRequest(parts=[UserPromptPart("hi")])
    full = [text("user", "hi"), text("agent", "ok", 10**9)]
    assert not Room(AUTO, Window()).is_needed(full, [], prompt)
    assert Room(CompactionConfig(context_limit=500), Window()).is_needed(full, [], prompt)


def test_a_summary_that_gains_nothing_is_the_last() -> None:
    room = Room(AUTO, Window(1000))
    room.made = True
    prompt = ModelRequest(parts=[UserPromptPart("hi")])
    kept = kept_messages("short", [])
    assert not room.is_needed(kept, [], prompt)
    with pytest.raises(ContextOverflow):
        room.is_needed(kept_messages(LONG, []), [], prompt)
    first = text("user", "hi")
    assert room.is_needed(kept, [first, text("agent", "a", 100), text("user", LONG)], prompt)
    with pytest.raises(ContextOverflow):
        room.is_needed(kept, [first, text("agent", "a", 900)], prompt)


def test_estimates() -> None:
    image = BinaryContent(data=b"x" * 10**6, media_type="image/png")
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(["ä" * 2000, image])]),
        ModelResponse(parts=[ToolCallPart("bash", {"command": "y" * 400})]),
        ModelRequest(parts=[ToolReturnPart("bash", ["z" * 400, {"a": 5}, None], "1")]),
    ]
    assert estimate(messages[:1]) == 1000 + 1500
    assert estimate(messages[1:]) == (400 + 7 + 400 + 2) // 4
    assert estimate([]) == 0


def test_only_the_last_summary_counts() -> None:
    one, two = kept_messages("one", []), kept_messages("two", [])
    old, new = text("user", "old"), text("user", "new")
    assert since_summary([old, *one, old, *two, new]) == [*two, new]
    assert since_summary([old, new]) == [old, new]
    assert since_summary([]) == []


def test_transcripts_are_made_to_fit() -> None:
    messages: list[ModelMessage] = []
    for number in range(200):
        messages += [text("user", f"prompt {number} \ud800" + "y" * 300), text("agent", "ok")]
    whole = list(summary_prompts(messages, [], None))
    assert "prompt 0 " in whole[0] and len({*whole}) == len(whole) > 1
    assert list(map(len, whole)) == sorted(map(len, whole), reverse=True)
    (least,) = summary_prompts(messages, [], 500)
    assert len(least.encode()) < 500 * 4 + 200
    assert "left out" in least and "prompt 199" in least and "prompt 0 " not in least
    assert list(summary_prompts([], [], 500))


async def test_turns_of_other_sessions_go_on_meanwhile(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say(LONG), hang("Half"), say("Two.")], compaction=AUTO) as h:
        first, second = await h.session(), await h.session()
        await h.turn(first)
        task = asyncio.create_task(h.prompt(first))
        await h.recorder.until(lambda: "Half" in str(h.recorder.events))
        assert (await h.turn(second))["outcome"] == "completed"
        await task
