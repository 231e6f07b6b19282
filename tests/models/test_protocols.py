"""Both protocols, through the registry, against a model server that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models import Model

from agent_magics.engine._config import EngineConfig, ProviderConfig
from agent_magics.engine.models import ModelRegistry
from tests.support.agent_loop import Record, run_turn
from tests.support.scripted_llm import ScriptedLLM

SCRIPT: dict[str, Any] = {
    "api_keys": ["sk-test"],
    "scenarios": {
        "hello": {
            "turns": [
                {
                    "do": [{"reasoning": "They greet."}, {"text": "Hello, {you} & <me>!"}],
                    "usage": {"input": 100, "output": 20, "cache_read": 40},
                }
            ]
        },
        "tools": {
            "turns": [
                {
                    "do": [
                        {"text": "Let me look."},
                        {"tool": {"name": "bash", "args": {"command": "echo one"}, "id": "c1"}},
                        {
                            "tool": {
                                "name": "write",
                                "args": {"filePath": "x.txt", "content": "two"},
                                "id": "c2",
                            }
                        },
                    ]
                },
                {"do": [{"tool": {"name": "read", "args": {"filePath": "x.txt"}, "id": "c3"}}]},
                {"do": [{"text": "One and two."}]},
            ]
        },
        "badjson": {
            "turns": [
                {"do": [{"tool": {"name": "bash", "args": '{"command": "ls', "id": "c1"}}]},
                {"do": [{"text": "sorry"}]},
            ]
        },
        "unknown": {
            "turns": [
                {"do": [{"tool": {"name": "frobnicate", "args": {}}}]},
                {"do": [{"text": "no such tool"}]},
            ]
        },
        "limited": {
            "turns": [{"fail": [{"status": 429, "headers": {"retry-after": "7"}}], "do": []}]
        },
        "broken": {"turns": [{"fail": [{"status": 500, "message": "oops"}], "do": []}]},
        "dropped": {"turns": [{"fail": [{"disconnect": True}], "do": []}]},
        "midcut": {"turns": [{"do": [{"text": "partial "}, {"wait": 0.02}, {"disconnect": True}]}]},
        "miderror": {
            "turns": [{"do": [{"text": "partial "}, {"error_chunk": {"message": "it burst"}}]}]
        },
        "slow": {"turns": [{"do": [{"text": {"repeat": "tok ", "n": 500}, "delay": 0.05}]}]},
    },
}


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLLM]:
    async with ScriptedLLM(SCRIPT) as llm:
        yield llm


def registry(llm: ScriptedLLM, key: str = "sk-test") -> ModelRegistry:
    config = EngineConfig(
        providers={
            "openailike": ProviderConfig("openai", llm.base_url, "TEST_KEY"),
            "anthropiclike": ProviderConfig("anthropic", llm.anthropic_url, "TEST_KEY"),
        }
    )
    environ = {
        "TEST_KEY": key,
        "OPENAI_API_KEY": key,
        "OPENAI_BASE_URL": llm.base_url,
        "ANTHROPIC_API_KEY": key,
        "ANTHROPIC_BASE_URL": llm.anthropic_url,
        "OPENROUTER_API_KEY": key,
        "OPENROUTER_BASE_URL": llm.base_url,
        "GROQ_API_KEY": key,
        "GROQ_BASE_URL": llm.base_url,
        "GEMINI_API_KEY": key,
        "GEMINI_BASE_URL": llm.base_url,
        "MISTRAL_API_KEY": key,
        "MISTRAL_BASE_URL": llm.base_url,
        "XAI_API_KEY": key,
        "XAI_BASE_URL": llm.base_url,
        "DEEPSEEK_API_KEY": key,
        "DEEPSEEK_BASE_URL": llm.base_url,
        "TOGETHER_API_KEY": key,
        "TOGETHER_BASE_URL": llm.base_url,
        "FIREWORKS_API_KEY": key,
        "FIREWORKS_BASE_URL": llm.base_url,
        "OLLAMA_BASE_URL": llm.base_url,
        "OLLAMA_API_KEY": key,
    }
    return ModelRegistry(config, environ)


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class GetModel(Protocol):
    def __call__(self, provider: str, scenario: str, key: str = ...) -> Model: ...


@pytest.fixture
async def model(llm: ScriptedLLM) -> AsyncIterator[GetModel]:
    """Resolves models whose server is `llm`."""
    opened: dict[str, ModelRegistry] = {}

    def get(provider: str, scenario: str, key: str = "sk-test") -> Model:
        found = opened.setdefault(key, registry(llm, key))
        return found.resolve(f"{provider}/{scenario}").model

    yield get
    for found in opened.values():
        await found.aclose()


@pytest.mark.parametrize(
    "name",
    [
        "openai",
        "anthropic",
        "gemini",
        "openrouter",
        "mistral",
        "deepseek",
        "xai",
        "groq",
        "together",
        "fireworks",
        "ollama",
        "openailike",
        "anthropiclike",
    ],
)
async def test_every_provider_carries_a_turn_with_tools(
    llm: ScriptedLLM, model: GetModel, record: Record, name: str
) -> None:
    await run_turn(record, model(name, "x/tools"), "go {braces} & <b>")
    assert record.said == "Let me look.One and two."
    assert record.tools == ["bash", "write", "read"]
    assert [call.result for call in record.calls.values()][::2] == ["one", "1: two"]
    assert [entry["outcome"] for entry in llm.log] == ["complete"] * 3
    assert [entry["turn"] for entry in llm.log] == [0, 1, 2]
    sent = llm.log[0]["body"]
    assert sent["model"] == "x/tools"
    assert "go {braces} & <b>" in str(sent["messages"])
    assert {tool.get("name") or tool["function"]["name"] for tool in sent["tools"]} == {
        "artifact",
        "bash",
        "batch",
        "read",
        "write",
        "edit",
        "grep",
        "glob",
        "todowrite",
        "webfetch",
        "todoread",
        "task",
    }
    assert "Jupyter" in str(sent.get("system") or sent["messages"][0])


async def test_text_streams_and_usage_arrives(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str
) -> None:
    await run_turn(record, model(provider, "hello"), "hi")
    assert record.said == "Hello, {you} & <me>!"
    assert "".join(record.text) == record.said
    usage = record.messages[-1].usage  # type: ignore[union-attr]
    assert usage.output_tokens == 20
    assert usage.cache_read_tokens == 40


async def test_anthropic_requests_are_cached(
    llm: ScriptedLLM, model: GetModel, record: Record
) -> None:
    await run_turn(record, model("anthropic", "hello"), "hi")
    body = llm.log[0]["body"]
    assert body["tools"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    assert "cache_control" in str(body["system"])


@pytest.mark.parametrize("scenario", ["badjson", "unknown"])
async def test_bad_calls_are_told_to_the_model(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str, scenario: str
) -> None:
    await run_turn(record, model(provider, scenario), "go")
    assert record.said in ("sorry", "no such tool")
    assert len(llm.log) == 2
    assert not record.asked


async def test_a_wrong_key(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str
) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        await run_turn(record, model(provider, "hello", key="sk-wrong-key"), "hi")
    assert caught.value.status_code == 401
    assert "sk-wrong-key" not in str(caught.value)


@pytest.mark.parametrize(("scenario", "status"), [("limited", 429), ("broken", 500)])
async def test_failures_are_not_retried_behind_our_back(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str, scenario: str, status: int
) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        await run_turn(record, model(provider, scenario), "hi")
    assert caught.value.status_code == status
    assert len(llm.log) == 1


@pytest.mark.parametrize("scenario", ["dropped", "midcut", "miderror"])
async def test_cut_streams_end_in_an_error(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str, scenario: str
) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(ModelAPIError):
            await run_turn(record, model(provider, scenario), "hi")
    assert record.said == ("" if scenario == "dropped" else "partial ")
    assert len(llm.log) == 1


async def test_a_server_that_is_down(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str
) -> None:
    await llm.stop()
    async with asyncio.timeout(30):
        with pytest.raises(ModelAPIError, match="Connection error"):
            await run_turn(record, model(provider, "hello"), "hi")


async def test_a_cancelled_turn_closes_the_stream(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str
) -> None:
    turn = asyncio.create_task(run_turn(record, model(provider, "slow"), "hi"))
    async with asyncio.timeout(30):
        while not record.said:
            await asyncio.sleep(0.005)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        while llm.log[0]["outcome"] == "running":
            await asyncio.sleep(0.005)
    assert llm.log[0]["outcome"] == "client closed"


async def test_one_connection_serves_many_turns(
    llm: ScriptedLLM, model: GetModel, record: Record, provider: str
) -> None:
    for _ in range(3):
        await run_turn(record, model(provider, "hello"), "hi")
    assert llm.connections == 1
