"""What the client costs per turn and per delta, beside reading the same events with httpx-sse."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
from httpx_sse import aconnect_sse

from tests.benchmarks.figures import Figure, median
from tests.support.fake_engine import TOKEN, FakeEngine, FakeTurn
from tests.support.fake_launcher import async_client

DELTAS = 5000
ROUNDS = 9


async def _speak(turn: FakeTurn) -> None:
    """As many deltas as the prompt says."""
    turn.events.begin().write(*["word "] * int(turn.prompt)).step().end()


def measure() -> Iterator[Figure]:
    """Both read the same events, sent as fast as they can be taken."""
    with tempfile.TemporaryDirectory() as directory, FakeEngine(Path(directory), _speak) as engine:
        ours, raw = asyncio.run(_both(engine))
    (our_turn, our_delta), (raw_turn, raw_delta) = ours, raw
    against = "httpx-sse and json"
    yield Figure("client per turn", our_turn * 1e3, "ms", baseline=raw_turn * 1e3, against=against)
    yield Figure("... per delta", our_delta * 1e6, "us", baseline=raw_delta * 1e6, against=against)


async def _both(engine: FakeEngine) -> tuple[tuple[float, float], tuple[float, float]]:
    transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        async_client(engine) as client,
        httpx.AsyncClient(transport=transport, base_url="http://agent", headers=headers) as http,
    ):
        session = (await client.create_session()).id

        async def ours(deltas: int) -> None:
            result = await client.session(session).send(str(deltas))
            assert len(result.text) == 5 * deltas

        return await _costs(ours), await _costs(lambda n: _raw(http, session, n))


async def _raw(http: httpx.AsyncClient, session: str, deltas: int) -> None:
    pieces = []
    async with aconnect_sse(http, "GET", f"/session/{session}/event") as source:
        events = source.aiter_sse()
        await anext(events)
        parts = [{"type": "text", "text": str(deltas)}]
        body = {"messageID": f"msg_{time.time_ns()}", "parts": parts}
        await http.post(f"/session/{session}/prompt_async", json=body)
        async for event in events:
            data = json.loads(event.data)
            if data["type"] == "message.part.delta":
                pieces.append(data["properties"]["delta"])
            elif data["type"] == "session.idle":
                break
    assert len(pieces) == deltas


async def _costs(turn: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
    """Seconds of a turn with one delta, and of each further one; medians."""
    await turn(1)
    short = median([await _seconds(turn, 1) for _ in range(ROUNDS)])
    long = median([await _seconds(turn, DELTAS) for _ in range(ROUNDS)])
    return short, (long - short) / (DELTAS - 1)


async def _seconds(turn: Callable[[int], Awaitable[None]], deltas: int) -> float:
    start = time.perf_counter()
    await turn(deltas)
    return time.perf_counter() - start
