"""Replies that end early: no turn calls them done, no cut call runs, the model is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo
from pydantic_ai.usage import RequestUsage

from agent_magics.engine._config import CompactionConfig, EngineConfig, ProviderConfig
from agent_magics.engine._history import concluded
from agent_magics.engine._prompts import Prompt
from agent_magics.engine._reply_end import finish_reason
from agent_magics.engine.models import ModelRegistry
from tests.support.engine_harness import Harness, call, engine_in, hang, say
from tests.support.legal_history import check_legal
from tests.support.scripted_llm import ScriptedLLM

TOOL = {"tool": {"name": "write", "args": {"filePath": "a.txt", "content": "A"}}}
CUT_TOOL = {"tool": {"name": "todowrite", "args": ""}}
"""Cut right after its name: without arguments it would be a call of its own."""
ENDINGS: dict[str, tuple[str, str, str, str]] = {
    # finish reason of the server: ours, the error, what is said
    "length": ("length", "MessageOutputLengthError", "cut off: it reached the token limit", "both"),
    "content_filter": ("content-filter", "ContentFilterError", "content rules", "openai"),
    "refusal": ("content-filter", "ContentFilterError", "content rules", "anthropic"),
    "network_error": ("other", "ReplyIncompleteError", "'network_error'", "openai"),
    "brand_new": ("other", "ReplyIncompleteError", "'brand_new'", "both"),
}


CONTENTS: dict[str, list[Any]] = {"text": [{"text": "Half"}], "tool": [TOOL, CUT_TOOL], "none": []}
TRIED = (
    "length-text",
    "length-tool",
    "content_filter-text",
    "content_filter-none",
    "refusal-none",
    "refusal-text",
    "network_error-text",
    "brand_new-tool",
)


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLLM]:
    scenarios: dict[str, Any] = {"after": {"turns": [{"do": [{"text": "I see."}]}]}}
    for name in TRIED:
        reason, _, kind = name.partition("-")
        turn = {"do": CONTENTS[kind], "finish": reason, "usage": {"output": 5}}
        scenarios[name] = {"turns": [turn]}
    async with ScriptedLLM({"scenarios": scenarios, "default": "length-text"}) as llm:
        yield llm


def use(harness: Harness, llm: ScriptedLLM) -> ModelRegistry:
    """Real models of both protocols in the engine."""
    config = EngineConfig(
        providers={
            "o": ProviderConfig("openai", llm.base_url),
            "a": ProviderConfig("anthropic", llm.anthropic_url),
        }
    )
    harness.engine.registry = models = ModelRegistry(config, {})
    return models


async def send(harness: Harness, session: Any, text: str, model: str) -> dict[str, Any]:
    prompt = Prompt([{"type": "text", "text": text}], model=model)
    message_id = await harness.engine.prompt(session, prompt)
    ended = await harness.recorder.wait("turn.ended", messageID=message_id)
    return dict(ended["properties"])


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_what_a_cut_reply_is_called(tmp_path: Path, llm: ScriptedLLM, protocol: str) -> None:
    async with engine_in(tmp_path) as harness, contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(use(harness, llm).aclose)
        for name in TRIED:
            ours, error, words, protocols = ENDINGS[name.partition("-")[0]]
            if protocols not in ("both", protocol):
                continue
            session = await harness.session()
            model = f"{protocol[0]}/{name}"
            ended = await send(harness, session, "go", model)
            assert ended["outcome"] == "error", model
            assert ended["error"]["name"] == error
            assert words in ended["error"]["data"]["message"]
            answer = (await harness.engine.messages.history(session.id))[-1]
            assert answer["info"]["finish"] == ours
            assert session.error is not None
            tools = [p for p in answer["parts"] if p["type"] == "tool"]
            assert [p["state"]["status"] for p in tools] == ["error"] * len(tools)
            assert session.usage.tools == {}
            after = await send(harness, session, "why?", f"{protocol[0]}/after")
            assert after["outcome"] == "completed", (model, after)
            told = json.dumps(llm.log[-1]["body"]["messages"])
            assert "cut off" in told and "go" in told


async def test_a_full_window_makes_room(tmp_path: Path) -> None:
    """`length` without a token, as local servers end when the prompt fills the window."""

    async def full(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield ""

    steps = [say("One."), full, say("The summary."), say("Two.")]
    async with engine_in(tmp_path, steps, compaction=CompactionConfig(threshold=1.0)) as harness:
        _end_with(harness, {2: ("length", 0)})
        session = await harness.session()
        await harness.turn(session, "first")
        ended = await harness.turn(session, "second")
        assert ended["outcome"] == "completed", ended
        assert "session.compacted" in harness.recorder.types
        check_legal(harness.model.seen[-1])


def _end_with(harness: Harness, endings: dict[int, tuple[str, int]]) -> None:
    """Give the replies of the harness' model a finish reason, by their number."""
    resolved = harness.engine.registry.resolve(None)
    model: Any = resolved.model
    real = model.request_stream
    count = 0

    @asynccontextmanager
    async def request_stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        nonlocal count
        count += 1
        number = count
        async with real(*args, **kwargs) as stream:
            get = stream.get

            def ended() -> ModelResponse:
                response: ModelResponse = get()
                if number in endings:
                    reason, tokens = endings[number]
                    response.finish_reason = reason  # type: ignore[assignment]
                    response.usage = RequestUsage(input_tokens=900, output_tokens=tokens)
                return response

            stream.get = ended
            yield stream

    model.request_stream = request_stream


