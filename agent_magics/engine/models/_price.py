"""What a reply cost and how much a model can hold, where that is publicly known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model

__all__ = ["is_priced", "price"]


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


def is_priced(model: Model) -> bool:
    """Whether the price of the model's replies is known, as far as its name tells."""
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.usage import RequestUsage

    reply = ModelResponse(
        parts=[],
        usage=RequestUsage(input_tokens=1, output_tokens=1),
        model_name=model.model_name,
        provider_name=model.system,
        provider_url=model.base_url,
    )
    return price(reply) is not None


FREE_PROVIDERS = frozenset({"demo", "local", "ollama"})
"""Providers whose models run on the user's own machine."""
