"""How soon a notebook shows again what its killed kernel had begun."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.benchmarks.bench import MeasuringFrontEnd, bench, content_of
from tests.benchmarks.figures import Figure, median

KILLS = 3
LIMIT = 2500
"""Milliseconds, first imports included: about what the restart of a kernel itself takes."""
_ENDLESS = {"do": [{"text": {"repeat": "word ", "n": 20_000}}], "delay": 0.01}


def time_to_reattach() -> Iterator[Figure]:
    """From the sent `%agent_session resume`, in a new kernel, to the running turn's text."""
    with bench({"endless": {"match": "talk", "turns": [_ENDLESS]}}) as place:
        front = place.front
        front.execute("%%agent\ntalk")
        _text_at(front)
        delays = [_reattached(front) for _ in range(KILLS)]
        front.interrupt()
        front.run("pass")
    yield Figure(
        "turn of a killed kernel, resume to its text, median", median(delays) * 1000, "ms", LIMIT
    )


def _reattached(front: MeasuringFrontEnd) -> float:
    front.kill_and_restart()
    front.run("%load_ext agent_magics")
    sent = time.perf_counter()
    front.execute("%agent_session resume")
    return _text_at(front) - sent


def _text_at(front: MeasuringFrontEnd) -> float:
    """When text of the turn has come to the page."""

    def found() -> float | None:
        texts = (m for m in front.messages if m["msg_type"] == "comm_msg")
        return next((m["at"] for m in texts if "word word" in content_of(m)), None)

    return float(front.until(found, what="text of the turn"))
