"""
Attacks from inside a container, as a program of its own, so that any user can run it.

It uses the standard library only. Every check attacks from a real container on behalf of the user
who runs the program and raises AssertionError when the attack works. Result: one JSON object on
stdout, from the name of each check to what went wrong, or null.

    python -m tests.support.attacks [--provider NAME] DIRECTORY [CHECK ...]

DIRECTORY is one of one's own; HOME must be another's than the user's, ATTACK_DECOY must be set.
With the provider "local", which isolates nothing, the attacks work: so it is seen that they would.
"""

from __future__ import annotations

from . import (
    archives,
    bombs,
    environment,
    files,
    kernel,
    network,
    prefixes,
    processes,
    protocol,
    races,
    sockets,
    terminals,
)
from .stand import CHECKS, HARMLESS, Check, category

__all__ = ["CATEGORIES", "CHECKS", "HARMLESS", "Check", "category"]

CATEGORIES = [
    module.__name__.rpartition(".")[2]
    for module in (
        *(
            environment,
            files,
            prefixes,
            processes,
            kernel,
            network,
            sockets,
            terminals,
            bombs,
            races,
        ),
        *(archives, protocol),
    )
]
