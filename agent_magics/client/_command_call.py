"""A call of a command, and what its turn means to whoever called it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_magics.wire import SendResult

from ._errors import BadRequest, CommandFailed
from ._inputs import PromptInput

__all__ = ["CommandArgs", "CommandCall", "TurnInput", "command_text"]

CommandArgs = str | Sequence[Any] | Mapping[str, Any] | None
"""One line as a person types it, values by position, or values by name."""


@dataclass(frozen=True, slots=True)
class CommandCall:
    """
    A command, for `stream()` and `start()`, which take it like a prompt.

    Making one raises `BadRequest` for an empty name.
    """

    name: str
    args: CommandArgs = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise BadRequest("The command has no name.")

    def to_json(self) -> dict[str, Any]:
        """Values that JSON doesn't know, such as a `Path`, are sent as their text."""
        return {"command": self.name, "arguments": _plain(self.args)}


TurnInput = PromptInput | CommandCall
"""What begins a turn."""


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)


def command_text(call: CommandCall, result: SendResult) -> str:
    """The text of the command's turn. Raises `CommandFailed`."""
    if result.error is not None:
        message = f"The command {call.name} failed: {result.error.message}"
        raise CommandFailed(message, result)
    return result.text
