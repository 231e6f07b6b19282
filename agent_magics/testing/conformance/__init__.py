"""
Does a server do what `SessionHandle` promises? A suite that anyone can point at a URL.

    python -m agent_magics.testing.conformance http://127.0.0.1:4096 --token TOKEN

or, in a test suite of one's own:

    outcomes = await run(AsyncClient(url, token=token))
    assert not [outcome for outcome in outcomes if outcome.status == "failed"]

Every check works in sessions of its own and ends them. Nothing is assumed of the model but that it
answers; for the checks of permissions it must be given a prompt that makes it ask for one
(`Prompts`). The prompts that stand there by themselves fit the model `demo/guide`.
"""

from __future__ import annotations

from ._kit import Check, Kit, NonConformance, Outcome, Prompts
from ._run import CHECKS, run

__all__ = ["CHECKS", "Check", "Kit", "NonConformance", "Outcome", "Prompts", "run"]
