"""The engine's hooks into the agent loop: tools, permissions, tool parts, visible retries."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ModelRetry, RetryModelRequest, ToolFailed
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.tools import ToolDefinition

from agent_magics.sandbox import SandboxError, SandboxGone, SandboxUnavailable

from ._calls import call_arguments, complaints
from ._errors import log_unforeseen
from ._mcp import declared
from ._turn import ABORTED, Turn

__all__ = ["TurnHooks"]

_GONE = (
    "The session's container was stopped while this ran ({}); a new one starts with the next call. "
    "Unless that says otherwise, files in /workspace are kept; running processes are not."
)


class TurnHooks(AbstractCapability[Turn]):
    """Wraps every tool call and every failed request of a turn."""

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Turn],
        *,
        call: ToolCallPart,
        tool_def: Any,
        args: Any,
        handler: Any,
    ) -> Any:
        """
        Ask, run, and keep the call's part up to date.

        Whatever a tool raises ends its call only: the model is told and the turn goes on. The
        exceptions are an abort and a container that can't start.
        """
        turn, arguments = ctx.deps, call_arguments(call)
        part = turn.find(call)
        try:
            answer = await turn.permitted(part, arguments, read_only=bool(declared(tool_def)))
            if not answer.allowed:
                raise ToolFailed(answer.message)
            await turn.begin_call(part, arguments)
            result = turn.noting(await handler(args))
            await turn.end_call(part, result)
        except asyncio.CancelledError:
            turn.fail_call(part, ABORTED)
            raise
        except (ToolFailed, ModelRetry) as error:
            turn.fail_call(part, str(error))
            raise
        except SandboxUnavailable as error:
            turn.fail_call(part, error.reason)
            raise
        except Exception as error:
            if _is_control_flow(error):
                cause = error.__cause__
                if isinstance(cause, ValidationError):
                    turn.fail_call(part, f"Wrong arguments: {complaints(cause)}")
                else:
                    turn.fail_call(part, str(cause or error))
                raise
            message = _explain(error, part["tool"])
            turn.fail_call(part, message)
            raise ToolFailed(message) from error
        return result

    async def prepare_tools(
        self, ctx: RunContext[Turn], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        """The tools of the turn's agent; what is not among them can't be called either."""
        return ctx.deps.offered_tools(tool_defs)

    async def on_model_request_error(
        self, ctx: RunContext[Turn], *, request_context: Any, error: Exception
    ) -> ModelResponse:
        if await ctx.deps.before_retry(error):
            raise RetryModelRequest
        raise error


def _is_control_flow(error: Exception) -> bool:
    """The loop's own exceptions, such as a retry that the tool asked for."""
    return type(error).__module__.startswith("pydantic_ai")


def _explain(error: Exception, tool: str) -> str:
    if isinstance(error, SandboxGone):
        return _GONE.format(error)
    if isinstance(error, SandboxError | OSError):
        return str(error) or type(error).__name__
    ref = log_unforeseen(error, f"running the tool {tool}")
    return f"The tool failed unexpectedly ({type(error).__name__}, {ref})."
