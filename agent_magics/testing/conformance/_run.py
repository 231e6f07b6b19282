"""All checks, and how they are run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from agent_magics.client import AgentError, AsyncClient

from . import _agents, _container, _events, _history, _permissions, _results, _sessions, _turns
from ._kit import Check, Kit, NonConformance, NotTested, Outcome, Prompts

__all__ = ["CHECKS", "run"]

PATIENCE = 120.0
"""Seconds that one check may take."""

CHECKS: tuple[Check, ...] = (
    *_sessions.check,
    *_turns.check,
    *_permissions.check,
    *_history.check,
    *_agents.check,
    *_container.check,
    *_results.check,
    *_events.check,
)
"""All checks, in the order in which they make sense to read."""


async def run(
    client: AsyncClient,
    *,
    prompts: Prompts | None = None,
    model: str | None = None,
    only: Iterable[str] = (),
    on_outcome: Callable[[Outcome], Any] = lambda outcome: None,
) -> list[Outcome]:
    """
    Run the checks, or those named in `only`, one after the other.

    `model` is `provider/model-id`; without it the server's own choice answers. Raises
    `ValueError` for an unknown name, `ConnectionFailed` when there is no server.
    """
    names = list(only)
    if unknown := set(names) - {each.name for each in CHECKS}:
        raise ValueError(f"unknown checks: {', '.join(sorted(unknown))}")
    await client.health()
    kit = Kit(client, prompts or Prompts(), model)
    outcomes = []
    for each in CHECKS:
        if not names or each.name in names:
            outcomes.append(await _outcome(each, kit))
            on_outcome(outcomes[-1])
    return outcomes


async def _outcome(each: Check, kit: Kit) -> Outcome:
    try:
        async with asyncio.timeout(PATIENCE):
            await each.test(kit)
    except NotTested as error:
        return Outcome(each, "skipped", str(error))
    except NonConformance as error:
        return Outcome(each, "failed", str(error))
    except TimeoutError:
        return Outcome(each, "failed", f"not done after {PATIENCE:g} s")
    except AgentError as error:
        return Outcome(each, "failed", f"an error that should not come: {error!r}")
    except Exception as error:  # an answer so wrong that the check stumbled over it
        return Outcome(each, "failed", f"an unusable answer: {error!r}")
    return Outcome(each, "passed")
