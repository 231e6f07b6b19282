from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from agent_magics.client import (
    AuthError,
    ConnectionFailed,
    EngineStartError,
    ProtocolError,
    ServerError,
    StreamPolicy,
)
from agent_magics.client._stream import EventStream
from agent_magics.client._turn import TurnReader
from agent_magics.wire import ReasoningDelta, StatusChanged, TextDelta, TurnEnded, WireEvent
from tests.support.turn_events import Event, TurnEvents, a_rich_turn, numbered

QUICK = StreamPolicy(heartbeat=5, give_up=0.3, first_delay=0.0, longest_delay=1.0, quiet=1)
CONNECTED = {"id": "evt_0", "type": "server.connected", "properties": {}}
HANG = object()


def frame(event: Event) -> bytes:
    head = f"id: {event['seq']}\n" if "seq" in event else ""
    return f"{head}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


class Body(httpx.AsyncByteStream):
    def __init__(self, pieces: list[object]) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if piece is HANG:
                await asyncio.Event().wait()
            if isinstance(piece, Exception):
                raise piece
            assert isinstance(piece, bytes)
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Server:
    """Answers the n-th connection with what `answers(n, last_event_id)` returns, or raises it."""

    def __init__(self, answers: Callable[[int, str | None], object]) -> None:
        self.answers = answers
        self.asked: list[tuple[str | None, bool]] = []
        self.bodies: list[Body] = []

    async def open(self, last_event_id: str | None, again: bool) -> httpx.Response:
        self.asked.append((last_event_id, again))
        answer = self.answers(len(self.asked) - 1, last_event_id)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list)
        self.bodies.append(Body(answer))
        return httpx.Response(
            200,
            headers={"content-type": "text/event-stream"},
            stream=self.bodies[-1],
            request=httpx.Request("GET", "http://agent/event"),
        )


async def collect(
    stream: EventStream, enough: Callable[[list[object]], bool]
) -> list[WireEvent | StatusChanged]:
    items: list[WireEvent | StatusChanged] = []
    await stream.open()
    while not enough(items):  # type: ignore[arg-type]
        items += await stream.take(5)
    await stream.aclose()
    return items


def has_seq(seq: int) -> Callable[[list[object]], bool]:
    return lambda items: any(isinstance(i, WireEvent) and i.seq == seq for i in items)


def seqs(items: list[WireEvent | StatusChanged]) -> list[int | None]:
    return [item.seq for item in items if isinstance(item, WireEvent)]


TURN = a_rich_turn("ses_1", "msg_1")
LOG = numbered(TURN.events, "ses_1")
SMALL = TurnEvents("ses_1", "msg_1")
SMALL.add("message.updated", info=SMALL._answer())
SMALL.write("a", "世", "c").add("turn.ended", messageID="msg_1", outcome="completed")


def resumed(
    last_event_id: str | None, overlap: int = 0, turn: TurnEvents = TURN, merged: bool = False
) -> list[Event]:
    """What the server sends after `last_event_id`; `merged` when it has closed all parts."""
    position = max(0, int(last_event_id or 0) - overlap)
    return [
        event
        for index, event in enumerate(numbered(turn.events, "ses_1"))
        if index >= position and not (merged and index in turn.merged)
    ]


async def check_a_break(turn: TurnEvents, cut: int, overlap: int, merged: bool) -> None:
    """The first connection breaks after `cut` bytes: nothing is lost, nothing doubled."""
    log = numbered(turn.events, "ses_1")
    whole = frame(CONNECTED) + b"".join(map(frame, log))

    def answer(n: int, last: str | None) -> object:
        if n == 0:
            return [whole[:cut], httpx.ReadError("cut")]
        return [frame(CONNECTED), *map(frame, resumed(last, overlap, turn, merged)), HANG]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(len(log)))
    numbers = [seq for seq in seqs(items) if seq is not None]
    assert numbers == sorted(set(numbers))
    assert set(numbers) | {i + 1 for i in turn.merged} == set(range(1, len(log) + 1))
    reader = TurnReader("ses_1", "msg_1")
    events = [e for i in items if isinstance(i, WireEvent) for e in reader.feed(i)]
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == turn.text
    reasoning = "".join(e.delta for e in events if isinstance(e, ReasoningDelta))
    assert reasoning == turn.reasoning
    assert len([e for e in events if isinstance(e, TurnEnded)]) == 1
    unbroken = TurnReader("ses_1", "msg_1")
    for event in log:
        unbroken.feed(WireEvent.from_json(event))
    assert reader.ended == unbroken.ended


