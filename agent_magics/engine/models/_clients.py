"""
Model objects of the providers, made on first use.

The SDKs cost up to a second of imports, so they are imported when one of their models is asked
for. They don't retry: the turn loop does, visibly.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._http import routed

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic_ai.models import Model

    from ._catalog import Family

__all__ = ["Access", "ClientCache"]

CONNECT_TIMEOUT = 15.0
READ_TIMEOUT = 300.0
"""Seconds without a byte; models that reason may be silent for minutes."""
WRITE_TIMEOUT = 60.0
_MAX_CLIENTS = 32
_NO_KEY = "no-key"
_CLOSING: set[asyncio.Task[None]] = set()
"""Clients that are being closed after they were let go."""


@dataclass(frozen=True)
class Access:
    """How to reach a provider. Its `repr` never shows the key."""

    provider_id: str
    family: Family
    base_url: str
    key: str

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
            provider = self._providers[access] = _provider(access)
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
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    client = AsyncOpenAI(
        api_key=access.key or _NO_KEY,
        base_url=access.base_url,
        max_retries=0,
        timeout=_timeout(),
        http_client=_http_client(DefaultAsyncHttpxClient, access.base_url),
    )
    if not _is_openai(access.base_url):
        # The SDK takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID: nobody else's business.
        client.organization = client.project = None
    _join_deltas(client)
    return client


def _anthropic_provider(access: Access) -> Any:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=access.key or _NO_KEY,
        base_url=access.base_url,
        max_retries=0,
        timeout=_timeout(),
        http_client=_http_client(DefaultAsyncHttpxClient, access.base_url),
    )
    _join_deltas(client)
    return AnthropicProvider(anthropic_client=client)


def _join_deltas(client: AsyncOpenAI | AsyncAnthropic) -> None:
    from ._joining import join_deltas

    client._client.event_hooks["response"].append(join_deltas)


def _http_client(kind: Any, base_url: str) -> Any:
    """An SDK's own kind of HTTP client, which closes itself when it is let go, as the SDK's do."""
    import httpx2

    return _closing(kind)(**routed(httpx2, base_url))


@cache
def _closing(kind: Any) -> Any:
    def __del__(self: Any) -> None:  # noqa: N807
        # without a loop the connections are gone, too; without attributes it was never made
        with suppress(RuntimeError, AttributeError):
            if not self.is_closed:
                closing = asyncio.get_running_loop().create_task(self.aclose())
                _CLOSING.add(closing)
                closing.add_done_callback(_CLOSING.discard)

    return type(kind.__name__, (kind,), {"__del__": __del__})


def _timeout() -> Any:
    import httpx2

    return httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT)
