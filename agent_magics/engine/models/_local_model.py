"""The local model as a pydantic-ai model. Imports the `openai` package."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
from openai import AsyncOpenAI
from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import FinishReason, ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.settings import ModelSettings

from .._config import TimeoutsConfig
from ._gateway import gateway_provider
from ._local import LocalServer, LocalServerError
from ._local_server import CONTEXT
from ._reply_stream import watch_replies

__all__ = ["LocalModel"]

_TIMEOUTS = TimeoutsConfig()
_PROFILE = OpenAIModelProfile(
    context_window=CONTEXT,
    supports_image_input=False,
    supports_document_input=False,
    openai_supports_strict_tool_definition=False,
)
# A base model never ends its turn by itself, and in parallel it calls one tool for ever.
_SETTINGS = ModelSettings(
    stop_sequences=["\nUser:", "\n\n"],
    max_tokens=160,
    temperature=0.0,
    frequency_penalty=0.5,
    parallel_tool_calls=False,
)


class _LocalReply(OpenAIStreamedResponse):
    """A base model never ends its reply by itself: its limit of tokens is its usual end."""

    def _map_finish_reason(self, key: Any) -> FinishReason | None:
        return super()._map_finish_reason("stop" if key == "length" else key)


class LocalModel(OpenAIChatModel):
    """Starts its server before the first request and after a crash."""

    def __init__(self, model_id: str, server: LocalServer) -> None:
        self._server = server
        self._client_of_server = AsyncOpenAI(
            api_key="not-started",
            base_url="http://127.0.0.1:9/v1",
            max_retries=0,
            # A proxy in the environment has no business with this machine's own server.
            http_client=httpx2.AsyncClient(
                trust_env=False,
                timeout=httpx2.Timeout(_TIMEOUTS.first_byte, connect=_TIMEOUTS.connect),
                event_hooks={"response": [watch_replies(_TIMEOUTS, "openai")]},
            ),
        )
        super().__init__(
            model_id,
            provider=gateway_provider("local", self._client_of_server),
            profile=_PROFILE,
            settings=_SETTINGS,
        )

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        await self._ready()
        return await super().request(
            _plain(messages), model_settings, _plain_parameters(model_request_parameters)
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        await self._ready()
        async with super().request_stream(
            _plain(messages),
            model_settings,
            _plain_parameters(model_request_parameters),
            run_context,
        ) as stream:
            yield stream

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _LocalReply

    async def _ready(self) -> None:
        try:
            base_url, key = await self._server.ensure()
        except (LocalServerError, OSError) as error:
            message = f"The local model did not start: {error}"
            raise ModelAPIError(self.model_name, message) from None  # no model server's problem
        self._client_of_server.base_url = base_url
        self._client_of_server.api_key = key


def _plain(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Without the system prompt: it would take seconds to read and change nothing."""
    return [
        replace(message, instructions=None) if isinstance(message, ModelRequest) else message
        for message in messages
    ]


def _plain_parameters(parameters: ModelRequestParameters) -> ModelRequestParameters:
    return replace(parameters, instruction_parts=None)
