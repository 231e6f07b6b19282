"""
The program that runs inside a container, as its PID 1 where it has one, for as long as it lives.

It takes requests as frames on its stdin and answers on its stdout; the end of stdin is its end and
that of everything it started. It runs isolated (`-I -S`), from source sent ahead on the same stdin.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

from .commands import Commands
from .files import Files
from .landlock import restrict
from .network import Tunnel, hand_over
from .outlet import Outlet
from .processes import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, prctl
from .protocol import (
    CANCEL,
    CHANGE,
    DELETE,
    FETCH,
    HEADER,
    HELLO,
    INTERRUPT,
    JOBS,
    KILL,
    LIST,
    NET_DATA,
    NET_DROP,
    PIECE,
    PUT,
    READ,
    RUN,
    SCAN,
    STDIN,
    WRITE,
    WRITE_DATA,
    WRITE_END,
)
from .supervisor import MOST_DESCRIPTORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

READ_SIZE = 1 << 18


class Agent:
    """Takes frames apart and hands them to commands and files."""

    def __init__(self, inlet: int, outlet: Outlet, config: dict[str, Any]) -> None:
        self._inlet = inlet
        self._buffer = bytearray()
        self._open = True
        self._out = outlet
        self._commands = Commands(outlet, config)
        self._files = Files(outlet, config["workspace"])
        network = config.get("network")
        self._tunnel = Tunnel(outlet, network) if network and "fd" not in network else None
        outlet.watch(inlet, self._receive)

    def serve(self) -> None:
        """Until the host closes our stdin."""
        while self._open:
            self._out.wait(self._commands.timeout(), busy=self._files.busy)
            self._files.step()
            self._commands.tick()
        self._commands.kill_all()

    def _receive(self) -> None:
        data = os.read(self._inlet, READ_SIZE)
        if not data:
            self._open = False
            return
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(self._buffer)
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            self._handle(kind, number, payload)

    def _handle(self, kind: int, number: int, payload: bytes) -> None:
        if kind == STDIN:
            self._commands.stdin(number, payload)
        elif kind == WRITE_DATA:
            self._files.write(number, payload)
        elif kind == WRITE_END:
            self._files.end_write(number)
        elif kind == CANCEL:
            self._files.cancel(number)
            self._commands.forget(number)
        elif NET_DATA <= kind <= NET_DROP:
            if self._tunnel is not None:
                self._tunnel.frame(kind, number, payload)
        else:
            self._handle_json(kind, number, json.loads(payload))

    def _handle_json(self, kind: int, number: int, request: dict[str, Any]) -> None:
        if kind == RUN:
            self._commands.start(number, request)
        elif kind == KILL:
            self._commands.kill(number, request["grace"], request["reason"])
        elif kind == INTERRUPT:
            self._commands.interrupt(number, request["patience"], request["grace"])
        elif kind == JOBS:
            self._commands.list_jobs(number)
        elif kind == READ:
            self._files.read(number, request["path"], request["limit"])
        elif kind == PIECE:
            self._files.read_piece(number, request)
        elif kind == LIST:
            self._files.list_names(number, request)
        elif kind == DELETE:
            self._files.delete(number, request["path"])
        elif kind == WRITE:
            self._files.begin_write(number, request["path"], request["follow"])
        elif kind == SCAN:
            self._files.scan(number, request)
        elif kind == FETCH:
            self._files.fetch(number, request)
        elif kind == CHANGE:
            self._files.change(number, request)
        elif kind == PUT:
            self._files.begin_put(number, request)


def main(config: dict[str, Any]) -> NoReturn:
    """Serve on the stdin and stdout this process was started with."""
    inlet, out = os.dup(0), os.dup(1)  # copies that no command inherits
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    os.umask(0o022)
    _allow_many_descriptors()
    prctl(PR_SET_DUMPABLE, 0)  # no ptrace of, no /proc/PID/fd of this process and the supervisors
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if "writable" in config:
        restrict(**config["writable"])  # where the kernel can; the mounts hold without it
    if "fd" in config.get("network", ()):
        hand_over(config["network"])
    outlet = Outlet(out)
    _wake_on_child(outlet)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    agent = Agent(inlet, outlet, config)
    outlet.send_json(HELLO, 0, {"pid": os.getpid(), "python": sys.version.split()[0]})
    agent.serve()
    os._exit(0)


def _allow_many_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _wake_on_child(outlet: Outlet) -> None:
    """Let the end of a child wake the loop."""
    wake, write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    outlet.watch(wake, lambda: _drain(wake))


def _drain(fd: int) -> None:
    try:
        os.read(fd, READ_SIZE)
    except BlockingIOError:
        return
