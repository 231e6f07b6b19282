"""The way out of a container that may have one; see `_network` and `_tunnel` on the host's side."""

from __future__ import annotations

import errno
import os
import struct

from .protocol import (
    NET_CLOSE,
    NET_CLOSED,
    NET_CONNECTIONS,
    NET_DATA,
    NET_DROP,
    NET_END,
    NET_ENDED,
    NET_LOST,
    NET_MORE,
    NET_OPENED,
    NET_SENT,
    NET_TAKEN,
    NET_WINDOW,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from .outlet import Outlet

BACKLOG = 128
READ_SIZE = 1 << 16
COUNT = struct.Struct(">I")


def hand_over(config: dict[str, Any]) -> None:
    """Listen on the address inside the container and give the socket away: we keep nothing."""
    import socket

    host, port = config["address"]
    with socket.socket() as listener, socket.socket(fileno=config["fd"]) as line:
        listener.bind((host, port))
        listener.listen(BACKLOG)
        socket.send_fds(line, [b"\0"], [listener.fileno()])


class Tunnel:
    """
    Listens on the address inside and carries each connection to the host, as frames.

    Where a socket can't be given away: the host may be another machine.
    """

    def __init__(self, outlet: Outlet, config: dict[str, Any]) -> None:
        import socket

        self._out = outlet
        self._connections: dict[int, Connection] = {}
        self._last = 0
        self._listener = socket.socket()
        # the container may be older than this program, and its last connections linger
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(tuple(config["address"]))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._spare = os.open(os.devnull, os.O_RDONLY)
        outlet.watch(self._listener.fileno(), self._accept)

    def frame(self, kind: int, number: int, payload: bytes) -> None:
        """What the host says. It may not know yet that a connection is gone."""
        connection = self._connections.get(number)
        if connection is None:
            return
        if kind == NET_DATA:
            connection.give(payload)
        elif kind == NET_END:
            connection.end()
        elif kind == NET_TAKEN:
            connection.taken(COUNT.unpack(payload)[0])
        elif kind == NET_CLOSE:
            connection.close()
        elif kind == NET_DROP:
            connection.drop()
            self.gone(number)

    def gone(self, number: int) -> None:
        """The host has closed a connection; there is room for another."""
        if len(self._connections) == NET_CONNECTIONS:
            self._out.watch(self._listener.fileno(), self._accept)
        del self._connections[number]
        self._out.send(NET_CLOSED, number)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse()
            return
        self._last += 1
        try:
            connection = Connection(self._last, accepted, self, self._out)
        except OSError:
            accepted.close()
            self._last -= 1
            return
        self._connections[self._last] = connection
        if len(self._connections) == NET_CONNECTIONS:
            self._out.unwatch(self._listener.fileno())
        self._out.send(NET_OPENED, self._last)
        connection.begin()

    def _refuse(self) -> None:
        """No descriptors: the spare one takes it, else it would wake us for ever."""
        os.close(self._spare)
        try:
            self._listener.accept()[0].close()
        except OSError:
            pass
        self._spare = os.open(os.devnull, os.O_RDONLY)


class Connection:
    """A program's connection: what it sends goes to the host, what comes from there to it."""

    def __init__(
        self, number: int, accepted: socket.socket, tunnel: Tunnel, outlet: Outlet
    ) -> None:
        self._number = number
        self._tunnel = tunnel
        self._out = outlet
        self._socket = accepted
        self._socket.setblocking(False)
        self._room = accepted.dup()  # a descriptor is watched for one thing only
        self._reads = self._waits = False
        self._ended = False  # the program's bytes
        self._may_send = NET_WINDOW
        self._pending = bytearray()
        self._given = 0  # bytes taken by the program of which the host has not been told
        self._ends = self._closes = False  # once nothing is pending
        self._over = False

    def begin(self) -> None:
        self._read_on()

    # from the program

    def _read_on(self) -> None:
        """Read while there is something that the host would take."""
        wanted = self._may_send > 0 and not self._ended and not self._closes and not self._over
        if wanted == self._reads:
            return
        self._reads = wanted
        if wanted:
            self._out.watch(self._socket.fileno(), self._read, output=True)
        else:
            self._out.unwatch(self._socket.fileno())

    def _read(self) -> None:
        if self._over:  # it went in this very round, and its descriptor is another's now
            return
        try:
            data = self._socket.recv(min(READ_SIZE, self._may_send))
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if data:
            self._may_send -= len(data)
            self._out.send(NET_SENT, self._number, data)
        else:
            self._ended = True
            self._out.send(NET_ENDED, self._number)
        self._read_on()

    def _lost(self) -> None:
        """The program is gone. The host's word is still needed: it sets the pace for new ones."""
        self.drop()
        if self._closes:
            self._tunnel.gone(self._number)
        else:
            self._out.send(NET_LOST, self._number)

    def taken(self, size: int) -> None:
        """The host has taken so many of the program's bytes."""
        self._may_send += size
        self._read_on()

    # from the host

    def give(self, data: bytes) -> None:
        self._pending += data
        self._write()

    def end(self) -> None:
        """Nothing comes after what is pending."""
        self._ends = True
        self._write()

    def close(self) -> None:
        """Over, as soon as the program has got what is pending."""
        self._closes = True
        if self._over:
            self._tunnel.gone(self._number)
        else:
            self._read_on()
            self._write()

    def drop(self) -> None:
        """Let go of the program."""
        if not self._over:
            self._over = True
            self._read_on()
            self._wait_for_room(False)
            self._socket.close()
            self._room.close()

    def _write(self) -> None:
        if self._over:
            return
        try:
            sent = self._socket.send(self._pending) if self._pending else 0
            del self._pending[:sent]
            self._given += sent
            if not self._pending and self._ends:
                self._ends = False
                self._socket.shutdown(1)  # SHUT_WR
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        if not self._pending and self._closes:
            self.drop()
            self._tunnel.gone(self._number)
            return
        self._wait_for_room(bool(self._pending))
        if self._given >= NET_WINDOW // 2:
            self._out.send(NET_MORE, self._number, COUNT.pack(self._given))
            self._given = 0

    def _wait_for_room(self, wanted: bool) -> None:
        if wanted != self._waits:
            self._waits = wanted
            if wanted:
                self._out.watch_room(self._room.fileno(), self._write)
            else:
                self._out.unwatch(self._room.fileno())
