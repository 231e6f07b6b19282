"""What `%load_ext agent_magics` costs over bare IPython, and that no engine module comes along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.figures import Figure
from tests.support.engine_home import EngineHome
from tests.support.kernels import ROOT

ROUNDS = 9

SCRIPT = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.config.AgentMagics.warm_up = False
bare = time.process_time()
known = set(sys.modules)
shell.run_line_magic("load_ext", "agent_magics")
loaded = time.process_time()
import agent_magics.client, agent_magics.notebook._turn._turn, agent_magics.widgets
turn = time.process_time()
new = sorted(set(sys.modules) - known)
print(json.dumps({"bare": bare, "loaded": loaded - bare, "turn": turn - loaded, "new": new}))
"""

ENGINE = ("agent_magics.engine", "agent_magics.sandbox", "pydantic", "pydantic_ai", "starlette")
ENGINE += ("uvicorn", "sse_starlette", "openai", "anthropic")


def _load() -> dict[str, Any]:
    with EngineHome() as home:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, **home.environ},
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure() -> Iterator[Figure]:
    """CPU milliseconds, the best of several fresh processes."""
    runs = [_load() for _ in range(ROUNDS)]
    bare = min(run["bare"] for run in runs) * 1000
    loaded = min(run["loaded"] for run in runs) * 1000
    yield Figure(
        "%load_ext over bare IPython, CPU",
        loaded,
        "ms",
        limit=150,
        baseline=bare,
        against="bare IPython",
    )
    later = min(run["turn"] for run in runs) * 1000
    yield Figure("... and what the first turn imports, CPU", loaded + later, "ms")
    modules = runs[0]["new"]
    foreign = [
        name for name in modules if any(name == e or name.startswith(f"{e}.") for e in ENGINE)
    ]
    yield Figure("engine modules among those imported", len(foreign), "modules", limit=0)
