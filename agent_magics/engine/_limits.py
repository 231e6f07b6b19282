"""What a turn may use: steps, tokens and money, and the clean end when it is used up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_magics.wire import TokensJSON

from ._config import LimitsConfig
from ._errors import TurnLimit
from ._sessions import all_tokens
from .models import is_priced

if TYPE_CHECKING:
    from .models import ResolvedModel

__all__ = ["Spending", "refuse_unknown_price"]


def refuse_unknown_price(limits: LimitsConfig, model: ResolvedModel) -> None:
    """Raises TurnLimit when there is a limit of cost and the model's price is not known."""
    if limits.cost is not None and not is_priced(model.model):
        raise _unknown_price(limits, model.name)


class Spending:
    """What one turn with the model `name` has used so far; `cost` in US dollars."""

    def __init__(self, limits: LimitsConfig, name: str) -> None:
        self._limits = limits
        self._name = name
        self.steps = 0
        self.tokens = 0
        self.cost: float | None = 0.0
        """None once a price was unknown."""

    def add(self, tokens: TokensJSON, cost: float | None, *, steps: int = 1) -> None:
        """A reply of the model, or what a sub-agent used."""
        self.steps += steps
        self.tokens += all_tokens(tokens)
        self.cost = None if self.cost is None or cost is None else self.cost + cost

    def check(self) -> None:
        """Raises TurnLimit when there must be no further step."""
        limits = self._limits
        if limits.steps is not None and self.steps >= limits.steps:
            raise self._reached("steps", limits.steps, f"{limits.steps} requests to the model")
        if limits.tokens is not None and self.tokens >= limits.tokens:
            raise self._reached("tokens", limits.tokens, f"{limits.tokens} tokens")
        if limits.cost is not None and self.cost is None:
            raise _unknown_price(limits, self._name)
        if limits.cost is not None and self.cost is not None and self.cost >= limits.cost:
            raise self._reached("cost", limits.cost, f"${limits.cost:g}")

    def _reached(self, name: str, value: float, words: str) -> TurnLimit:
        return TurnLimit(
            f"The turn was ended at its limit of {words}; what it did is kept, and the next prompt "
            f"goes on from there. {_where(name, self._limits)}",
            limit=name,
            value=value,
        )


def _unknown_price(limits: LimitsConfig, model: str) -> TurnLimit:
    data: dict[str, Any] = {"limit": "cost", "value": limits.cost, "model": model}
    return TurnLimit(
        f"A turn may cost ${limits.cost:g}, but what {model} costs is not known, so that nobody "
        "could keep that limit. Choose a model whose price is known, or limit 'tokens' instead. "
        f"{_where('cost', limits)}",
        **data,
    )


def _where(name: str, limits: LimitsConfig) -> str:
    return (
        f"The limit is {name!r} under [limits] in {limits.source}, which is read when the engine "
        "starts."
    )
