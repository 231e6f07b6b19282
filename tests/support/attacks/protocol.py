"""
Bytes of an agent program that was taken over, and of commands that pretend to be one.

In the first kind a program of ours takes its place: it greets as it should and then answers the
one request that is made as it likes. That request must end with an error, and the host live on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent_magics.sandbox import Limits, Sandbox, SandboxGone, SandboxUnavailable

from .stand import Stand, check

TAKEN_OVER = """
import json, os, signal, struct, sys, time
def frame(kind, number, payload=b''):
    if not isinstance(payload, bytes): payload = json.dumps(payload).encode()
    return struct.pack('>BII', kind, number, len(payload)) + payload
def send(data):
    while data: data = data[os.write(1, data):]
def exactly(size):
    data = b''
    while len(data) < size: data += os.read(0, size - len(data))
    return data
def listen():
    while os.read(0, 1 << 20): pass
exactly(int(exactly(8)))
HELLO, STDOUT, EXIT, DATA, DONE, FAIL = 65, 66, 68, 69, 70, 71
send(frame(HELLO, 0, {'pid': 1, 'python': '3'}))
os.read(0, 1 << 20)
"""


class Replaced:
    """A container whose agent program is the given one."""

    name, isolated, workspace = "replaced", True, "/workspace"
    environ: Mapping[str, str] = {}

    def __init__(self, program: str) -> None:
        self._program = program

    async def spawn(self, stderr: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", TAKEN_OVER + self._program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 21,
        )

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


async def answered(
    stand: Stand, program: str, request: Callable[[Sandbox], Awaitable[object]]
) -> None:
    """The request fails, and the container whose answer it was has ended then."""
    box = Sandbox(Replaced(program), stand.base / "replaced", Limits())
    await box.start()
    try:
        result = await request(box)
    except SandboxGone:
        assert not box.alive
        return
    finally:
        await box.stop()
    raise AssertionError(f"it was believed: {result!r:.200}")


def read(box: Sandbox) -> Awaitable[object]:
    return box.read_file("f", max_bytes=1000)


def run(box: Sandbox) -> Awaitable[object]:
    return box.run("x", timeout=60, max_output=1000)


@check
async def noise(stand: Stand) -> None:
    await answered(stand, "while True: send(os.urandom(100_000))", read)


@check
async def frames_longer_than_memory(stand: Stand) -> None:
    await answered(stand, "send(struct.pack('>BII', DATA, 1, 2**32 - 1)); listen()", read)


@check
async def frames_of_no_kind(stand: Stand) -> None:
    await answered(stand, "send(frame(200, 1)); listen()", read)


@check
async def answers_to_requests_never_made(stand: Stand) -> None:
    await answered(stand, "send(frame(DONE, 7)); listen()", read)


@check
async def greetings_again(stand: Stand) -> None:
    await answered(stand, "send(frame(HELLO, 0, {})); listen()", read)


@check
async def answers_of_another_kind(stand: Stand) -> None:
    await answered(stand, "send(frame(EXIT, 1, {'code': 0})); listen()", read)
    await answered(stand, "send(frame(DATA, 1, b'x')); listen()", run)


@check
async def more_content_than_was_asked_for(stand: Stand) -> None:
    await answered(stand, "while True: send(frame(DATA, 1, bytes(600)))", read)
    await answered(stand, "while True: send(frame(STDOUT, 1, bytes(600)))", run)


@check
async def content_that_never_ends(stand: Stand) -> None:
    await answered(stand, "while True: send(frame(DATA, 1) * 1000)", read)


@check
async def json_that_is_deep_or_huge(stand: Stand) -> None:
    for payload in ("b'[' * 900_000", "b'1' * 900_000", "b'[[1e999, NaN, -0, \"\\\\ud800\"]]'"):
        program = f"send(frame(DATA, 1, {payload})); listen()"
        await answered(stand, program, lambda box: box.list_files())


@check
async def rows_that_climb(stand: Stand) -> None:
    """A snapshot would write what they say somewhere else."""
    for path in ("../x", "/etc/passwd", "a/../../x", "a\0b", "", ".", "a//b", "x" * 9000):
        row = [path, "file", 0o644, 1, 1, 1, 1, None]
        program = f"send(frame(DATA, 1, [json.loads({json.dumps(row)!r})]) + frame(DONE, 1))"
        await answered(stand, program, lambda box: box.tree.scan())


@check
async def facts_that_are_no_numbers(stand: Stand) -> None:
    for facts in (
        [0o644, 1, 1, 1, 10**30],
        [-1, 1, 1, 1, 1],
        [0o644, -1, 1, 1, 1],
        [0, "1", 1, 1, 1],
    ):
        row = ["x", "file", *facts, None]
        program = f"send(frame(DATA, 1, [json.loads({json.dumps(row)!r})]) + frame(DONE, 1))"
        await answered(stand, program, lambda box: box.tree.scan())


@check
async def files_that_were_not_asked_for(stand: Stand) -> None:
    for index in (1, -1, 10**30, 0.0, True, None):
        facts = f"b'B' + json.dumps([{index!r}, 0o644, 1, 1, 1, 1, True]).encode()"
        program = f"send(frame(DATA, 1, {facts})); listen()"
        await answered(stand, program, lambda box: box.tree.fetch(["a", "b"], limit=10, budget=10))


@check
async def ends_that_are_none(stand: Stand) -> None:
    for code in ("10**30", "None", "'0'", "1.5", "True"):
        end = f"{{'code': {code}, 'killed_by': 'us', 'truncated': 0, 'background': -1}}"
        await answered(stand, f"send(frame(EXIT, 1, {end})); listen()", run)


@check
async def ends_in_the_middle(stand: Stand) -> None:
    await answered(stand, "send(frame(DATA, 1, b'x' * 50)[:30]); os._exit(0)", read)
    await answered(stand, "os.close(1); listen()", read)


@check
async def deaf_to_everything(stand: Stand) -> None:
    """It neither reads, nor answers, nor ends when it is asked to: it is ended."""
    program = (
        "for n in (1, 2, 13, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(60)\n"
    )
    box = Sandbox(Replaced(program), stand.base / "replaced", Limits())
    await box.start()
    writing = asyncio.ensure_future(box.write_file("f", bytes(8 << 20)))
    await asyncio.sleep(0)
    await box.stop()
    await asyncio.wait({writing})
    assert isinstance(writing.exception(), SandboxGone) and not box.alive


@check
async def errors_that_files_do_not_have(stand: Stand) -> None:
    """EINTR, EPIPE, ETIMEDOUT would be taken for the host's own."""
    for number in (4, 32, 104, 110, 10**9):
        failure = f"{{'errno': {number}, 'message': 'a\\x1b[2J\\nb'}}"
        box = Sandbox(Replaced(f"send(frame(FAIL, 1, {failure})); listen()"), stand.base, Limits())
        await box.start()
        try:
            await box.read_file("f")
        except OSError as error:
            assert type(error) is OSError and (error.strerror or "").isprintable(), error
        except SandboxGone:
            pass
        else:
            raise AssertionError(number)
        finally:
            await box.stop()


# --- commands that pretend


@check
async def forged_frames_on_stdout(stand: Stand) -> None:
    forged = (
        "import os, struct\n"
        "for kind in range(256):\n"
        "    for n in range(8): os.write(1, struct.pack('>BII', kind, n, 2) + b'{}')\n"
        "os._exit(5)\n"
    )
    result = await stand.run("python -", stdin=forged.encode())
    assert result.exit_code == 5 and len(result.stdout) == 256 * 8 * 11
    assert stand.box.alive


@check
async def frames_by_other_ways(stand: Stand) -> None:
    """Whatever descriptor a command finds, none is the agent program's line to the host."""
    program = (
        "import os, struct\n"
        "for fd in range(3, 9000):\n"
        "    try: os.write(fd, struct.pack('>BII', 68, 1, 2) + b'{}'); print('WRITTEN', fd)\n"
        "    except OSError: pass\n"
    )
    assert (await stand.run("python -", stdin=program.encode())).stdout == b""
    assert stand.box.alive
