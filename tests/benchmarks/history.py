"""What it costs to be able to take turns back, and to summarize."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_magics.client import Client, SessionHandle
from tests.benchmarks.figures import Figure
from tests.support.engine_home import EngineHome
from tests.support.scripted_model import ScriptedModel

FILES = 10_000
MEGABYTES = 200
MAKE = f"""
import os, random
random.seed(1)
for d in range(100):
    os.makedirs(f"many/{{d}}")
    for f in range({FILES} // 100):
        with open(f"many/{{d}}/{{f}}", "wb") as file:
            file.write(random.randbytes({MEGABYTES} * 1_000_000 // {FILES}))
"""
CHANGE = "find many -type f -exec sh -c 'for f; do echo x >> \"$f\"; done' sh {} +"
ALLOWED = [{"permission": "bash", "pattern": "*", "action": "allow"}]


def _bash(command: str) -> list[dict[str, Any]]:
    call = {"tool": {"name": "bash", "args": {"command": command, "timeout": 600_000}}}
    return [{"do": [call]}, {"do": [{"text": "Done."}]}]


SCENARIOS = {
    "touch": {"match": "^touch$", "turns": _bash("true")},
    "change": {"match": "^change$", "turns": _bash(CHANGE)},
    "long": {"match": "^long$", "turns": [{"do": [{"text": "word " * 20_000, "chunk": 1000}]}]},
    "sum": {"match": "summar", "turns": [{"do": [{"text": "It was long."}]}]},
}


@contextmanager
def _session() -> Iterator[tuple[SessionHandle, EngineHome]]:
    with EngineHome() as home, ScriptedModel(SCENARIOS) as model:
        os.environ.update({**home.environ, **model.environ})
        with Client(timeout=600) as client:
            session = client.create_session(model="openai/scripted", permission=ALLOWED)
            session.shell("true")
            yield session, home


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _kept(home: EngineHome) -> int:
    """Bytes of what the engine keeps besides the workspace."""
    return sum(
        entry.stat().st_blocks * 512
        for entry in Path(home.data).rglob("*")
        if entry.is_file() and "workspace" not in entry.parts
    )


def snapshots() -> Iterator[Figure]:
    """Turns in a workspace of 10,000 files and 200 MB: the first one, the next one, a revert."""
    with _session() as (session, home):
        plain = _seconds(lambda: session.send("touch"))
        made = session.shell("python3 -", stdin=MAKE.encode(), timeout=600_000)
        assert made.exit_code == 0, made.stderr
        copied = _seconds(lambda: session.shell("cp -r many /tmp/copy", timeout=600_000))
        before = _kept(home)
        first = _seconds(lambda: session.send("touch"))
        kept = _kept(home) - before
        second = _seconds(lambda: session.send("touch"))
        result = session.send("change")
        assert len(session.get_diff(result.message_id)) == FILES
        revert = _seconds(lambda: session.revert(result.message_id))
        assert session.shell("cat many/7/7 | wc -c").stdout.strip() == str(
            MEGABYTES * 1_000_000 // FILES
        )
    copy = "cp -r of the same files"
    yield Figure("first turn with tools in 10,000 files", first, "s", baseline=copied, against=copy)
    yield Figure("the next one", second, "s", baseline=plain, against="a turn without files")
    yield Figure("revert of a change to all of them", revert, "s", baseline=copied, against=copy)
    yield Figure(
        "kept by the first snapshot", kept / 1e6, "MB", baseline=MEGABYTES, against="files"
    )


def summaries() -> Iterator[Figure]:
    """A conversation of 100 kB is summarized: what our part costs besides the model's."""
    with _session() as (session, home):
        session.send("long")
        turn = _seconds(lambda: session.send("touch"))
        before = _kept(home)
        took = _seconds(session.summarize)
        kept = _kept(home) - before
    yield Figure(
        "summary of 100 kB, the model answering at once",
        took * 1000,
        "ms",
        baseline=turn * 1000,
        against="a turn with one tool",
    )
    yield Figure("stored for it", kept / 1000, "kB")
