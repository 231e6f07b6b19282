"""`@name` in prompts: data to send along. Kept cheap to import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["named_in"]

_NAMED = re.compile(r"(?<![\w@/.])@([^\s@,;:()\[\]{}<>'\"`]+)")


def named_in(prompt: str, namespace: Mapping[str, Any]) -> list[str]:
    """What `@name` in a prompt means: variables and existing files, in order, each once."""
    found = []
    for match in _NAMED.finditer(prompt):
        name = match[1]
        while name and name not in namespace and not _is_file(name) and name[-1] in ".!?":
            name = name[:-1]  # the end of a sentence
        if name in namespace or _is_file(name):
            found.append(name)
    return list(dict.fromkeys(found))


def _is_file(name: str) -> bool:
    try:
        return "." in name and Path(name).expanduser().is_file()
    except OSError:
        return False
