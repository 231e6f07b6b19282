"""
The host against an agent program that was taken over: whatever comes, in whatever order.

No request may hang, nothing may grow, the loop must stay alive; each request ends with an answer,
an OSError or SandboxGone.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_magics.sandbox import Limits, Sandbox, SandboxError, SandboxGone
from agent_magics.sandbox import _channel as channel_module
from agent_magics.sandbox._agent import protocol
from agent_magics.sandbox._frames import encode, parse_failure
from tests.support.taken_over import InProcess, TakenOver, Wire, killing_ends_wires

PATIENCE = 60.0
EXIT = {"code": 0, "killed_by": None, "truncated": False, "background": 0}

Requests = Callable[[Sandbox], list[Awaitable[Any]]]


def all_requests(box: Sandbox) -> list[Awaitable[Any]]:
    """One of each kind, numbered 1 to 13."""
    return [
        box.run("x", max_output=1000, stdin=b"input"),
        box.run("x", max_output=1000, on_output=lambda stream, data: None),
        box.read_file("f", max_bytes=1000),
        box.write_file("f", b"content"),
        box.write_file("f", b"content", follow=False),
        box.delete_file("f"),
        box.list_files(limit=5),
        box.open_file("f"),
        box.background(),
        box.tree.scan(limit=5),
        box.tree.fetch(["a", "b"], limit=100, budget=150),
        box.tree.change([{"do": "remove", "path": "x"}]),
        box.tree.put("f", [b"x"], mode=0o644),
    ]


@pytest.fixture(autouse=True)
def killing_ends_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    killing_ends_wires(monkeypatch)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
facts = st.lists(json_values, min_size=1, max_size=8)
payloads = st.one_of(
    st.binary(max_size=300),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.lists(facts, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.tuples(st.sampled_from([b"B", b"D", b"E", b"F"]), facts).map(
        lambda pair: pair[0] + json.dumps(pair[1]).encode()
    ),
    st.just(json.dumps(EXIT).encode()),
    st.just(b""),
    st.just(b"[" * 3000),
    st.just(b"NaN"),
)
kinds = st.integers(protocol.HELLO, protocol.NET_CLOSED) | st.integers(0, 255)
numbers = st.integers(0, 14) | st.integers(0, 2**32 - 1)
lengths = st.one_of(st.none(), st.none(), st.integers(0, 2**32 - 1))


def frame(kind: int, number: int, payload: bytes, length: int | None) -> bytes:
    said = len(payload) if length is None else length
    return struct.pack(">BII", kind, number, said) + payload


streams = st.lists(
    st.builds(frame, kinds, numbers, payloads, lengths) | st.binary(max_size=40), max_size=30
).map(b"".join)


@settings(
    deadline=None,
    max_examples=250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(streams, st.integers(1, 400), st.booleans())
async def test_any_stream_of_frames(tmp_path: Path, answers: bytes, step: int, ends: bool) -> None:
    wire = Wire(answers)
    box = Sandbox(InProcess(wire), tmp_path, Limits())
    await box.start()
    requests = [asyncio.ensure_future(request) for request in all_requests(box)]
    await asyncio.sleep(0)  # they are numbered now
    for start in range(0, len(answers), step):
        if wire.returncode is None:
            wire.stdout.feed_data(answers[start : start + step])
            await asyncio.sleep(0)
    if ends:
        wire.die()
    stopping = asyncio.ensure_future(box.stop())
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*requests, return_exceptions=True)
        await stopping
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, SandboxError | OSError), repr(result)
            assert not isinstance(result, TimeoutError | ConnectionError), repr(result)
    assert not box.alive and not box.busy
    assert list(tmp_path.iterdir()) == []


# real processes, for what never ends


def read(box: Sandbox) -> Awaitable[Any]:
    return box.read_file("f", max_bytes=1000)


def write(box: Sandbox) -> Awaitable[Any]:
    return box.write_file("f", bytes(8 << 20))


def run(box: Sandbox) -> Awaitable[Any]:
    return box.run("x", timeout=1000, max_output=1000)


FOREVER = "while True: send({})"
ENDLESS: dict[str, tuple[str, Callable[[Sandbox], Awaitable[Any]]]] = {
    "silence": ("while listen(): pass", read),
    "silence to a listing": ("while listen(): pass", lambda box: box.list_files()),
    "silence to a scan": ("while listen(): pass", lambda box: box.tree.scan()),
    "silence to an open": ("while listen(): pass", lambda box: box.open_file("f")),
    "half a header": ("send(b'F' * 4)\nwhile listen(): pass", read),
    "half a payload": ("send(frame(69, 1, b'x' * 50)[:40])\nwhile listen(): pass", read),
    "deaf": ("time.sleep(1000)", write),
    "deaf to stdin": ("time.sleep(1000)", lambda box: box.run("x", stdin=bytes(8 << 20))),
    "empty data": (FOREVER.format("frame(69, 1) * 1000"), read),
    "empty output": (FOREVER.format("frame(66, 1) * 1000"), run),
    "output without end": (FOREVER.format("frame(66, 1, b'x') * 1000"), run),
    "empty rows": (FOREVER.format("frame(69, 1, b'[]') * 1000"), lambda box: box.list_files()),
    "empty scan": (FOREVER.format("frame(69, 1, b'[]') * 1000"), lambda box: box.tree.scan()),
    "long paths": (
        "row = ['/' + 'x' * 900_000, 'file', 1, 1]\n"
        + FOREVER.format("frame(69, 1, json.dumps([row]).encode())"),
        lambda box: box.list_files(),
    ),
    "greetings": (FOREVER.format("frame(65, 0, b'{}') * 1000"), read),
    "noise": (FOREVER.format("os.urandom(100_000)"), read),
    "zeros": (FOREVER.format("bytes(1 << 20)"), read),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(channel_module, "SILENCE", 0.5)
    yield


@pytest.mark.parametrize("attack", ENDLESS)
async def test_what_never_ends_is_ended(tmp_path: Path, impatient: None, attack: str) -> None:
    program, request = ENDLESS[attack]
    box = Sandbox(TakenOver(program), tmp_path, Limits())
    await box.start()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(SandboxGone):
            await request(box)
        assert box._channel is not None
        await box._channel._process.wait()
    assert not box.alive
    await box.stop()


async def test_frames_for_nobody_come_to_an_end(tmp_path: Path) -> None:
    """After the answer a flood to the same number; the loop stays alive under it."""
    answer = f"send(frame(68, 1, json.dumps({EXIT}).encode()))\n"
    flood = FOREVER.format("frame(66, 1, b'x' * 10) * 1000")
    box = Sandbox(TakenOver(answer + flood), tmp_path, Limits())
    await box.start()
    assert (await box.run("x")).exit_code == 0
    turns = 0
    async with asyncio.timeout(PATIENCE):
        while box.alive:
            await asyncio.sleep(0)
            turns += 1
    assert turns > 1000  # 8 MB are 400 000 frames: others had their turn between them
    await box.stop()


async def test_what_was_on_its_way_when_a_request_was_given_up_is_ignored(tmp_path: Path) -> None:
    late = "frame(69, 1, b'x' * 100_000) * 20 + frame(70, 1) + frame(70, 2)"
    program = f"while b'\"g\"' not in seen: seen += listen()\nsend({late})\nwhile listen(): pass"
    box = Sandbox(TakenOver(program), tmp_path, Limits())
    await box.start()
    reading = asyncio.create_task(box.read_file("f"))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await box.delete_file("g")
    assert box.alive
    await box.stop()


@pytest.mark.parametrize("number", [0, 4, 11, 32, 104, 110, 111, 4095])
def test_errors_that_files_do_not_have_are_plain(number: int) -> None:
    """EINTR, EAGAIN, EPIPE, ECONNRESET, ETIMEDOUT …: their classes mean something else to us."""
    found, message = parse_failure(json.dumps({"errno": number, "message": "a\n\ud800b"}).encode())
    assert type(OSError(found, message)) is OSError
    assert message == "a??b"


@pytest.mark.parametrize("index", [1.0, True, 0.0, None, "0", [], 10**400])
async def test_indexes_that_are_no_numbers(tmp_path: Path, index: Any) -> None:
    begin = b"B" + json.dumps([index, 0o644, 1, 1, 1, 1, True]).encode()
    failed = b"F" + json.dumps([index, 2]).encode()
    for payload in (begin, failed):
        wire = Wire(b"")
        box = Sandbox(InProcess(wire), tmp_path, Limits())
        await box.start()
        fetching = asyncio.ensure_future(box.tree.fetch(["a", "b"], limit=100, budget=100))
        await asyncio.sleep(0)
        wire.stdout.feed_data(encode(protocol.DATA, 1, payload))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(SandboxGone):
                await fetching
        await box.stop()
