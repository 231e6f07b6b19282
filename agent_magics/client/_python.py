"""The Python that commands in a container shall find."""

from __future__ import annotations

import site
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = ["PythonChoice", "current_python"]

PythonChoice = Mapping[str, Any] | Literal["current"] | None


def current_python() -> dict[str, Any]:
    """This interpreter and the directories it consists of, packages included."""
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    found += [path for path in sys.path if path.endswith(("/site-packages", "/dist-packages"))]
    user_site = site.getusersitepackages()
    if Path(user_site).is_dir():
        found.append(user_site)
    return {"executable": sys.executable, "prefixes": list(dict.fromkeys(found))}