async def test_a_task_whose_report_is_cut_fails_the_call(tmp_path: Path) -> None:
    """The sub-agent's half is passed on as what it is."""
    task = ("task", {"description": "look", "prompt": "x", "subagent_type": "general"})
    steps = [call(task), say("Half a report"), say("A pity.")]
    async with engine_in(tmp_path, steps) as harness:
        _end_with(harness, {2: ("length", 5)})
        session = await harness.session()
        assert (await harness.turn(session))["outcome"] == "completed"
        (part,) = harness.recorder.parts("tool")
        assert part["state"]["status"] == "error"
        error = part["state"]["error"]
        assert "cut off: it reached the token limit" in error and "Half a report" in error
        results = [p for m in harness.model.seen[-1] for p in m.parts]
        assert [p.outcome for p in results if isinstance(p, ToolReturnPart)] == ["failed"]


async def test_a_turn_that_says_nothing_is_over(tmp_path: Path) -> None:
    async def silent(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield ""

    steps = [call(("todowrite", {"todos": []})), silent, say("Later.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        assert (await harness.turn(session, "go"))["outcome"] == "completed"
        assert len(harness.model.seen) == 2, "an empty reply is not asked for again"
        await harness.turn(session, "and now?")
        check_legal(harness.model.seen[-1])


async def test_an_aborted_prompt_is_told_to_the_model(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang("Half"), say("Yes.")]) as harness:
        session = await harness.session()
        for text in ("delete nothing", "second"):
            prompt = Prompt([{"type": "text", "text": text}])
            message_id = await harness.engine.prompt(session, prompt)
            await harness.engine.abort(session)  # at once: nothing was said
            await harness.recorder.wait("turn.ended", messageID=message_id)
        harness.model.steps[:] = [say("Yes.")]
        await harness.turn(session, "what did I ask?")
        seen = harness.model.seen[-1]
        check_legal(seen)
        texts = [p.content for m in seen for p in m.parts if isinstance(p, UserPromptPart)]
        assert texts == ["delete nothing", "second", "what did I ask?"]
        said = [p.content for m in seen for p in m.parts if isinstance(p, TextPart)]
        assert len(said) == 2 and all("aborted" in text for text in said)
        assert session.metrics()["messages"] == len(
            await harness.engine.messages.history(session.id)
        )


async def test_a_call_that_was_aborted_is_told_as_an_error(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        begun.set()
        async for item in call(("bash", {"command": "sleep 60"}))(messages, info):
            yield item

    async with engine_in(tmp_path, [step, say("I see.")]) as harness:
        session = await harness.session()
        message_id = await harness.engine.prompt(session, Prompt([{"type": "text", "text": "go"}]))
        await harness.recorder.wait("permission.asked")
        await harness.engine.abort(session)
        await harness.recorder.wait("turn.ended", messageID=message_id)
        await harness.turn(session, "well?")
        results = [
            p for m in harness.model.seen[-1] for p in m.parts if isinstance(p, ToolReturnPart)
        ]
        assert [part.outcome for part in results] == ["failed"]


def test_concluded_histories_alternate() -> None:
    error: Any = {"name": "MessageAbortedError", "data": {"message": "x"}}
    call_part = ToolCallPart("bash", {}, "c1")
    for said in (
        [],
        [ModelResponse(parts=[TextPart("Half")])],
        [ModelResponse(parts=[call_part])],
        [ModelResponse(parts=[])],
    ):
        start = concluded([], "do it", None)[:1] if said else []
        whole = concluded([*start, *said], "do it", error)
        check_legal(whole)
        assert isinstance(whole[-1], ModelResponse)
        assert "aborted" in str(whole[-1].parts[-1])


@pytest.mark.parametrize(
    ("reason", "raw", "ours"),
    [
        ("stop", "stop", "stop"),
        ("length", "max_tokens", "length"),
        ("length", "model_context_window_exceeded", "context-window"),
        ("content_filter", "refusal", "content-filter"),
        ("error", "error", "error"),
        (None, "end_turn", "stop"),
        (None, "COMPLETE", "stop"),
        (None, "MAX_TOKENS", "length"),
        (None, "SAFETY", "content-filter"),
        (None, "insufficient_system_resource", "other"),
        (None, None, "stop"),
    ],
)
def test_finish_reasons(reason: Any, raw: str | None, ours: str) -> None:
    details = {"finish_reason": raw} if raw else None
    response = ModelResponse(parts=[TextPart("x")], finish_reason=reason, provider_details=details)
    assert finish_reason(response) == ours


async def test_a_reply_that_is_no_text_is_remembered_all_the_same(tmp_path: Path) -> None:
    """Half a pair of surrogates, as servers send it: said, and known in the next turn."""
    steps = [say("Half \ud83d", " one"), say("\ud83d", "\ude00 whole"), say("I see.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        for text in ("go", "and then?", "and now?"):
            prompt = Prompt([{"type": "text", "text": text}])
            message_id = await harness.engine.prompt(session, prompt)
            ended = await harness.recorder.wait("turn.ended", messageID=message_id)
            assert ended["properties"]["outcome"] == "completed"
        seen = harness.model.seen[-1]
    check_legal(seen)
    texts = [p.content for m in seen for p in m.parts if isinstance(p, TextPart)]
    assert texts == ["Half \ufffd one", "\U0001f600 whole"]


async def test_a_call_that_is_no_text_runs_with_what_is(tmp_path: Path) -> None:
    todo = '{"todos": [{"content": "a\ud83d", "status": "pending", "priority": "low"}]}'
    async with engine_in(tmp_path, [call(("todowrite", todo)), say("done")]) as harness:
        session = await harness.session()
        message_id = await harness.engine.prompt(session, Prompt([{"type": "text", "text": "go"}]))
        ended = await harness.recorder.wait("turn.ended", messageID=message_id)
        assert ended["properties"]["outcome"] == "completed"
        (part,) = harness.recorder.parts("tool")
        assert part["state"]["status"] == "completed"
        assert part["state"]["input"]["todos"][0]["content"] == "a\ufffd"
        check_legal(harness.model.seen[-1])
