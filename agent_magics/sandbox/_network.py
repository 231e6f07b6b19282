"""
The way out of a container that may have one.

The container's network stays empty. At its start the agent program opens a socket that listens
there, on 127.0.0.1:3128. Who connects to it speaks to our proxy, which lives outside and decides
about every connection.

Where the container is a child of ours, the socket is handed over on a Unix socket before anything
else runs inside, and from then on is ours alone: inside there is no program to kill. Elsewhere the
agent program keeps it and carries the connections to us as frames, see `_tunnel`.
"""

from __future__ import annotations

import array
import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType

from ._addresses import Openings
from ._errors import SandboxUnavailable
from ._incoming import Listener
from ._proxy import Proxy, Traffic
from ._tunnel import Tunnel

__all__ = ["Network", "NetworkLink"]

ADDRESS = ("127.0.0.1", 3128)
"""Where the proxy listens, inside."""
RESOLVE_TIMEOUT = 10.0
"""Seconds a host's addresses may take to be found."""

_PROXY = f"http://{ADDRESS[0]}:{ADDRESS[1]}"
_NOT_BY_PROXY = "localhost,127.0.0.1,::1"
_ENVIRON = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _PROXY),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), _NOT_BY_PROXY),
    "NODE_USE_ENV_PROXY": "1",
}
_resolvers = ThreadPoolExecutor(4, thread_name_prefix="sandbox-resolve")
"""Slow name servers must not keep the process's other work in threads waiting."""

Permit = Callable[[str, int], Awaitable[str]]
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve_host(host: str, port: int) -> list[str]:
    """All addresses of a host, in the system's order; OSError when it has none."""

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async with asyncio.timeout(RESOLVE_TIMEOUT):
        return await asyncio.get_running_loop().run_in_executor(_resolvers, look_up)


@dataclass(frozen=True)
class Network:
    """
    What a container may reach.

    `permit` is asked about each connection with the host (in its one spelling) and the port; its
    answer is empty when that is allowed, else a short reason for the program that wanted it. It
    may take its time and is cancelled when that program gives up. `private` are hosts, addresses
    and networks that may be reached although they are not public, see `Openings`. `environ` is
    added to that of commands. `resolve` stands for the name servers.
    """

    permit: Permit
    private: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    resolve: Resolve = resolve_host


class NetworkLink:
    """
    The way out of one container at a time: `tunnel`, start it, `open`, and `close`.

    With `begin` before, the agent program hands its socket over, and there is no tunnel.
    """

    def __init__(self, network: Network) -> None:
        self.traffic = Traffic()
        self.environ = {**_ENVIRON, **network.environ}
        """What makes pip, curl, git, npm and the rest take this way."""
        self._network = network
        self._openings = Openings(network.private)
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._proxy: Proxy | None = None

    def begin(self) -> int:
        """The descriptor that the agent program has to find, for the handing over."""
        ours, theirs = self._pair = socket.socketpair()
        ours.setblocking(False)
        return theirs.fileno()

    def config(self) -> dict[str, object]:
        """For the agent program."""
        line = {} if self._pair is None else {"fd": self._pair[1].fileno()}
        return {"address": list(ADDRESS), **line}

    def tunnel(self) -> Tunnel | None:
        """What takes the frames about connections; None: there are none, after `begin`."""
        return Tunnel() if self._pair is None else None

    def open(self, tunnel: Tunnel | None) -> None:
        """
        Serve the tunnel, or the listening socket, which came before the agent program said hello.

        Raises:
            SandboxUnavailable: it did not.
        """
        source = tunnel or self._taken_over()
        network = self._network
        self._proxy = Proxy(network.permit, network.resolve, self._openings, self.traffic)
        self._proxy.serve(source)

    def _taken_over(self) -> Listener:
        listener = None if self._pair is None else _received(self._pair[0])
        self._release()
        if listener is None:
            raise SandboxUnavailable(
                "The container's way to the network could not be opened.",
                "Start the session without network, and report this.",
            )
        return Listener(listener)

    async def close(self) -> None:
        """End every connection."""
        self._release()
        if self._proxy is not None:
            proxy, self._proxy = self._proxy, None
            await proxy.close()

    def _release(self) -> None:
        for end in self._pair or ():
            end.close()
        self._pair = None


def _received(line: socket.socket) -> socket.socket | None:
    """The socket that was handed over, if it is what it has to be."""
    numbers = array.array("i")
    try:
        _, ancillary, _, _ = line.recvmsg(
            1, socket.CMSG_SPACE(numbers.itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except OSError:
        return None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: numbers.itemsize])
    if not numbers:
        return None
    listener = socket.socket(fileno=numbers[0])
    if _listens(listener):
        return listener
    listener.close()
    return None


def _listens(listener: socket.socket) -> bool:
    try:
        accepts = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(accepts) and listener.getsockname() == ADDRESS
    except OSError:
        return False
