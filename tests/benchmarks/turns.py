"""How soon something is seen, how soon a delta is shown, how soon a click arrives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.bench import Bench, bench, content_of
from tests.benchmarks.figures import Figure, median, percentile

CELLS = 15
CLICKS = 40


def first_pixel() -> Iterator[Figure]:
    """From the sent cell to the first output of ours at the front end; the median of warm cells."""

    def first_output(cell: str) -> float:
        sent, messages = place.front.timed(cell)
        return next(m["at"] for m in messages if m["msg_type"] == "display_data") - sent

    with bench({"short": {"match": "short", "turns": [{"do": [{"text": "Short."}]}]}}) as place:
        ours = [first_output("%%agent\nshort") for _ in range(CELLS)]
        plain = [first_output("display('x')") for _ in range(CELLS)]
    yield Figure(
        "warm %%agent to its first output, median",
        median(ours) * 1000,
        "ms",
        limit=30,
        baseline=median(plain) * 1000,
        against="display('x')",
    )


def delta_to_widget() -> Iterator[Figure]:
    """
    From a delta's event on the stream to the widget's message.

    At 8 deltas a second each has an update of its own; at 40 several share one.
    """
    scenarios = {
        "sparse": {"match": "sparse", "turns": [_spoken(100, 1 / 8)]},
        "dense": {"match": "dense", "turns": [_spoken(400, 1 / 40)]},
    }
    with bench(scenarios) as place, place.wire() as wire:
        delays = {}
        for name in scenarios:
            wire.frames.clear()
            _, messages = place.front.timed(f"%%agent\n{name}")
            delays[name] = _delays(wire.frames, messages)
    late = percentile(delays["sparse"], 0.95) * 1000
    yield Figure("delta on the stream to widget message, p95", late, "ms", limit=5)
    shared = percentile(delays["dense"], 0.95) * 1000
    yield Figure("... at 40 deltas a second, which share updates, p95", shared, "ms", limit=100)


def _spoken(words: int, delay: float) -> dict[str, Any]:
    """A reply of so many words, each a delta of its own that can be told from all others."""
    return {"do": [{"text": f"w{n}w ", "chunk": 100} for n in range(words)], "delay": delay}


def _delays(frames: list[Any], messages: list[dict[str, Any]]) -> list[float]:
    streamed = {
        event["properties"]["delta"].strip(): at
        for at, event in frames
        if event["type"] == "message.part.delta"
    }
    shown: dict[str, float] = {}
    for message in messages:
        if message["msg_type"] == "comm_msg":
            for word in re.findall(r"w\d+w", content_of(message)):
                shown.setdefault(word, message["at"])
    assert len(streamed) > 50
    assert streamed.keys() <= shown.keys()
    return [shown[word] - at for word, at in streamed.items()]


def click_to_python() -> Iterator[Figure]:
    """From the click's message to the kernel that takes it up, with the cell still running."""
    asks = [
        {"do": [{"tool": {"name": "bash", "args": {"command": f"true {number}"}}}]}
        for number in range(CLICKS)
    ]
    turns = [*asks, {"do": [{"text": "Done."}]}]
    with bench({"ask": {"match": "ask", "turns": turns}}) as place, place.wire() as wire:
        place.front.timed("%%agent\nask")
        busy = [place.front.taken_up(click.msg_id) - click.at for click in place.front.clicks]
        answered = {
            event["properties"]["requestID"]: at
            for at, event in wire.frames
            if event["type"] == "permission.replied"
        }
        told = [answered[click.request_id] - click.at for click in place.front.clicks]
        idle = _idle_clicks(place)
    assert len(busy) == CLICKS
    yield Figure(
        "click to Python in a busy cell, p95",
        percentile(busy, 0.95) * 1000,
        "ms",
        limit=20,
        baseline=percentile(idle, 0.95) * 1000,
        against="idle kernel",
    )
    yield Figure("click to the engine's answer event, p95", percentile(told, 0.95) * 1000, "ms")


def _idle_clicks(place: Bench) -> list[float]:
    """The same way with nothing running: clicks on a plain button."""
    front = place.front
    front.run("import ipywidgets\nipywidgets.Button(description='plain')")
    delays = []
    for _ in range(CLICKS):
        sent = time.perf_counter()
        msg_id = front.click("plain")
        front.until(lambda: front.is_idle(msg_id))  # noqa: B023 - used at once
        delays.append(front.taken_up(msg_id) - sent)
    return delays