def size_of(turn: TurnEvents) -> int:
    return sum(len(frame(e)) for e in [CONNECTED, *numbered(turn.events, "ses_1")])


@pytest.mark.parametrize(("overlap", "merged"), [(2, False), (0, True)])
async def test_a_reconnect_at_every_byte(overlap: int, merged: bool) -> None:
    for cut in range(size_of(SMALL) + 1):
        await check_a_break(SMALL, cut, overlap, merged)


@pytest.mark.parametrize("merged", [False, True])
async def test_a_reconnect_in_a_rich_turn(merged: bool) -> None:
    for cut in range(0, size_of(TURN) + 1, 61):
        await check_a_break(TURN, cut, cut % 4, merged)


async def test_many_reconnects() -> None:
    def answer(n: int, last: str | None) -> object:
        rest = resumed(last, n % 3)
        return [frame(CONNECTED), *map(frame, rest[: 1 + n % 3 + 1]), httpx.ReadError("cut")]

    server = Server(answer)
    items = await collect(EventStream(server.open, QUICK), has_seq(len(LOG)))
    assert seqs(items) == list(range(1, len(LOG) + 1))
    assert len(server.asked) > 10
    assert server.asked[0] == (None, False)
    assert all(again for _, again in server.asked[1:])
    assert all(body.closed for body in server.bodies)


async def test_states_of_the_connection_are_told() -> None:
    def answer(n: int, last: str | None) -> object:
        return [frame(CONNECTED), *map(frame, resumed(last)[:2]), httpx.ReadError("cut")]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(4))
    kinds = [i.status if isinstance(i, StatusChanged) else i.seq for i in items]
    assert kinds[:7] == ["connected", 1, 2, "reconnecting", "connected", 3, 4]
    assert items[3] == StatusChanged("reconnecting", "the connection broke")


async def test_a_break_before_the_first_event_resumes_where_the_server_said() -> None:
    greeting = {**CONNECTED, "properties": {"seq": 2}}

    def answer(n: int, last: str | None) -> object:
        if n == 0:
            return [frame(greeting), httpx.ReadError("cut")]
        return [frame(CONNECTED), *map(frame, resumed(last)), HANG]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(5))
    assert seqs(items)[:3] == [3, 4, 5]


async def test_a_break_before_the_first_event_resumes_from_the_beginning() -> None:
    def answer(n: int, last: str | None) -> object:
        if n == 0:
            return [frame(CONNECTED), httpx.ReadError("cut")]
        assert last == "0"
        return [frame(CONNECTED), *map(frame, resumed(last)), HANG]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(5))
    assert seqs(items)[:3] == [1, 2, 3]


async def test_silence_is_a_broken_connection() -> None:
    def answer(n: int, last: str | None) -> object:
        end = httpx.ReadTimeout("") if n == 0 else HANG
        return [frame(CONNECTED), *map(frame, resumed(last)[:2]), end]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(4))
    assert StatusChanged("reconnecting", "nothing came for 5 s") in items


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: []\n\n", b'data: {"a": 1}\n\n'])
async def test_an_event_that_cannot_be_read_is_asked_for_again(bad: bytes) -> None:
    def answer(n: int, last: str | None) -> object:
        middle = bad if n == 0 else b""
        return [frame(CONNECTED), frame(LOG[0]), middle, *map(frame, resumed(last)), HANG]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(3))
    assert seqs(items)[:3] == [1, 2, 3]


async def test_heartbeats_are_not_events() -> None:
    beat = b'data: {"id":"evt_1","type":"server.heartbeat","properties":{}}\n\n'

    def answer(n: int, last: str | None) -> object:
        return [frame(CONNECTED), beat, b": ping\n\n", frame(LOG[0]), beat, frame(LOG[1]), HANG]

    items = await collect(EventStream(Server(answer).open, QUICK), has_seq(2))
    assert seqs(items) == [1, 2]


