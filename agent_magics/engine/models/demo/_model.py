"""The demo model as a pydantic-ai model."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ModelResponseStreamEvent,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from ._route import next_step
from ._steps import Step

__all__ = ["GuideModel"]

DEFAULT_DELAY = 0.015
"""Seconds between words."""
_PIECES = re.compile(r"\S+\s*|\s+")
_ARGUMENT_CHUNK = 32


class GuideModel(Model):
    """
    The built-in demo model. Stateless; one object serves all sessions.

    `delay` is the pause between words, in seconds.
    """

    def __init__(self, delay: float = DEFAULT_DELAY) -> None:
        super().__init__(
            profile=ModelProfile(supports_image_input=False, supports_document_input=False)
        )
        self._delay = delay

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> GuideModel:
        """With the pace that AGENT_MAGICS_DEMO_DELAY sets, in seconds; nonsense is ignored."""
        try:
            delay = float(environ.get("AGENT_MAGICS_DEMO_DELAY", ""))
        except ValueError:
            return cls()
        return cls(delay if 0 <= delay <= 1 else DEFAULT_DELAY)

    @property
    def model_name(self) -> str:
        return "guide"

    @property
    def system(self) -> str:
        return "demo"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        step = next_step(messages, _tool_names(model_request_parameters))
        if step.failure:
            raise ModelAPIError(self.model_name, step.failure)
        calls = [ToolCallPart(c.tool, c.arguments, tool_call_id=_call_id()) for c in step.calls]
        text = [TextPart(step.spoken)] if step.text else []
        return ModelResponse(
            parts=[*text, *calls],
            usage=_usage(messages, step),
            model_name=self.model_name,
            provider_name=self.system,
            finish_reason="tool_call" if calls else "stop",
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        step = next_step(messages, _tool_names(model_request_parameters))
        yield _GuideStream(
            model_request_parameters=model_request_parameters,
            step=step,
            delay=self._delay,
            expected_usage=_usage(messages, step),
        )


@dataclass
class _GuideStream(StreamedResponse):
    """Says one step, word by word."""

    step: Step
    delay: float
    expected_usage: RequestUsage
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        # Known from the start, so that an aborted reply has its tokens too.
        self._usage = self.expected_usage
        for event in self._events():
            yield event
            if self.delay:
                await asyncio.sleep(self.delay)
        if self.step.failure:
            raise ModelAPIError(self.model_name, self.step.failure, in_stream=True)
        self.finish_reason = "tool_call" if self.step.calls else "stop"

    def _events(self) -> Iterator[ModelResponseStreamEvent]:
        for piece in _PIECES.findall(self.step.spoken):
            yield from self._parts_manager.handle_text_delta(vendor_part_id="text", content=piece)
        for index, call in enumerate(self.step.calls):
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            pieces = range(0, len(arguments), _ARGUMENT_CHUNK)
            name: str | None = call.tool
            call_id: str | None = _call_id()
            for start in pieces:
                event = self._parts_manager.handle_tool_call_delta(
                    vendor_part_id=index,
                    tool_name=name,
                    args=arguments[start : start + _ARGUMENT_CHUNK],
                    tool_call_id=call_id,
                )
                name = call_id = None
                if event is not None:
                    yield event

    async def close_stream(self) -> None:
        """There is no connection to close."""

    @property
    def model_name(self) -> str:
        return "guide"

    @property
    def provider_name(self) -> str:
        return "demo"

    @property
    def provider_url(self) -> None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self.started


def _tool_names(parameters: ModelRequestParameters) -> frozenset[str]:
    return frozenset(tool.name for tool in parameters.function_tools)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:16]}"


def _usage(messages: list[ModelMessage], step: Step) -> RequestUsage:
    """A rough count: four characters are a token."""
    sent = len(ModelMessagesTypeAdapter.dump_json(messages))
    calls = json.dumps([call.arguments for call in step.calls])
    return RequestUsage(
        input_tokens=sent // 4 + 1, output_tokens=(len(step.text) + len(calls)) // 4 + 1
    )
