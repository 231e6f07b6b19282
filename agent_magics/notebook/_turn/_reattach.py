"""A cell that is run again in a new kernel may find that its turn still runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._session import SessionKeeper

if TYPE_CHECKING:
    from ...client import SessionHandle, Turn, TurnInput
    from ...wire import AgentEvent

__all__ = ["start_or_reattach"]


def start_or_reattach(
    keeper: SessionKeeper,
    session: SessionHandle,
    prompt: TurnInput,
    on_event: Callable[[AgentEvent], None],
    *,
    model: str | None,
    agent: str | None,
) -> Turn:
    """
    Begin a turn, or follow the running one if it is the same: then from its first event.

    It is the same if this kernel has not used the session yet, which the notebook's earlier kernel
    left behind, and the running turn has the same prompt.
    """
    if keeper.take_recalled(session.id) and isinstance(prompt, str):
        prompts = [message for message in session.get_messages() if message.info.role == "user"]
        if prompts and prompts[-1].text == prompt:
            running = session.follow(on_event=on_event, only_running=True)
            if running is not None:
                return running
    return session.start(prompt, on_event=on_event, model=model, agent=agent)
