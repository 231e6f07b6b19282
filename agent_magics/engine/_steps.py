"""The end of one request to the model: what it took, counted everywhere it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai.messages import ModelResponse

from agent_magics.wire import MessageInfoJSON, PartJSON

from ._parts import new_part, response_tokens
from ._reply_end import finish_reason
from ._sessions import Session, add_tokens, all_tokens
from .models import price

if TYPE_CHECKING:
    from ._services import Services
    from .models import ResolvedModel

__all__ = ["finish_step"]


def finish_step(
    services: Services,
    session: Session,
    info: MessageInfoJSON,
    model: ResolvedModel,
    response: ModelResponse,
) -> PartJSON:
    """Add a reply's tokens and price to its message and to the session; the part that says so."""
    tokens, cost = response_tokens(response), price(response)
    usage = session.usage
    add_tokens(info["tokens"], tokens)
    add_tokens(usage.tokens, tokens)
    info["cost"] = _sum(info["cost"], cost)
    usage.cost = _sum(usage.cost, cost)
    usage.steps += 1
    usage.context_used = all_tokens(tokens) or usage.context_used
    usage.context_limit = model.window.size(services.compaction.context_limit)
    info["finish"] = finish_reason(response)
    part = new_part(
        session.id,
        info["id"],
        "step-finish",
        reason=info["finish"],
        tokens=tokens,
        cost=cost,
        context={"used": usage.context_used, "limit": usage.context_limit},
    )
    with services.store.group():
        services.messages.save_part(part)
        services.messages.save_info(info)
        services.sessions.save(session)
    return part


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more
