"""Context windows that servers name: in their lists of models, or under paths of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._config import CompactionConfig, EngineConfig, ProviderConfig
from agent_magics.engine.models import ModelRegistry
from agent_magics.engine.models._windows import windows_of
from tests.support.engine_harness import engine_in
from tests.support.scripted_llm import ScriptedLLM
from tests.support.waiting import until

KEY = {"LAB_KEY": "sk-test"}
SCENARIOS = {"qwen": {"turns": [{"do": [{"text": "Yes."}]}]}}
LLAMA: dict[str, Any] = {"id": "qwen.gguf", "owned_by": "llamacpp"}


def listed(*entries: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"object": "model", **entry} for entry in entries]}


def config(llm: ScriptedLLM) -> EngineConfig:
    return EngineConfig(providers={"lab": ProviderConfig("openai", llm.base_url, "LAB_KEY", ())})


SERVERS: dict[str, dict[str, Any]] = {
    "vLLM": {
        "/v1/models": listed(
            {"id": "other", "owned_by": "vllm", "max_model_len": 1},
            {"id": "qwen", "owned_by": "vllm", "max_model_len": 4096},
        )
    },
    "llama.cpp": {
        "/v1/models": listed({**LLAMA, "meta": {"n_ctx_train": 131072, "n_ctx": 4096}}),
        "/props": {"default_generation_settings": {"n_ctx": 1}},
    },
    "an older llama.cpp": {
        "/v1/models": listed({**LLAMA, "meta": {"n_ctx_train": 131072}}),
        "/props": {"default_generation_settings": {"n_ctx": 4096}},
    },
    "a llama.cpp that is silent": {
        "/v1/models": listed({**LLAMA, "meta": {"n_ctx_train": 4096}}),
        "/props": {},
    },
    "LM Studio": {
        "/v1/models": listed({"id": "qwen", "owned_by": "organization_owner"}, {"id": "b"}),
        "/api/v0/models": listed(
            {"id": "qwen", "loaded_context_length": 4096, "max_context_length": 131072},
            {"id": "b", "max_context_length": 131072},
        ),
    },
    "Ollama": {
        "/v1/models": listed({"id": "qwen:latest", "owned_by": "library"}, {"id": "b"}),
        "/api/ps": {
            "models": [{"name": "qwen:latest", "context_length": 4096}, {"name": "b"}, "odd"]
        },
    },
    "OpenRouter": {
        "/v1/models": listed(
            {"id": "b", "context_length": 1},
            {"id": "qwen", "context_length": 8192, "top_provider": {"context_length": 4096}},
        )
    },
    "Groq": {"/v1/models": listed({"id": "qwen", "context_window": 4096}, {"id": "b"})},
    "Mistral": {"/v1/models": listed({"id": "qwen", "max_context_length": 4096}, {"id": "b"})},
    "Together": {"/v1/models": [{"id": "qwen", "context_length": 4096}, {"id": "b"}]},
}


@pytest.mark.parametrize("answers", SERVERS.values(), ids=SERVERS)
async def test_what_servers_say(answers: dict[str, Any]) -> None:
    async with ScriptedLLM({"scenarios": SCENARIOS, "answers": answers}) as llm:
        registry = ModelRegistry(config(llm), KEY)
        window = registry.resolve("lab/qwen").window
        assert window.size() is None
        window.ask()
        await until(lambda: window.served is not None)
        assert window.size() == 4096
        # It is known from now on, also to whoever brings the same key along.
        again = registry.with_environ(KEY).resolve("lab/qwen").window
        assert again.size() == registry.resolve("lab/qwen").window.size() == 4096
        await registry.aclose()


@pytest.mark.parametrize(
    "answer",
    [{}, [], "no", 7, {"data": [{"id": "qwen", "context_length": "a"}]}]
    + [listed({"id": "qwen", name: bad}) for name in ("max_model_len",) for bad in (0, -1, True)],
)
def test_nonsense_says_nothing(answer: Any) -> None:
    assert windows_of(answer) == {}


async def test_a_server_that_does_not_answer_is_asked_a_few_times() -> None:
    async with ScriptedLLM({"scenarios": SCENARIOS}) as llm:
        found = config(llm)
    registry = ModelRegistry(found, KEY)  # the server is gone
    window = registry.resolve("lab/qwen").window
    tasks = set()
    for _ in range(9):
        window.ask()
        (server,) = registry._shared.windows._servers.values()
        assert server._task is not None
        tasks.add(server._task)
        await until(server._task.done)
    assert len(tasks) == 3
    assert window.size() is None
    await registry.aclose()


async def test_those_whose_windows_are_public_are_not_asked() -> None:
    environ = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}
    registry = ModelRegistry(EngineConfig(), environ)
    for name in ("anthropic/claude-opus-5-5", "openai/gpt-6.1-terra", "demo/guide"):
        registry.resolve(name).window.ask()
    assert all(s._task is None for s in registry._shared.windows._servers.values())
    await registry.aclose()


async def test_a_turn_learns_it_from_its_server(tmp_path: Path) -> None:
    """The first turn doesn't wait for it; the next one makes room in time."""
    usage = {"input": 3500, "output": 10}
    turn = {"do": [{"text": "Yes."}], "usage": usage}
    script = {"scenarios": {"qwen": {"turns": [turn]}}, "answers": SERVERS["vLLM"]}
    async with (
        ScriptedLLM(script) as llm,
        engine_in(tmp_path / "x", compaction=CompactionConfig()) as harness,
    ):
        registry = harness.engine.registry = ModelRegistry(config(llm), KEY)
        session = await harness.session(model={"providerID": "lab", "id": "qwen"})
        await harness.turn(session)
        window = registry.resolve("lab/qwen").window
        await until(lambda: window.served == 4096)
        assert harness.recorder.of("session.compacted") == []
        await harness.turn(session)
        assert len(harness.recorder.of("session.compacted")) == 1
        metrics = (await harness.http.get(f"/session/{session.id}/metrics")).json()
        assert metrics["context"]["limit"] == 4096
        await registry.aclose()
