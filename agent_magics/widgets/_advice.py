"""What to do about an error that ended a turn."""

from __future__ import annotations

from ..wire import WireError

__all__ = ["error_words"]

_NEXT_STEPS = {
    "ProviderAuthError": "Check the key of this model's provider; %agent_doctor says what is set.",
    "APIError": "Run the cell again, or choose another model with %agent_model.",
    "TurnLostError": "%agent_messages shows what has arrived.",
    "UnknownError": "Run the cell again; %agent_doctor looks for what may be wrong.",
}


def error_words(error: WireError) -> str:
    """The error's message and the next step: the server's own, else one that fits its name."""
    stated = error.data.get("nextStep")
    step = stated if isinstance(stated, str) else _NEXT_STEPS.get(error.name, "")
    if not step or step in error.message:
        return error.message
    return f"{error.message.rstrip()}\n{step}"
