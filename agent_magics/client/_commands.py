"""`run_command()`, for both faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent_magics.wire import SendResult

from ._callbacks import StreamCallbacks
from ._command_call import CommandArgs, CommandCall, TurnInput, command_text

if TYPE_CHECKING:
    from ._async_turn import AsyncTurnStream
    from ._sync_session import TurnStream

__all__ = ["AsyncCommands", "Commands"]


class AsyncCommands:
    """The part of `AsyncSessionHandle` that is about commands."""

    if TYPE_CHECKING:

        def stream(
            self, prompt: TurnInput, *, model: str | None = None, agent: str | None = None
        ) -> AsyncTurnStream: ...

        async def _follow(
            self, stream: AsyncTurnStream, callbacks: StreamCallbacks
        ) -> SendResult: ...

    async def run_command(
        self,
        name: str,
        args: CommandArgs = None,
        callbacks: StreamCallbacks | None = None,
        *,
        model: str | None = None,
        agent: str | None = None,
        **single: Callable[..., Any],
    ) -> str:
        """
        Run a command as a turn and return the agent's text. Callbacks as in `send()`.

        `args` are values by name (`{"path": "./src"}`), by position, or one line as a person
        types it. `model` and `agent` win over the command's own. Raises `CommandNotFound`,
        `CommandArguments`, what `send()` raises, and `CommandFailed` when the turn fails later.
        """
        chosen, call = StreamCallbacks.of(callbacks, **single), CommandCall(name, args)
        stream = self.stream(call, model=model, agent=agent)
        return command_text(call, await self._follow(stream, chosen))


class Commands:
    """The part of `SessionHandle` that is about commands."""

    if TYPE_CHECKING:

        def stream(
            self, prompt: TurnInput, *, model: str | None = None, agent: str | None = None
        ) -> TurnStream: ...

        def _follow(self, turn: TurnStream, callbacks: StreamCallbacks) -> SendResult: ...

    def run_command(
        self,
        name: str,
        args: CommandArgs = None,
        callbacks: StreamCallbacks | None = None,
        *,
        model: str | None = None,
        agent: str | None = None,
        **single: Callable[..., Any],
    ) -> str:
        """
        Run a command as a turn and return the agent's text. Callbacks as in `send()`.

        Raises `CommandNotFound`, `CommandArguments`, and `CommandFailed` when the turn fails.
        """
        chosen, call = StreamCallbacks.of(callbacks, **single), CommandCall(name, args)
        stream = self.stream(call, model=model, agent=agent)
        return command_text(call, self._follow(stream, chosen))
