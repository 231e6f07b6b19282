"""Ids of messages, chosen by the client so that it can ask about a prompt whose answer was lost."""

from __future__ import annotations

import itertools
import secrets
import time

__all__ = ["new_message_id", "new_opencode_message_id"]

_counter = itertools.count()


def new_message_id() -> str:
    """`msg_` + 12 hex digits of the time in ms + 4 of a counter + 8 random ones."""
    now = time.time_ns() // 1_000_000
    return f"msg_{now:012x}{next(_counter) & 0xFFFF:04x}{secrets.token_hex(4)}"


def new_opencode_message_id() -> str:
    """
    An id in opencode's own scheme.

    It compares ids as text to tell which message is later, so a foreign scheme would break its
    turn loop.
    """
    now = time.time_ns() // 1_000_000
    stamp = (now * 0x1000 + (next(_counter) & 0xFFF)) & 0xFFFF_FFFF_FFFF
    return f"msg_{stamp:012x}{secrets.token_hex(7)}"
