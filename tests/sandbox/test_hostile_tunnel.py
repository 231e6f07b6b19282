"""
The host against an agent program that was taken over, where connections to the network are frames.

Nothing may hang or grow: what breaks the rules is the end of the container, and with it of all its
connections; what keeps them is served like any program.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_magics.sandbox import Limits, Network, Sandbox, SandboxError, SandboxGone
from agent_magics.sandbox import _channel as channel_module
from agent_magics.sandbox import _proxy as proxy_module
from agent_magics.sandbox._agent import protocol
from agent_magics.sandbox._frames import encode
from agent_magics.sandbox._network import NetworkLink
from tests.support.processes import eventually
from tests.support.proxied import SERVER, server
from tests.support.taken_over import InProcess, TakenOver, Wire, killing_ends_wires

PATIENCE = 60.0
COUNT = struct.Struct(">I")


class Recorder(Wire):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.told = bytearray()

    def write(self, data: bytes) -> None:
        self.told += data

    def frames(self) -> list[tuple[int, int, bytes]]:
        """After the agent program itself, which comes first."""
        found, at = [], 8 + int(self.told[:8])
        while at < len(self.told):
            kind, number, length = protocol.HEADER.unpack_from(self.told, at)
            at += protocol.HEADER.size
            found.append((kind, number, bytes(self.told[at : at + length])))
            at += length
        return found

    def kinds(self, number: int) -> list[int]:
        return [kind for kind, of, _ in self.frames() if of == number]

    def text(self, number: int) -> bytes:
        return b"".join(
            data for kind, of, data in self.frames() if (kind, of) == (protocol.NET_DATA, number)
        )

    def say(self, kind: int, number: int, payload: bytes = b"") -> None:
        if self.returncode is None:
            self.stdout.feed_data(encode(kind, number, payload))


def network(port: int = 1) -> Network:
    """Of four hosts: one is a server, one is not there, one waits for an answer, one is refused."""

    async def permit(host: str, port: int) -> str:
        if host == "slow.example.org":
            await asyncio.Event().wait()
        return "No." if host == "evil.example.org" else ""

    async def resolve(host: str, port: int) -> list[str]:
        if host == "gone.example.org":
            raise OSError("not there")
        return [SERVER]

    return Network(permit, (SERVER,), {}, resolve)


@pytest.fixture(autouse=True)
def killing_ends_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    killing_ends_wires(monkeypatch)


@asynccontextmanager
async def taken_over(root: Path) -> AsyncIterator[tuple[Sandbox, Recorder]]:
    wire = Recorder()
    box = Sandbox(InProcess(wire), root, Limits(), NetworkLink(network()))
    async with asyncio.timeout(PATIENCE):
        await box.start()
        try:
            yield box, wire
        finally:
            await box.stop()
            assert asyncio.all_tasks() == {asyncio.current_task()}


def request(host: str, port: int = 80) -> bytes:
    return f"GET http://{host}.example.org:{port}/ HTTP/1.1\r\n\r\n".encode()


async def fault(box: Sandbox) -> str:
    """Why the container was ended."""
    await eventually(lambda: not box.alive)
    assert box._channel is not None
    return str(box._channel._gone)


# what keeps the rules


async def test_a_connection_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with server() as port, taken_over(tmp_path) as (box, wire):
        wire.say(protocol.NET_OPENED, 1)
        wire.say(protocol.NET_SENT, 1, request("data", port))
        await eventually(lambda: wire.kinds(1)[-1:] == [protocol.NET_CLOSE])
        assert wire.text(1).endswith(b"hello")
        wire.say(protocol.NET_ENDED, 1)
        wire.say(protocol.NET_CLOSED, 1)
        wire.say(protocol.NET_OPENED, 2)
        wire.say(protocol.NET_SENT, 2, request("evil"))
        wire.say(protocol.NET_ENDED, 2)
        await eventually(lambda: wire.kinds(2)[-1:] == [protocol.NET_CLOSE])
        assert b"403 Forbidden by agent-magics: No." in wire.text(2)
        assert (box.traffic.allowed, box.traffic.refused, box.alive) == (1, 1, True)


async def test_what_is_sent_waits_for_the_one_who_takes_it(tmp_path: Path) -> None:
    size = 4 * protocol.NET_WINDOW

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes(size))
        await writer.drain()

    async with server(flood) as port, taken_over(tmp_path) as (_, wire):
        wire.say(protocol.NET_OPENED, 1)
        wire.say(protocol.NET_SENT, 1, request("data", port))
        for taken in range(protocol.NET_WINDOW, size + 1, protocol.NET_WINDOW):
            await eventually(lambda taken=taken: len(wire.text(1)) == taken)  # type: ignore[misc]
            assert protocol.NET_CLOSE not in wire.kinds(1)[:-1]
            wire.say(protocol.NET_MORE, 1, COUNT.pack(protocol.NET_WINDOW))
        await eventually(lambda: wire.kinds(1)[-1:] == [protocol.NET_CLOSE])


async def test_a_cut_connection_withdraws_its_question(tmp_path: Path) -> None:
    async with taken_over(tmp_path) as (box, wire):
        for number in (1, 2):
            wire.say(protocol.NET_OPENED, number)
            wire.say(protocol.NET_SENT, number, request("slow"))
        await eventually(lambda: len(asyncio.all_tasks()) > 5)  # both are asked about
        wire.say(protocol.NET_LOST, 1)
        wire.say(protocol.NET_ENDED, 2)
        await eventually(lambda: wire.kinds(1) == [protocol.NET_DROP])
        await eventually(lambda: wire.kinds(2) == [protocol.NET_CLOSE])
        assert box.alive


# what breaks them

FAULTS: dict[str, tuple[list[tuple[int, int, bytes]], str]] = {
    "a number of its own": ([(protocol.NET_OPENED, 7, b"")], "connection 7 after 0"),
    "number nought": ([(protocol.NET_OPENED, 0, b"")], "connection 0 after 0"),
    "a huge number": ([(protocol.NET_SENT, 2**32 - 1, b"x")], "which is not there"),
    "twice the same": ([(protocol.NET_OPENED, 1, b"")] * 2, "connection 1 after 1"),
    "with content": ([(protocol.NET_OPENED, 1, b"x")], "connection 1 after 0"),
    "too many": (
        [(protocol.NET_OPENED, n, b"") for n in range(1, protocol.NET_CONNECTIONS + 2)],
        "more connections than there may be",
    ),
    "too much": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_SENT, 1, bytes(protocol.NET_WINDOW + 1))],
        "bytes of a connection that may not come",
    ),
    "nothing at all": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_SENT, 1, b"")],
        "bytes of a connection that may not come",
    ),
    "after its end": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_ENDED, 1, b""), (protocol.NET_SENT, 1, b"x")],
        "bytes of a connection that may not come",
    ),
    "two ends": (
        [(protocol.NET_OPENED, 1, b""), *[(protocol.NET_ENDED, 1, b"")] * 2],
        "a second end",
    ),
    "cut twice": (
        [(protocol.NET_OPENED, 1, b""), *[(protocol.NET_LOST, 1, b"")] * 2],
        "cut twice",
    ),
    "more than was sent": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_MORE, 1, COUNT.pack(1))],
        "more was taken than was sent",
    ),
    "nothing more": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_MORE, 1, COUNT.pack(0))],
        "more was taken than was sent",
    ),
    "a bad count": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_MORE, 1, b"abc")],
        "bad count",
    ),
    "closed unasked": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_CLOSED, 1, b"")],
        "nobody had asked",
    ),
    "an end with content": (
        [(protocol.NET_OPENED, 1, b""), (protocol.NET_ENDED, 1, b"x")],
        "content where none belongs",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_the_end(tmp_path: Path, name: str) -> None:
    frames, reason = FAULTS[name]
    async with taken_over(tmp_path) as (box, wire):
        wire.stdout.feed_data(b"".join(encode(*frame) for frame in frames))
        assert reason in await fault(box)


async def test_without_a_network_there_are_no_connections(tmp_path: Path) -> None:
    wire = Recorder()
    box = Sandbox(InProcess(wire), tmp_path, Limits())
    await box.start()
    wire.say(protocol.NET_OPENED, 1)
    assert "there is no network" in await fault(box)
    await box.stop()


async def test_who_reads_nothing_is_ended(tmp_path: Path) -> None:
    async with taken_over(tmp_path) as (box, wire):
        wire.unread = channel_module.UNREAD + 1
        wire.say(protocol.NET_OPENED, 1)
        wire.say(protocol.NET_SENT, 1, request("evil"))
        assert "took nothing any more" in await fault(box)


ONE = "send(frame(72, 1))\n"
FOREVER = "n = 0\nwhile True:\n    n += 1\n    send({})"
ENDLESS = {
    "connections": FOREVER.format("frame(72, n)"),
    "connections that are cut": FOREVER.format("frame(72, n) + frame(76, n)"),
    "connections that are closed": FOREVER.format("frame(72, n) + frame(77, n)"),
    "a request": ONE + FOREVER.format("frame(73, 1, bytes(60000))"),
    "drops of a request": ONE + FOREVER.format("frame(73, 1, b'x') * 1000"),
    "ends": ONE + FOREVER.format("frame(74, 1)"),
    "room": ONE + FOREVER.format("frame(75, 1, bytes(4))"),
}


@pytest.mark.parametrize("attack", ENDLESS)
async def test_what_never_ends_is_ended(tmp_path: Path, attack: str) -> None:
    program = ENDLESS[attack]
    box = Sandbox(TakenOver(program), tmp_path, Limits(), NetworkLink(network()))
    await box.start()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(SandboxGone, match="broke the protocol"):
            await box.read_file("f")
    await box.stop()


# anything

hosts = st.sampled_from(["data", "gone", "slow", "evil"])
pieces = st.one_of(
    hosts.map(request),
    hosts.map(lambda host: f"CONNECT {host}.example.org:80 HTTP/1.1\r\n\r\n".encode()),
    st.just(b"POST http://data.example.org/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"),
    st.binary(min_size=1, max_size=50),
    st.integers(1, 1 << 18).map(bytes),
)
near = st.integers(1, 4)
frames = st.one_of(
    st.tuples(st.just("open"), near, st.just(b"")),
    st.tuples(st.just(protocol.NET_SENT), near, pieces),
    st.tuples(st.just(protocol.NET_SENT), near, pieces),
    st.tuples(st.just(protocol.NET_ENDED), near, st.just(b"")),
    st.tuples(st.just(protocol.NET_LOST), near, st.just(b"")),
    st.tuples(st.just("closed"), near, st.just(b"")),
    st.tuples(st.just("more"), near, st.just(b"")),
    st.tuples(
        st.integers(protocol.HELLO, protocol.NET_CLOSED),
        st.integers(0, 6) | st.integers(0, 2**32 - 1),
        st.binary(max_size=8),
    ),
)


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(frames, max_size=40), st.integers(0, 20), st.booleans())
async def test_any_frames(
    tmp_path: Path,
    story: list[tuple[int | str, int, bytes]],
    turns: int,
    ends: bool,
) -> None:
    """Most of them keep the rules, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy_module, "PACE", 0)
        patch.setattr(proxy_module, "LINGER", 0.05)
        async with taken_over(tmp_path) as (box, wire):
            reading = asyncio.ensure_future(box.read_file("f"))
            last = 0
            for kind, number, payload in story:
                if kind == "open":
                    last += 1
                    wire.say(protocol.NET_OPENED, last)
                elif kind == "closed":
                    if {protocol.NET_CLOSE, protocol.NET_DROP} & set(wire.kinds(number)):
                        wire.say(protocol.NET_CLOSED, number)
                elif kind == "more":
                    if size := len(wire.text(number)):
                        wire.say(protocol.NET_MORE, number, COUNT.pack(size))
                else:
                    assert isinstance(kind, int)
                    wire.say(kind, number, payload)
                for _ in range(turns):
                    await asyncio.sleep(0)
            if ends:
                wire.die()
            stopping = asyncio.ensure_future(box.stop())
            (result,) = await asyncio.gather(reading, return_exceptions=True)
            await stopping
            assert isinstance(result, SandboxError | OSError | bytes), repr(result)
            assert not box.alive and not box.busy
