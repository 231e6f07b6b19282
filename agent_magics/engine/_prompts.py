"""What clients ask for: new sessions, and prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_magics.wire import Unattended

from ._attachments import PromptPart

__all__ = ["NewSession", "Prompt"]


@dataclass(frozen=True)
class NewSession:
    """What a client may say about a new session."""

    title: str | None = None
    parent_id: str | None = None
    model: dict[str, str] | None = None
    sandbox: str = "auto"
    network: bool | tuple[str, ...] | None = None
    """Whether it has one, or the hosts it may reach beyond the configuration's; None: as there."""
    python: dict[str, Any] | None = None
    rules: list[dict[str, str]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    agent: str | None = None
    agent_config: dict[str, Any] | None = None
    limits: list[list[dict[str, str]]] = field(default_factory=list)
    bounds: dict[str, int | float] = field(default_factory=dict)
    """Limits of its container that are lower than the configuration's."""
    shares_container: bool = False
    """Whether it works in its parent's container."""
    started_by: str | None = None
    """The prompt of its parent in whose turn it is started."""

    @property
    def model_name(self) -> str | None:
        """`provider/model-id`."""
        return f"{self.model['providerID']}/{self.model['id']}" if self.model else None


@dataclass(frozen=True)
class Prompt:
    """
    A checked prompt. `model` is `provider/model-id` or None for the session's; so is `agent`.

    `environ` has the caller's model credentials. They are used for this turn only. `unattended`
    is the answer where the rules say "ask". `on_call` gets a line for each tool call.
    `command` is the `{name, arguments}` of the command that the prompt was made from.
    """

    parts: Sequence[PromptPart]
    message_id: str | None = None
    model: str | None = None
    agent: str | None = None
    unattended: Unattended = "ask"
    on_call: Callable[[str], None] | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: Mapping[str, Any] | None = None
