"""Other machines, and this one by its addresses, without and with a way to the network."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

from agent_magics.sandbox import Network, Sandbox, open_sandbox

from .stand import PRELUDE, Stand, check


@check
async def loopback_of_the_host(stand: Stand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # from here it works
        await stand.refused(f"socket.create_connection(('127.0.0.1', {port}), 2)", "ECONNREFUSED")


@check
async def other_networks(stand: Stand) -> None:
    await stand.refused("socket.create_connection(('203.0.113.1', 80), 2)", "ENETUNREACH")
    await stand.refused("socket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53))", "ENETUNREACH")
    interfaces = await stand.python("print(sorted(n for _, n in socket.if_nameindex()))")
    assert interfaces == "['lo']"


@check
async def own_loopback_works(stand: Stand) -> None:
    shown = await stand.python(
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(s.getsockname()); print('connected')\n"
    )
    assert shown == "connected"


@check
async def other_families_of_addresses(stand: Stand) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        socket.create_connection(("::1", port)).close()
        await stand.refused(f"socket.create_connection(('::1', {port}), 2)", "ECONNREFUSED")
    await stand.refused(
        "socket.create_connection(('2001:db8::1', 80), 2)\n"
        "socket.create_connection(('169.254.169.254', 80), 2)\n"
        "socket.create_connection(('fd00:ec2::254', 80), 2)\n",
        "ENETUNREACH",
    )


@check
async def everybody_nearby(stand: Stand) -> None:
    await stand.refused(
        "socket.socket(2, 2).sendto(b'x', ('224.0.0.251', 5353))\n"
        "socket.socket(2, 2).sendto(b'x', ('255.255.255.255', 67))\n",
        *("ENETUNREACH", "EACCES"),
    )


@check
async def names_of_other_machines(stand: Stand) -> None:
    shown = await stand.python(
        "try: print(socket.getaddrinfo('example.com', 80))\n"
        "except socket.gaierror: print('unknown')\n"
    )
    assert shown == "unknown"
    hosts = await stand.output("cat /etc/hosts /etc/resolv.conf")
    assert "nameserver" not in hosts and hosts.count("\n") == 3


@check
async def changing_the_network(stand: Stand) -> None:
    """By netlink: an address, a route; by ioctl: the interface."""
    await stand.refused(
        """
        fcntl.ioctl(socket.socket(2, 2), 0x8914, struct.pack('16sH', b'lo', 0) + bytes(22))
        fcntl.ioctl(socket.socket(2, 2), 0x8916, struct.pack('16sHxx', b'lo', 2) + bytes(20))
        socket.socket(2, 2).setsockopt(1, 36, 5)
        socket.socket(2, 1).bind(('127.0.0.1', 80))
        """,
        *("EPERM", "EACCES"),
    )
    answer = await stand.python(
        "s = socket.socket(16, 3, 0)\n"
        "body = struct.pack('4Bi', 2, 8, 0, 0, 1) + struct.pack('HH4B', 8, 2, 10, 0, 0, 1)\n"
        "s.send(struct.pack('IHHII', 16 + len(body), 20, 5, 1, 0) + body)\n"
        "print(struct.unpack_from('i', s.recv(1000), 16)[0])\n"
    )
    assert answer == "-1"  # EPERM


# --- by the way that is opened


@contextlib.asynccontextmanager
async def networked(stand: Stand) -> AsyncIterator[tuple[Sandbox, list[str]]]:
    """Another container, which may reach whatever is public; and what it asked for."""
    asked: list[str] = []

    async def permit(host: str, port: int) -> str:
        asked.append(host)
        return ""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host.endswith(".rebound.example") else [host]

    box = open_sandbox(stand.base / "networked", network=Network(permit, resolve=resolve))
    await box.start()
    try:
        yield box, asked
    finally:
        await box.destroy()


@contextlib.contextmanager
def service_of_the_host() -> Iterator[tuple[int, list[object]]]:
    """Something that listens on all addresses of this machine; its port and who came."""
    came: list[object] = []
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        listener.setblocking(False)

        def look() -> None:
            with contextlib.suppress(BlockingIOError):
                connection, address = listener.accept()
                connection.close()
                came.append(address)

        yield listener.getsockname()[1], came
        look()


@check
async def host_through_the_proxy(stand: Stand) -> None:
    spellings = (
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0", "::1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "0.0.0.0"),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "LOCALHOST.", "a.localhost"),
        *("x.rebound.example", "127.0.0.1%00.example.org", "a@127.0.0.1", "127.0.0.1#.example"),
        *("169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "100.100.100.200", own_address()),
    )
    with service_of_the_host() as (port, came):
        program = (
            "for host in sys.argv[2:]:\n"
            "  for line in (f'CONNECT {host}:{sys.argv[1]}', f'GET http://{host}:{sys.argv[1]}/'):\n"
            "    with socket.create_connection(('127.0.0.1', 3128), 10) as s:\n"
            "      s.sendall(f'{line} HTTP/1.1\\r\\n\\r\\n'.encode())\n"
            "      print(line, s.recv(100).split(b' ')[1].decode())\n"
        )
        async with networked(stand) as (box, _):
            words = " ".join(f"'{word}'" for word in (str(port), *spellings))
            done = await box.run(f"python - {words}", stdin=(PRELUDE + program).encode())
    answers = done.stdout.decode().splitlines()
    assert len(answers) == 2 * len(spellings), done
    assert all(line.endswith((" 403", " 400")) for line in answers), answers
    assert came == []


def own_address() -> str:
    """The address by which this machine is known to others, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@check
