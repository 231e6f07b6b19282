"""What a turn may use: steps, tokens and money, and the clean end when it is used up."""

from __future__ import annotations

from agent_magics.wire import TokensJSON

from ._config import LimitsConfig
from ._errors import TurnLimit
from ._sessions import all_tokens

__all__ = ["Spending"]


class Spending:
    """What one turn has used so far. `cost` in US dollars, without replies of unknown price."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self.steps = 0
        self.tokens = 0
        self.cost = 0.0

    def add(self, tokens: TokensJSON, cost: float | None, *, steps: int = 1) -> None:
        """A reply of the model."""
        self.steps += steps
        self.tokens += all_tokens(tokens)
        self.cost += cost or 0.0

    def check(self) -> None:
        """Raises TurnLimit when there must be no further step."""
        limits = self._limits
        if limits.steps is not None and self.steps >= limits.steps:
            raise self._reached("steps", limits.steps, f"{limits.steps} requests to the model")
        if limits.tokens is not None and self.tokens >= limits.tokens:
            raise self._reached("tokens", limits.tokens, f"{limits.tokens} tokens")
        if limits.cost is not None and self.cost >= limits.cost:
            raise self._reached("cost", limits.cost, f"${limits.cost:g}")

    def _reached(self, name: str, value: float, words: str) -> TurnLimit:
        return TurnLimit(
            f"The turn was ended at its limit of {words}; what it did is kept, and the next prompt "
            f"goes on from there. The limit is {name!r} under [limits] in {self._limits.source}, "
            "which is read when the engine starts.",
            limit=name,
            value=value,
        )
