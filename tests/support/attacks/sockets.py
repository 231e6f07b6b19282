"""Sockets that are no network's: local services and odd families."""

from __future__ import annotations

import os
import socket

from .stand import Stand, check


@check
async def abstract_sockets_of_the_host(stand: Stand) -> None:
    name = f"decoy-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("\0" + name)
        server.listen()
        client.connect("\0" + name)
        await stand.refused(f"socket.socket(1).connect('\\0' + {name!r})", "ECONNREFUSED")


@check
async def socket_families(stand: Stand) -> None:
    code = "\n".join(f"socket.socket({family}, 1)" for family in (40, 38, 29, 31, 44))
    await stand.refused(code, "EAFNOSUPPORT")
    await stand.refused("socket.socket(17, 3)", "EAFNOSUPPORT")
    await stand.refused("socket.socket(2, 3, 1)", "EPERM")


@check
async def every_other_family(stand: Stand) -> None:
    """Bluetooth, CAN, TIPC, RDS, XDP, NFC, KCM, SMC … whatever the kernel has."""
    shown = await stand.python(
        "for family in set(range(47)) - {1, 2, 10, 16}:\n"
        "    for kind in (1, 2, 3, 5):\n"
        "        try: socket.socket(family, kind); print('OPEN', family, kind)\n"
        "        except OSError as e:\n"
        "            if e.errno != errno.EAFNOSUPPORT: print(family, kind, e)\n"
    )
    assert shown == ""


@check
async def pairs_of_other_families(stand: Stand) -> None:
    shown = await stand.python(
        "pair = (ctypes.c_int * 2)()\n"
        "for family in set(range(2, 47)):\n"
        "    if libc.socketpair(family, 1, 0, pair) == 0: print('OPEN', family)\n"
    )
    assert shown == ""


@check
async def virtual_machines(stand: Stand) -> None:
    """AF_VSOCK is not covered by namespaces: it reaches what runs this machine."""
    await stand.refused("socket.socket(40, 1)\nsocket.socket(40, 2)", "EAFNOSUPPORT")
    await stand.refused("open('/dev/vsock', 'rb')\nopen('/dev/kvm', 'rb')", "ENOENT")


@check
async def ciphers_of_the_kernel(stand: Stand) -> None:
    await stand.refused("socket.socket(38, 5, 0)", "EAFNOSUPPORT")


@check
async def packets(stand: Stand) -> None:
    await stand.refused("socket.socket(17, 3, 0x300)\nsocket.socket(17, 2, 0x300)", "EAFNOSUPPORT")
    await stand.refused(
        "socket.socket(2, 3, 255)\nsocket.socket(10, 3, 58)\nsocket.socket(2, 3, 6)", "EPERM"
    )


@check
async def messages_of_the_kernel(stand: Stand) -> None:
    """Of netlink: the audit log can't be written, devices are not this machine's."""
    shown = await stand.python(
        "try:\n"
        "    s = socket.socket(16, 3, 9)\n"
        "    s.send(struct.pack('IHHII', 20, 1107, 5, 1, 0) + b'fake')\n"
        "    print(struct.unpack_from('i', s.recv(1000), 16)[0])\n"
        "except OSError as e: print(-e.errno)\n"
    )
    assert int(shown) < 0
    await stand.refused("socket.socket(16, 3, 9).bind((0, 1))", "EPERM", "EPROTONOSUPPORT")


@check
async def socket_of_the_engine(stand: Stand) -> None:
    path = str(stand.home / "engine-state/engine.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)  # from here it works
    await stand.refused(f"socket.socket(1).connect({path!r})", "ENOENT", "ENOTDIR")
    shown = await stand.output("find / -xdev -type s 2>/dev/null; cat /proc/net/unix | wc -l")
    assert "engine.sock" not in shown


@check
async def sockets_of_the_usual_services(stand: Stand) -> None:
    paths = (
        *("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"),
        *("/run/containerd/containerd.sock", "/run/dbus/system_bus_socket", "/run/systemd/notify"),
        *("/run/user/0/bus", "/run/user/1000/bus", "/tmp/.X11-unix/X0", "/run/nscd/socket"),
        *("/run/snapd.socket", "/run/systemd/journal/socket", "/dev/log", "/run/lxd/unix.socket"),
    )
    code = "\n".join(f"socket.socket(1).connect({path!r})" for path in paths)
    await stand.refused(code, "ENOENT")
    await stand.refused("socket.socket(1).connect('\\0/tmp/.X11-unix/X0')", "ECONNREFUSED")


@check
async def sockets_and_pipes_as_files(stand: Stand) -> None:
    """The host asks for a file and finds something that never ends or never begins."""
    await stand.python(
        "os.mkfifo('pipe')\n"
        "socket.socket(1).bind('socket')\n"
        "os.symlink('/dev/zero', 'zero')\n"
        "os.symlink('/dev/random', 'random')\n"
        "os.symlink('/proc/self/fd/0', 'input')\n"
    )
    for name in ("pipe", "socket", "zero", "random", "input"):
        for attempt in (stand.box.read_file(name), stand.box.write_file(name, b"x")):
            try:
                await attempt
            except OSError:
                continue
            raise AssertionError(name)
    assert stand.box.alive
    await stand.run("rm -f pipe socket zero random input")
