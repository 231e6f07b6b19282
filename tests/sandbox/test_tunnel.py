"""The agent program's end of the tunnel: programs on one side, frames on the other."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent_magics.sandbox._agent import protocol
from agent_magics.sandbox._agent.network import Tunnel
from agent_magics.sandbox._agent.outlet import Outlet
from tests.support.waiting import wait_until

COUNT = struct.Struct(">I")
Frame = tuple[int, int, bytes]


class Inside:
    """A tunnel on a free port, its loop, and what it says to the host."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = free.getsockname()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._said = bytearray()
        self.outlet = Outlet(self._writing)
        self.tunnel = Tunnel(self.outlet, {"address": list(self.address)})
        self._programs: list[socket.socket] = []

    def connect(self) -> socket.socket:
        program = socket.create_connection(self.address, timeout=30)
        self._programs.append(program)
        return program

    def step(self) -> list[Frame]:
        """One round of the loop; everything that was said so far."""
        self.outlet.wait(0.001, busy=False)
        try:
            while data := os.read(self._reading, 1 << 20):
                self._said += data
        except BlockingIOError:
            pass
        found, at = [], 0
        while at + protocol.HEADER.size <= len(self._said):
            kind, number, length = protocol.HEADER.unpack_from(self._said, at)
            at += protocol.HEADER.size
            found.append((kind, number, bytes(self._said[at : at + length])))
            at += length
        return found

    def until(self, condition: Callable[[list[Frame]], Any]) -> list[Frame]:
        wait_until(lambda: condition(self.step()))
        return self.step()

    def until_said(self, kind: int, number: int = 1, payload: bytes = b"") -> None:
        self.until(lambda said: (kind, number, payload) in said)

    def tell(self, kind: int, number: int = 1, payload: bytes = b"") -> None:
        self.tunnel.frame(kind, number, payload)

    def close(self) -> None:
        for program in self._programs:
            program.close()
        for connection in self.tunnel._connections.values():
            connection.drop()
        self.tunnel._listener.close()
        os.close(self.tunnel._spare)
        self.outlet._selector.close()
        os.close(self._reading)
        os.close(self._writing)


@pytest.fixture
def inside() -> Iterator[Inside]:
    found = Inside()
    yield found
    found.close()


def test_a_program_that_resets_keeps_its_place_until_the_host_has_spoken(inside: Inside) -> None:
    program = inside.connect()
    inside.until_said(protocol.NET_OPENED)
    program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    program.close()
    inside.until_said(protocol.NET_LOST)
    inside.tell(protocol.NET_DATA, payload=b"too late")
    inside.tell(protocol.NET_TAKEN, payload=COUNT.pack(5))
    assert (protocol.NET_CLOSED, 1, b"") not in inside.step()
    inside.tell(protocol.NET_DROP)
    inside.tell(protocol.NET_DROP)
    assert inside.step()[1:] == [(protocol.NET_LOST, 1, b""), (protocol.NET_CLOSED, 1, b"")]


def test_one_more_than_there_may_be_waits(inside: Inside) -> None:
    for _ in range(protocol.NET_CONNECTIONS + 1):
        inside.connect()
    inside.until_said(protocol.NET_OPENED, protocol.NET_CONNECTIONS)
    for _ in range(5):
        assert len(inside.step()) == protocol.NET_CONNECTIONS
    inside.tell(protocol.NET_CLOSE, 7)
    inside.until_said(protocol.NET_OPENED, protocol.NET_CONNECTIONS + 1)
    assert (protocol.NET_CLOSED, 7, b"") in inside.step()


def test_no_more_is_read_than_the_host_takes(inside: Inside) -> None:
    program = inside.connect()
    program.setblocking(False)
    sent = 0

    def push(said: list[Frame]) -> int:
        nonlocal sent
        try:
            sent += program.send(bytes(1 << 16))
        except BlockingIOError:
            return sum(len(payload) for kind, _, payload in said if kind == protocol.NET_SENT)
        return 0

    inside.until(lambda said: push(said) == protocol.NET_WINDOW)
    for _ in range(5):
        assert push(inside.step()) in (0, protocol.NET_WINDOW)
    inside.tell(protocol.NET_TAKEN, payload=COUNT.pack(1000))
    inside.until(lambda said: said[-1] == (protocol.NET_SENT, 1, bytes(1000)))


def test_what_a_program_takes_is_told_and_the_rest_waits(inside: Inside) -> None:
    program = inside.connect()
    inside.until_said(protocol.NET_OPENED)
    for _ in range(64):  # more than the system keeps for a program
        inside.tell(protocol.NET_DATA, payload=bytes(protocol.NET_WINDOW))
    inside.tell(protocol.NET_CLOSE)
    assert (protocol.NET_CLOSED, 1, b"") not in inside.step()
    program.setblocking(False)
    got = 0

    def take(said: list[Frame]) -> bool:
        nonlocal got
        try:
            while data := program.recv(1 << 20):
                got += len(data)
        except BlockingIOError:
            return False
        return True

    said = inside.until(take)
    assert got == 64 * protocol.NET_WINDOW
    told = [COUNT.unpack(payload)[0] for kind, _, payload in said if kind == protocol.NET_MORE]
    assert 0 < sum(told) <= got
    assert said[-1] == (protocol.NET_CLOSED, 1, b"")


def test_dropping_does_not_wait(inside: Inside) -> None:
    program = inside.connect()
    inside.until_said(protocol.NET_OPENED)
    for _ in range(64):
        inside.tell(protocol.NET_DATA, payload=bytes(protocol.NET_WINDOW))
    inside.tell(protocol.NET_DROP)
    inside.until_said(protocol.NET_CLOSED)
    assert inside.tunnel._connections == {}
    program.close()


def test_without_descriptors_a_program_is_turned_away(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the waiting connection would wake the loop for ever."""
    listener = inside.tunnel._listener

    class Full:
        """The listener when there are none."""

        full = True

        def accept(self) -> Any:
            if Full.full:
                Full.full = False
                raise OSError(errno.EMFILE, "no descriptors")
            return listener.accept()

        def fileno(self) -> int:
            return listener.fileno()

        def close(self) -> None:
            listener.close()

    monkeypatch.setattr(inside.tunnel, "_listener", Full())
    program = inside.connect()
    inside.until(lambda said: not Full.full)
    assert program.recv(1) == b"" and inside.step() == []
    inside.connect()
    inside.until_said(protocol.NET_OPENED)


def test_the_address_is_free_for_the_next_program_at_once(inside: Inside) -> None:
    """The container may be there still, with connections that were closed a moment ago."""
    program = inside.connect()
    inside.until_said(protocol.NET_OPENED)
    inside.tell(protocol.NET_CLOSE)
    inside.until_said(protocol.NET_CLOSED)
    assert program.recv(1) == b""
    program.close()  # the other end is in TIME_WAIT now
    inside.outlet.unwatch(inside.tunnel._listener.fileno())
    inside.tunnel._listener.close()
    os.close(inside.tunnel._spare)
    inside.tunnel = Tunnel(inside.outlet, {"address": list(inside.address)})
    inside.connect()
    inside.until(lambda said: said.count((protocol.NET_OPENED, 1, b"")) == 2)
