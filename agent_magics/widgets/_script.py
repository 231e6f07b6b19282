"""The turn widget's script for the page: the modules in `static`, joined to one."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["MODULES", "STATIC", "turn_script"]

STATIC = Path(__file__).parent / "static"
MODULES = ("page", "safe", "reply", "tool", "ask", "draw", "view", "turn")
"""Each after those whose constants and classes it needs while it loads."""

_IMPORT = re.compile(r"^import \{[^}]*\} from '\./\w+\.js';\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default\b)", re.MULTILINE)


def turn_script() -> str:
    """An ES module that imports nothing: front ends load it from a string, without an address."""
    sources = ((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in MODULES)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)
