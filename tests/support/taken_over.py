"""Containers whose agent program was taken over: bytes of a test's choice come out of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from agent_magics.sandbox import SandboxUnavailable
from agent_magics.sandbox._agent import protocol
from agent_magics.sandbox._channel import Channel
from agent_magics.sandbox._frames import encode_json

HELLO = encode_json(protocol.HELLO, 0, {"pid": 1, "python": "3"})


class Wire:
    """What asyncio gives of a process: bytes of our choice come out, what goes in is forgotten."""

    pid = -1

    def __init__(self, answers: bytes) -> None:
        self.stdout = asyncio.StreamReader(limit=1 << 21)
        self.stdout.feed_data(HELLO)
        self.stdin = self
        self.returncode: int | None = None
        self.answers = answers
        self.written = 0
        self.unread = 0
        self.ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written += len(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    @property
    def transport(self) -> Wire:
        return self

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.returncode is not None

    def write_eof(self) -> None:
        self.die()

    async def wait_closed(self) -> None:
        raise BrokenPipeError

    def close(self) -> None:
        self.die()

    def die(self) -> None:
        if self.returncode is None:
            self.returncode = -9
            self.stdout.feed_eof()
            self.ended.set()

    async def wait(self) -> int:
        await self.ended.wait()
        return -9


class InProcess:
    """A provider of such containers."""

    name = "taken-over"
    isolated = True
    workspace = "/workspace"
    environ: Mapping[str, str] = {}

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def spawn(self, stderr: int) -> Any:
        return self._wire

    def config(self) -> dict[str, Any]:
        return {}

    def complaint(self, message: str) -> SandboxUnavailable:
        return SandboxUnavailable("It ended.", "Nothing.")

    async def clear(self, *, files: bool) -> None:
        return

    def inner(self, path: str) -> str:
        return path

    def outer(self, path: str) -> str:
        return path


def killing_ends_wires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a channel's kill end those in this process, too."""
    kill = Channel.kill

    def either(channel: Channel) -> None:
        if isinstance(channel._process, Wire):
            channel._process.die()
        else:
            kill(channel)

    monkeypatch.setattr(Channel, "kill", either)


class TakenOver(InProcess):
    """A container that greets and then runs a program of our choice."""

    def __init__(self, program: str) -> None:
        self._program = program

    async def spawn(self, stderr: int) -> asyncio.subprocess.Process:
        prelude = (
            "import json, os, struct, sys, time\n"
            "def frame(kind, number, payload=b''):\n"
            "    return struct.pack('>BII', kind, number, len(payload)) + payload\n"
            "def send(data):\n"
            "    while data: data = data[os.write(1, data):]\n"
            "def listen(): return os.read(0, 1 << 20)\n"
            "def exactly(size):\n"
            "    data = b''\n"
            "    while len(data) < size: data += os.read(0, size - len(data))\n"
            "    return data\n"
            "exactly(int(exactly(8)))\n"  # the agent program and its configuration
            f"send({HELLO!r}); seen = listen()\n"  # the first request
        )
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", prelude + self._program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 21,
        )