async def test_unnumbered_events_all_pass() -> None:
    plain = [{key: e[key] for key in ("id", "type", "properties")} for e in LOG[:3]]

    def answer(n: int, last: str | None) -> object:
        return [frame(CONNECTED), *map(frame, plain), HANG]

    items = await collect(EventStream(Server(answer).open, QUICK), lambda i: len(i) == 4)
    assert seqs(items) == [None] * 3


@pytest.mark.parametrize(
    "error", [AuthError("no", status=401), ServerError("no", status=500), ConnectionFailed("no")]
)
async def test_a_stream_that_cannot_be_opened_says_so_at_once(error: Exception) -> None:
    server = Server(lambda n, last: error)
    with pytest.raises(type(error)):
        await EventStream(server.open, QUICK).open()
    assert len(server.asked) == 1


async def test_a_stream_that_never_greets_is_given_up() -> None:
    server = Server(lambda n, last: [httpx.ReadError("cut")])
    with pytest.raises(ConnectionFailed, match="could not be restored: the connection broke"):
        await EventStream(server.open, QUICK).open()
    assert len(server.asked) < 10


async def test_something_else_than_a_stream_is_final() -> None:
    async def open_page(last_event_id: str | None, again: bool) -> httpx.Response:
        return httpx.Response(
            200, text="<html>", headers={"content-type": "text/html"}, request=httpx.Request("GET", "http://agent/event")
        )  # fmt: skip

    with pytest.raises(ProtocolError, match="text/html"):
        await EventStream(open_page, QUICK).open()


@pytest.mark.parametrize(
    "error", [EngineStartError("gone"), AuthError("no", status=401), ProtocolError("odd")]
)
async def test_some_errors_end_a_broken_stream_at_once(error: Exception) -> None:
    server = Server(lambda n, last: error if n else [frame(CONNECTED), httpx.ReadError("cut")])
    stream = EventStream(server.open, QUICK)
    await stream.open()
    with pytest.raises(type(error)):
        while True:
            await stream.take(5)
    assert len(server.asked) == 2
    await stream.aclose()


async def test_reconnecting_is_given_up_after_the_deadline() -> None:
    down = ConnectionFailed("refused")
    server = Server(lambda n, last: down if n else [frame(CONNECTED), httpx.ReadError("cut")])
    stream = EventStream(server.open, QUICK)
    await stream.open()
    started = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionFailed, match="could not be restored: refused"):
        while True:
            await stream.take(5)
    assert 0.25 < asyncio.get_running_loop().time() - started < 3
    await stream.aclose()


async def test_an_endless_row_of_greetings_is_no_progress() -> None:
    server = Server(lambda n, last: [frame(CONNECTED), httpx.ReadError("cut")])
    stream = EventStream(server.open, QUICK)
    await stream.open()
    with pytest.raises(ConnectionFailed):
        while True:
            await stream.take(5)
    await stream.aclose()


async def test_an_unforeseen_error_ends_the_stream() -> None:
    server = Server(lambda n, last: ZeroDivisionError("oops"))
    with pytest.raises(ProtocolError, match="oops"):
        await EventStream(server.open, QUICK).open()


async def test_closing_ends_the_task_and_the_connection() -> None:
    server = Server(lambda n, last: [frame(CONNECTED), HANG])
    stream = EventStream(server.open, QUICK)
    await stream.open()
    await stream.aclose()
    await stream.aclose()
    assert server.bodies[0].closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_take_comes_back_when_nothing_comes() -> None:
    server = Server(lambda n, last: [frame(CONNECTED), HANG])
    stream = EventStream(server.open, QUICK)
    await stream.open()
    assert await stream.take(5) == [StatusChanged("connected")]
    assert await stream.take(0.01) == []
    await stream.aclose()


async def test_the_servers_wish_for_a_delay_is_bounded() -> None:
    def answer(n: int, last: str | None) -> object:
        end = httpx.ReadError("cut") if n == 0 else HANG
        return [b"retry: 3600000\n\n", frame(CONNECTED), *map(frame, resumed(last)[:2]), end]

    async with asyncio.timeout(30):
        await collect(EventStream(Server(answer).open, QUICK), has_seq(4))


def test_delays_grow_and_are_bounded() -> None:
    policy = StreamPolicy(first_delay=0.1, longest_delay=1.0)
    assert 0.05 <= policy.delay(0) <= 0.1
    assert 0.5 <= policy.delay(50) <= 1.0
    assert 0.5 <= policy.delay(100_000) <= 1.0
