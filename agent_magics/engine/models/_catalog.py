"""
The providers that are known by name, in the order in which a default is looked for.

A provider without a key is never chosen by itself. Model ids are the provider's own; any id is
passed on, those listed here are suggestions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._config import ProviderConfig

__all__ = ["BUILTIN", "Family", "ProviderSpec", "from_config"]

Family = Literal[
    "openai", "anthropic", "openrouter", "deepseek", "together", "fireworks", "ollama", "gateway"
]
"""How to talk to it: `gateway` is any server that speaks OpenAI's chat completions."""


@dataclass(frozen=True)
class ProviderSpec:
    """
    One provider.

    `key_variables` and `url_variables` are environment variables, the first that is set counts.
    Without key variables the provider needs no key. `models[0]` is the default model.
    """

    id: str
    name: str
    family: Family
    key_variables: tuple[str, ...]
    url_variables: tuple[str, ...]
    base_url: str
    models: tuple[str, ...]
    key_optional: bool = False
    fixed_models: bool = False
    source: Literal["builtin", "config"] = "builtin"


BUILTIN: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        "anthropic",
        "Anthropic",
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
        "https://api.anthropic.com",
        ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"),
    ),
    ProviderSpec(
        "openai",
        "OpenAI",
        "openai",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
        "https://api.openai.com/v1",
        ("gpt-6.1-terra", "gpt-6.1-sol", "gpt-6-luna"),
    ),
    ProviderSpec(
        "gemini",
        "Google Gemini",
        "gateway",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL",),
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("gemini-3.8-flash", "gemini-4-argon"),
    ),
    ProviderSpec(
        "openrouter",
        "OpenRouter",
        "openrouter",
        ("OPENROUTER_API_KEY",),
        ("OPENROUTER_BASE_URL",),
        "https://openrouter.ai/api/v1",
        ("anthropic/claude-sonnet-5.5", "openai/gpt-6.1-terra"),
    ),
    ProviderSpec(
        "mistral",
        "Mistral",
        "gateway",
        ("MISTRAL_API_KEY",),
        ("MISTRAL_BASE_URL",),
        "https://api.mistral.ai/v1",
        ("mistral-large-latest", "mistral-medium-latest", "mistral-small-latest"),
    ),
    ProviderSpec(
        "deepseek",
        "DeepSeek",
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        ("DEEPSEEK_BASE_URL",),
        "https://api.deepseek.com",
        ("deepseek-v4-pro", "deepseek-flash"),
    ),
    ProviderSpec(
        "xai",
        "xAI",
        "gateway",
        ("XAI_API_KEY",),
        ("XAI_BASE_URL",),
        "https://api.x.ai/v1",
        ("grok-4.7", "grok-4.3"),
    ),
    ProviderSpec(
        "groq",
        "Groq",
        "gateway",
        ("GROQ_API_KEY",),
        ("GROQ_BASE_URL",),
        "https://api.groq.com/openai/v1",
        ("openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    ),
    ProviderSpec(
        "together",
        "Together AI",
        "together",
        ("TOGETHER_API_KEY",),
        ("TOGETHER_BASE_URL",),
        "https://api.together.xyz/v1",
        ("zai-org/GLM-5.3", "openai/gpt-oss-120b"),
    ),
    ProviderSpec(
        "fireworks",
        "Fireworks AI",
        "fireworks",
        ("FIREWORKS_API_KEY",),
        ("FIREWORKS_BASE_URL",),
        "https://api.fireworks.ai/inference/v1",
        ("accounts/fireworks/models/glm-5p3", "accounts/fireworks/models/gpt-oss-120b"),
    ),
    ProviderSpec(
        "ollama",
        "Ollama",
        "ollama",
        ("OLLAMA_API_KEY",),
        ("OLLAMA_BASE_URL", "OLLAMA_HOST"),
        "http://127.0.0.1:11434/v1",
        (),
        key_optional=True,
    ),
)


def from_config(name: str, config: ProviderConfig) -> ProviderSpec:
    """The provider of a `[providers.NAME]` table, completed from the built-in one of that name."""
    known = next((spec for spec in BUILTIN if spec.id == name), None)
    default_url = "https://api.anthropic.com" if config.kind == "anthropic" else ""
    family: Family = "anthropic" if config.kind == "anthropic" else "gateway"
    if known is not None and config.base_url is None and family != "anthropic":
        family = known.family
    variables = (config.api_key_env,) if config.api_key_env else ()
    return ProviderSpec(
        id=name,
        name=known.name if known else name,
        family=family,
        key_variables=variables or (known.key_variables if known else ()),
        url_variables=() if config.base_url or not known else known.url_variables,
        base_url=config.base_url or (known.base_url if known else default_url),
        models=config.models or (known.models if known else ()),
        key_optional=known.key_optional if known and not variables else False,
        fixed_models=bool(config.models),
        source="config",
    )
