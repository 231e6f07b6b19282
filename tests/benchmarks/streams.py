"""What a long reply costs on its way to the browser, and how fast deltas come through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from pydantic_ai import Agent, PartDeltaEvent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.benchmarks.bench import bench
from tests.benchmarks.figures import Figure
from tests.support.scripted_model import ScriptedModel

REPLY = 100_000  # characters
FAST = 5000  # deltas
SHOWN = frozenset({"comm_open", "comm_msg", "comm_close", "display_data", "update_display_data"})
SERVER_LIMIT = 1000.0  # messages a second over 3 s; Jupyter's server drops what is above

PARAGRAPH = (
    "The quick brown fox jumps over the **lazy dog** while `pack(my, box)` holds five dozen "
    "liquor jugs. How razorback-jumping frogs can level six piqued gymnasts is told in the "
    "[manual](https://example.org/manual), and nobody doubts it.\n\n"
    "- one thing after another\n- and *another* one\n- and a last one\n\n"
    "```python\nfor item in things:\n    print(item)\n```\n\n"
)


def long_reply() -> str:
    """A reply of `REPLY` characters of Markdown."""
    return (PARAGRAPH * (REPLY // len(PARAGRAPH) + 1))[:REPLY]


def bytes_to_the_browser() -> Iterator[Figure]:
    """A 100 kB reply in 1000 deltas a second: bytes, updates and the rate of messages."""
    text = long_reply()
    script = {"do": [{"text": text, "chunk": 100}], "delay": 0.001}
    with bench({"long": {"match": "long", "turns": [script]}}) as place, place.wire() as wire:
        _, messages = place.front.timed("%%agent\nlong")
        deltas = wire.at(lambda event: event["type"] == "message.part.delta")
        ours = [message for message in messages if message["msg_type"] in SHOWN]
        place.front.run("import time")
        _, printed = place.front.timed(
            f"for _ in range({REPLY // 100}):\n    print('x' * 99)\n    time.sleep(0.0009)"
        )
        assert place.front.run("print(len(_agent.text))").strip() == str(REPLY)
    seconds = deltas[-1] - deltas[0]
    streamed = sum(m["size"] for m in printed if m["msg_type"] == "stream")
    updates = [m for m in ours if m["msg_type"] == "comm_msg"]
    yield Figure("deltas a second in that reply", REPLY / 100 / seconds, "/s")
    yield Figure(
        "bytes to the browser over the reply's bytes",
        sum(message["size"] for message in ours) / REPLY,
        "x",
        limit=6,
        baseline=streamed / REPLY,
        against="print()",
    )
    yield Figure("widget updates a second", len(updates) / seconds, "/s", limit=35)
    yield Figure("busiest second on iopub", _busiest(messages), "messages", limit=SERVER_LIMIT / 2)


def _busiest(messages: list[dict[str, Any]]) -> float:
    times = sorted(message["at"] for message in messages if message["channel"] == "iopub")
    most = start = 0
    for end, at in enumerate(times):
        while at - times[start] > 1:
            start += 1
        most = max(most, end - start + 1)
    return float(most)


def deltas_per_second() -> Iterator[Figure]:
    """Deltas as fast as the model sends them, from the model to the finished cell."""
    script = {"do": [{"text": {"repeat": "word ", "n": FAST}}]}
    scenario = {"fast": {"match": "fast", "turns": [script]}}
    with bench(scenario) as place:
        sent, messages = place.front.timed("%%agent\nfast")
        reply = next(m for m in messages if m["msg_type"] == "execute_reply")
        alone = asyncio.run(_agent_library_alone(place.model))
    yield Figure(
        "deltas a second, model to finished cell",
        FAST / (reply["at"] - sent),
        "/s",
        limit=1500,
        more_is_better=True,
        baseline=alone,
        against="pydantic-ai alone",
    )


async def _agent_library_alone(model: ScriptedModel) -> float:
    """The same reply read with nothing but the agent library: deltas a second."""
    provider = OpenAIProvider(base_url=model.environ["OPENAI_BASE_URL"], api_key="sk-test")
    start = time.perf_counter()
    agent = Agent(OpenAIChatModel("fast", provider=provider))
    async with agent.run_stream_events("fast") as events:
        count = [event async for event in events if isinstance(event, PartDeltaEvent)]
    return len(count) / (time.perf_counter() - start)
