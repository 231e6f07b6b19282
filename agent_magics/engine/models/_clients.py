"""
Model objects of the providers, made on first use.

The SDKs cost up to a second of imports, so they are imported when one of their models is asked
for. They don't retry: the turn loop does, visibly.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
import time
import urllib.request
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

from agent_magics.wire import is_loopback

from .._config import ProviderKind, TimeoutsConfig
from .._http import routed
from ._errors import ProviderUnusable
from ._reply_stream import ASKED, Silence, watch_replies

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic_ai.models import Model

    from ._catalog import Family

__all__ = ["Access", "ClientCache"]

WRITE_TIMEOUT = 60.0
_PROXIES = ("http", "https", "socks5", "socks5h")
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
    if complaint := _complaint(access.base_url):
        raise _unusable(access, complaint)
    try:
        return _provider(access)
    except httpx2.InvalidURL as error:
        raise ProviderUnusable(
            f"The base_url of {access.provider_id!r} is no usable address. Correct it.",
            providerID=access.provider_id,
        ) from error
    except ssl.SSLError as error:
        named = _named("SSL_CERT_FILE", "SSL_CERT_DIR")
        raise _unusable(access, f"{named} names a file that holds no certificates") from error


def _complaint(base_url: str) -> str:
    """What is wrong with the environment that the SDKs' HTTP clients read; else empty."""
    proxies = {} if is_loopback(base_url) else urllib.request.getproxies()
    for name, value in proxies.items():
        if name not in ("http", "https", "all"):
            continue
        variable = _named(f"{name.upper()}_PROXY", f"{name}_proxy")
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            scheme, whole = parts.scheme, bool(parts.hostname) and parts.port != 0
        except ValueError:
            scheme, whole = "", False
        if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            return f"{variable} names a SOCKS proxy, for which the package 'socksio' is missing"
        if scheme not in _PROXIES or not whole:
            return f"{variable} is not an http://, https:// or socks5:// address"
    file = os.environ.get("SSL_CERT_FILE", "")
    if file and not Path(file).is_file():
        return f"SSL_CERT_FILE names a file that does not exist ({file})"
    return ""


def _named(*names: str) -> str:
    """The first of these variables that is set."""
    return next((name for name in names if os.environ.get(name)), names[0])


def _unusable(access: Access, complaint: str) -> ProviderUnusable:
    return ProviderUnusable(
        f"No requests to {access.provider_id!r} are possible: {complaint}. Correct that where the "
        "engine was started, then restart it.",
        providerID=access.provider_id,
    )


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
        timeout=_timeout(access.timeouts),
        http_client=_http_client(DefaultAsyncHttpxClient, access),
    )
    if not _is_openai(access.base_url):
        # The SDK takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID: nobody else's business.
        client.organization = client.project = None
    _watch(client, access.timeouts, "openai")
    return client


def _anthropic_provider(access: Access) -> Any:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=access.key or _NO_KEY,
        base_url=access.base_url,
        max_retries=0,
        timeout=_timeout(access.timeouts),
        http_client=_http_client(DefaultAsyncHttpxClient, access),
    )
    _watch(client, access.timeouts, "anthropic")
    return AnthropicProvider(anthropic_client=client)


def _watch(
    client: AsyncOpenAI | AsyncAnthropic, timeouts: TimeoutsConfig, protocol: ProviderKind
) -> None:
    client._client.event_hooks["response"].append(watch_replies(timeouts, protocol))


def _timeout(timeouts: TimeoutsConfig) -> httpx2.Timeout:
    # `read` counts until the reply begins; from then on `watch_replies` does.
    return httpx2.Timeout(timeouts.first_byte, connect=timeouts.connect, write=WRITE_TIMEOUT)


def _http_client(kind: Any, access: Access) -> Any:
    """An SDK's own kind of HTTP client, with what `_patient` adds to it."""
    # no other encoding is asked for, whatever packages are installed: these are undone by us
    headers = {"accept-encoding": "gzip, deflate"}
    client = _patient(kind)(headers=headers, **routed(httpx2, access.base_url))
    client.setting = access.timeouts.key
    return client


@cache
def _patient(kind: Any) -> Any:
    """
    It closes itself when it is let go, as the SDK's do, and its `read` timeout holds for the whole
    head of a reply: a server that sends it byte by byte, or "go on" for ever, is silent, too.
    """

    async def send(self: Any, request: httpx2.Request, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        limit: float | None = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(None) as patience:

                async def trace(event: str, _info: Any) -> None:
                    if event.endswith("send_request_body.complete"):
                        request.extensions[ASKED] = time.monotonic()
                        patience.reschedule(None if limit is None else loop.time() + limit)
                    elif event.endswith("receive_response_headers.complete"):
                        patience.reschedule(None)

                request.extensions = {**request.extensions, "trace": trace}
                return await kind.send(self, request, **options)
        except (TimeoutError, httpx2.ReadTimeout) as error:
            if limit is None or (isinstance(error, TimeoutError) and not patience.expired()):
                raise
            raise Silence("first_byte", limit, self.setting) from None

    def __del__(self: Any) -> None:  # noqa: N807
        # without a loop the connections are gone, too; without attributes it was never made
        with suppress(RuntimeError, AttributeError):
            if not self.is_closed:
                closing = asyncio.get_running_loop().create_task(self.aclose())
                _CLOSING.add(closing)
                closing.add_done_callback(_CLOSING.discard)

    return type(kind.__name__, (kind,), {"__del__": __del__, "send": send})
