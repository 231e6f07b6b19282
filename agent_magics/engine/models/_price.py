"""What a reply cost and how much a model can hold, where that is publicly known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse

__all__ = ["price"]


def price(response: ModelResponse) -> float | None:
    """The price of `response` in US dollars; None when the model's price is not known."""
    if response.provider_name in FREE_PROVIDERS:
        return 0.0
    if not response.model_name or not response.usage.has_values():
        return None
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError):
        return None


FREE_PROVIDERS = frozenset({"demo", "local", "ollama"})
"""Providers whose models run on the user's own machine."""
