"""
A provider for servers that speak OpenAI's chat completions but are not OpenAI.

Imports the `openai` package.
"""

from __future__ import annotations

from openai import AsyncOpenAI
from pydantic_ai.profiles import ModelProfile, merge_profile
from pydantic_ai.profiles.google import google_model_profile
from pydantic_ai.profiles.grok import grok_model_profile
from pydantic_ai.profiles.groq import groq_model_profile
from pydantic_ai.profiles.mistral import mistral_model_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile, openai_model_profile
from pydantic_ai.providers.openai import OpenAIProvider

__all__ = ["gateway_provider"]

_PROFILES = {
    "gemini": google_model_profile,
    "groq": groq_model_profile,
    "mistral": mistral_model_profile,
    "xai": grok_model_profile,
}


class _GatewayProvider(OpenAIProvider):
    """Under its own name, so that what only OpenAI understands is not sent to it."""

    def __init__(self, name: str, client: AsyncOpenAI) -> None:
        super().__init__(openai_client=client)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @staticmethod
    def model_profile(model_name: str) -> ModelProfile | None:
        # Strict tool schemas are OpenAI's own; many compatible servers refuse the field.
        plain = OpenAIModelProfile(openai_supports_strict_tool_definition=False)
        return merge_profile(openai_model_profile(model_name), plain)


def gateway_provider(name: str, client: AsyncOpenAI) -> OpenAIProvider:
    """The provider called `name` that `client` reaches."""
    if name not in _PROFILES:
        return _GatewayProvider(name, client)
    vendor = _PROFILES[name]

    class _VendorProvider(_GatewayProvider):
        @staticmethod
        def model_profile(model_name: str) -> ModelProfile | None:
            return merge_profile(_GatewayProvider.model_profile(model_name), vendor(model_name))

    return _VendorProvider(name, client)
