"""Identifiers that sort by their time of creation, and the clock they share."""

from __future__ import annotations

import itertools
import os
import re
import time

__all__ = ["MESSAGE_ID", "new_id", "now_ms"]

MESSAGE_ID = re.compile(r"msg_[A-Za-z0-9_]{1,60}")
"""What a client may choose as the id of its prompt (match it in full)."""

_counter = itertools.count()


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str) -> str:
    """`prefix_` + 12 hex digits of time + 4 of a counter + 8 random; ascending by text."""
    return f"{prefix}_{now_ms():012x}{next(_counter) & 0xFFFF:04x}{os.urandom(4).hex()}"
