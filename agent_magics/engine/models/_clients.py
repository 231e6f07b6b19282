"""
Model objects of the providers, made on first use.

The SDKs cost up to a second of imports, so they are imported when one of their models is asked
for. They don't retry: the turn loop does, visibly.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

from .._config import ProviderKind, TimeoutsConfig
from ._errors import ProviderUnusable
from ._reply_stream import watch_replies

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic_ai.models import Model

    from ._catalog import Family

__all__ = ["Access", "ClientCache"]

WRITE_TIMEOUT = 60.0
_MAX_CLIENTS = 32
_NO_KEY = "no-key"


@dataclass(frozen=True)
class Access:
    """How to reach a provider. Its `repr` never shows the key."""

    provider_id: str
    family: Family
    base_url: str
    key: str
    timeouts: TimeoutsConfig = field(default_factory=TimeoutsConfig)

    def __repr__(self) -> str:
        return f"Access({self.provider_id!r}, {self.family!r}, {self.base_url!r})"


class ClientCache:
    """
    One SDK client per way of access, so that connections are kept open between turns.

    Use it from one event loop. The clients used longest ago are let go.
    """

    def __init__(self) -> None:
        self._providers: OrderedDict[Access, Any] = OrderedDict()

    def model(self, access: Access, model_id: str) -> Model:
        """The model `model_id` through the client for `access`."""
        provider = self._providers.get(access)
        if provider is None:
            provider = self._providers[access] = _made(access)
        self._providers.move_to_end(access)
        while len(self._providers) > _MAX_CLIENTS:
            self._providers.popitem(last=False)
        return _model(access.family, model_id, provider)

    def asker(self, access: Access) -> AsyncOpenAI | None:
        """The client of a server that may tell the windows of its models, once it was used."""
        provider = self._providers.get(access)
        tells = access.family != "anthropic" and not _is_openai(access.base_url)
        return provider.client if provider is not None and tells else None

    async def aclose(self) -> None:
        """Close all connections."""
        while self._providers:
            _, provider = self._providers.popitem()
            await provider.client.close()


def _model(family: Family, model_id: str, provider: Any) -> Model:
    match family:
        case "anthropic":
            from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings

            # The system prompt, the tools and the conversation so far are the same in every
            # step of a turn: cached they cost a tenth.
            settings = AnthropicModelSettings(
                anthropic_cache_instructions=True,
                anthropic_cache_tool_definitions=True,
                anthropic_cache_messages=True,
            )
            return AnthropicModel(model_id, provider=provider, settings=settings)
        case "openrouter":
            from pydantic_ai.models.openrouter import OpenRouterModel

            return OpenRouterModel(model_id, provider=provider)
        case "ollama":
            from pydantic_ai.models.ollama import OllamaModel

            return OllamaModel(model_id, provider=provider)
        case _:
            from pydantic_ai.models.openai import OpenAIChatModel

            return OpenAIChatModel(model_id, provider=provider)


def _made(access: Access) -> Any:
    """The provider. Raises ProviderUnusable where the environment's proxies or files forbid it."""
    try:
        return _provider(access)
    except ImportError as error:
        if "socks" not in str(error).lower():
            raise
        raise ProviderUnusable(
            f"{access.provider_id!r} can't be reached through the SOCKS proxy of the environment "
            f"({_proxy_variables('socks')}): the engine's Python has no package 'socksio'. Install "
            "it, use an http:// proxy, or list the provider's host in NO_PROXY.",
            providerID=access.provider_id,
        ) from error
    except (ValueError, httpx2.InvalidURL) as error:
        if not (named := _proxy_variables("")):
            raise
        raise ProviderUnusable(
            f"{access.provider_id!r} can't be reached: the proxy that the environment names "
            f"({named}) is not an http://, https:// or socks5:// address. Correct the variable, "
            "then restart the engine.",
            providerID=access.provider_id,
        ) from error
    except OSError as error:
        named = " or ".join(n for n in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(n))
        if not named:
            raise
        raise ProviderUnusable(
            f"{access.provider_id!r} can't be reached: the certificates that {named} names can't "
            "be read. Correct the variable, then restart the engine.",
            providerID=access.provider_id,
        ) from error


def _proxy_variables(scheme: str) -> str:
    """The names of the variables that name a proxy whose address begins so; never their values."""
    names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
    found = [
        name
        for name in (*names, *map(str.lower, names))
        if (value := os.environ.get(name, "")) and value.lower().startswith(scheme)
    ]
    return ", ".join(found)


def _provider(access: Access) -> Any:
    if access.family == "anthropic":
        return _anthropic_provider(access)
    client = _openai_client(access)
    match access.family:
        case "openai" if _is_openai(access.base_url):
            from pydantic_ai.providers.openai import OpenAIProvider

            return OpenAIProvider(openai_client=client)
        case "openrouter":
            from pydantic_ai.providers.openrouter import OpenRouterProvider

            return OpenRouterProvider(openai_client=client)
        case "deepseek":
            from pydantic_ai.providers.deepseek import DeepSeekProvider

            return DeepSeekProvider(openai_client=client)
        case "together":
            from pydantic_ai.providers.together import TogetherProvider

            return TogetherProvider(openai_client=client)
        case "fireworks":
            from pydantic_ai.providers.fireworks import FireworksProvider

            return FireworksProvider(openai_client=client)
        case "ollama":
            from pydantic_ai.providers.ollama import OllamaProvider

            return OllamaProvider(openai_client=client)
        case _:
            from ._gateway import gateway_provider

            return gateway_provider(access.provider_id, client)


def _is_openai(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def _openai_client(access: Access) -> AsyncOpenAI:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(
        api_key=access.key or _NO_KEY,
        base_url=access.base_url,
        max_retries=0,
        timeout=_timeout(access.timeouts),
    )
    if not _is_openai(access.base_url):
        # The SDK takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID: nobody else's business.
        client.organization = client.project = None
    _watch(client, access.timeouts, "openai")
    return client


def _anthropic_provider(access: Access) -> Any:
    from anthropic import AsyncAnthropic
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=access.key or _NO_KEY,
        base_url=access.base_url,
        max_retries=0,
        timeout=_timeout(access.timeouts),
    )
    _watch(client, access.timeouts, "anthropic")
    return AnthropicProvider(anthropic_client=client)


def _watch(
    client: AsyncOpenAI | AsyncAnthropic, timeouts: TimeoutsConfig, protocol: ProviderKind
) -> None:
    # Not by an HTTP client of our own: the SDK's closes itself when it is let go.
    client._client.event_hooks["response"].append(watch_replies(timeouts, protocol))


def _timeout(timeouts: TimeoutsConfig) -> httpx2.Timeout:
    # `read` counts until the reply begins; from then on `watch_replies` does.
    return httpx2.Timeout(timeouts.first_byte, connect=timeouts.connect, write=WRITE_TIMEOUT)