async def host_around_the_proxy(stand: Stand) -> None:
    with service_of_the_host() as (port, came):
        program = (
            "for host in ('127.0.0.1', '127.0.0.2', sys.argv[2], '192.0.2.1'):\n"
            "  attempt(lambda: socket.create_connection((host, int(sys.argv[1])), 5))\n"
        )
        async with networked(stand) as (box, asked):
            done = await box.run(
                f"python - {port} {own_address()}", stdin=(PRELUDE + program).encode()
            )
    assert set(done.stdout.decode().split()) <= {"ECONNREFUSED", "ENETUNREACH"}, done
    assert came == [] and asked == []


@check
async def bytes_that_are_no_requests(stand: Stand) -> None:
    program = (
        "kinds = [b'', b'\\0' * 70000, b'\\n' * 70000, b'GET ' + b'a' * 70000, os.urandom(5000),\n"
        "         b'\\x16\\x03\\x01' * 99, b'\\x05\\x01\\0', b'PRI * HTTP/2.0\\r\\n\\r\\n']\n"
        "kept = []\n"
        "for n in range(200):\n"
        "    s = socket.create_connection(('127.0.0.1', 3128), 10)\n"
        "    try: s.sendall(kinds[n % len(kinds)])\n"
        "    except OSError: pass\n"
        "    s.close() if n % 5 else kept.append(s)\n"
        "for s in kept: s.close()\n"
        "with socket.create_connection(('127.0.0.1', 3128), 10) as s:\n"
        "    s.sendall(b'CONNECT 127.0.0.1:1 HTTP/1.1\\r\\n\\r\\n')\n"
        "    print(s.recv(12).decode())\n"
    )
    async with networked(stand) as (box, asked):
        done = await box.run("python -", stdin=(PRELUDE + program).encode(), timeout=30)
    assert done.stdout == b"HTTP/1.1 403\n", done
    assert asked == []


@check
async def the_proxy_can_not_be_replaced(stand: Stand) -> None:
    program = (
        "def listen(reuse):\n"
        "    s = socket.socket()\n"
        "    s.setsockopt(socket.SOL_SOCKET, reuse, 1)\n"
        "    s.bind(('127.0.0.1', 3128))\n"
        "    s.listen()\n"
        "attempt(lambda: listen(socket.SO_REUSEADDR))\n"
        "attempt(lambda: listen(socket.SO_REUSEPORT))\n"
    )
    async with networked(stand) as (box, _):
        await box.run("kill -9 -1")
        done = await box.run("python -", stdin=(PRELUDE + program).encode())
    assert done.stdout.split() == [b"EADDRINUSE"] * 2, done
