"""The host's side of the protocol, fed by a container that has been taken over."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_magics.sandbox import (
    ExecResult,
    FileStat,
    Limits,
    Sandbox,
    SandboxError,
    SandboxGone,
    SandboxUnavailable,
)
from agent_magics.sandbox import _sandbox as sandbox_module
from agent_magics.sandbox._agent import protocol
from agent_magics.sandbox._frames import (
    ProtocolError,
    encode,
    encode_json,
    parse_entries,
    parse_exit,
    parse_failure,
    read_frame,
)
from agent_magics.sandbox._requests import Command, FileRead, FileWrite, Listing
from agent_magics.sandbox._workspace import _Fetch, _Scan

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
payloads = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())


@given(payloads)
def test_parsers_accept_or_refuse(payload: bytes) -> None:
    for parse in (parse_exit, parse_failure, parse_entries):
        try:
            parse(payload)
        except ProtocolError:
            continue


def test_parsers_refuse_near_misses() -> None:
    good = {"code": 0, "killed_by": None, "truncated": False}
    assert parse_exit(json.dumps(good).encode()).code == 0
    bad: list[dict[str, Any]] = [
        {"code": True},
        {"code": 256},
        {"code": -65},
        {"code": 1.0},
        {"killed_by": "me"},
        {"killed_by": ["memory"]},
        {"truncated": 1},
    ]
    for change in bad:
        with pytest.raises(ProtocolError):
            parse_exit(json.dumps({**good, **change}).encode())
    deep = b"[" * 500_000
    for parse in (parse_exit, parse_failure, parse_entries):
        with pytest.raises(ProtocolError):
            parse(deep)
    rows: list[list[Any]] = [
        [],
        ["a", "file", 1],
        ["a", "file", -1, 0],
        ["a", "pipe", 1, 0],
        ["\0", "file", 1, 0],
    ]
    for row in rows:
        with pytest.raises(ProtocolError):
            parse_entries(json.dumps([row]).encode())
    for value in ({"errno": -1, "message": ""}, {"errno": 1}, {"errno": True, "message": ""}):
        with pytest.raises(ProtocolError):
            parse_failure(json.dumps(value).encode())
    long = json.dumps({"errno": 1, "message": "x" * 10_000}).encode()
    assert len(parse_failure(long)[1]) <= 500


frames = st.tuples(st.integers(0, 80) | st.integers(0, 255), st.integers(0, 3), payloads).map(
    lambda frame: encode(*frame)
)


@settings(deadline=None)
@given(st.lists(frames, max_size=6).map(b"".join) | st.binary(max_size=300), st.integers(1, 64))
async def test_any_bytes_end_in_frames_or_an_error(data: bytes, step: int) -> None:
    reader = asyncio.StreamReader(limit=1 << 21)
    for start in range(0, len(data), step):
        reader.feed_data(data[start : start + step])
    reader.feed_eof()
    requests = [Command(100, None), FileRead("f", 100), FileWrite("f"), Listing("d", 3)]
    try:
        while True:
            frame = await read_frame(reader)
            if frame.request < len(requests):
                requests[frame.request].frame(frame.kind, frame.payload)
    except (ProtocolError, EOFError):
        pass
    for request in requests:
        request.lost(SandboxGone("over"))
        assert request.done.done()
    command, read, _, listing = requests
    assert isinstance(command, Command) and isinstance(read, FileRead)
    assert isinstance(listing, Listing)
    assert all(len(output) < 300 for output in command.output.values())
    assert len(read.content) <= 100


async def test_too_long_a_frame_is_refused_before_it_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(protocol.HEADER.pack(protocol.DATA, 1, protocol.MAX_PAYLOAD + 1))
    with pytest.raises(ProtocolError, match="frame of"):
        await read_frame(reader)


class TakenOver:
    """A provider whose container answers with fixed bytes, whatever is asked."""

    name = "taken-over"
    isolated = True
    workspace = "/workspace"
    environ: Mapping[str, str] = {}

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers

    async def spawn(self, stderr: int) -> asyncio.subprocess.Process:
        # one answer at the start, the others after each further request has come in
        program = (
            "import os, sys\n"
            "def exactly(size):\n"
            "    data = b''\n"
            "    while len(data) < size: data += os.read(0, size - len(data))\n"
            "    return data\n"
            "exactly(int(exactly(8)))\n"  # the agent program and its configuration
            f"for number, answer in enumerate({self._answers!r}):\n"
            "    if number: os.read(0, 1 << 20)\n"
            "    os.write(1, answer)\n"
            "while os.read(0, 1 << 20): pass\n"
        )
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )

    async def clear(self, *, files: bool) -> None:
        """Nothing is left."""

    def config(self) -> dict[str, Any]:
        return {}

    def complaint(self, message: str) -> SandboxUnavailable:
        return SandboxUnavailable(f"It said {message!r}.", "Nothing.")

    def inner(self, path: str) -> str:
        return path

    def outer(self, path: str) -> str:
        return path


HELLO = encode_json(protocol.HELLO, 0, {"pid": 1, "python": "3"})
EXIT = {"code": 0, "killed_by": None, "truncated": False, "background": 0}
ATTACKS = {
    "unknown type": encode(200, 1),
    "type of the host": encode(protocol.RUN, 1),
    "second hello": HELLO,
    "request never made": encode(protocol.STDOUT, 2, b"x"),
    "number zero": encode(protocol.STDOUT, 0, b"x"),
    "oversize": protocol.HEADER.pack(protocol.STDOUT, 1, 0xFFFFFFFF) + b"x" * 1000,
    "bad JSON": encode(protocol.EXIT, 1, b"{"),
    "wrong JSON": encode_json(protocol.EXIT, 1, [1]),
    "huge code": encode_json(protocol.EXIT, 1, {**EXIT, "code": 10**100}),
    "file answer to a command": encode(protocol.DONE, 1),
    "flood": encode(protocol.STDOUT, 1, b"x" * 60_000),
    "garbage": b"\n\xff garbage",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_taken_over_container_is_ended(tmp_path: Path, attack: bytes) -> None:
    sandbox = Sandbox(TakenOver([HELLO, attack]), tmp_path, Limits())
    await sandbox.start()
    with pytest.raises(SandboxGone):
        await asyncio.wait_for(sandbox.run("true", max_output=1000), 30)
    assert not sandbox.alive
    assert sandbox._channel is not None
    assert await asyncio.wait_for(sandbox._channel._process.wait(), 30) == -9
    await sandbox.stop()


async def test_taken_over_container_with_a_listing(tmp_path: Path) -> None:
    rows = [["/x", "file", 1, 1]] * 11
    answers = [HELLO, encode_json(protocol.DATA, 1, rows)]
    sandbox = Sandbox(TakenOver(answers), tmp_path, Limits())
    await sandbox.start()
    with pytest.raises(SandboxGone):
        await sandbox.list_files(limit=10)
    await sandbox.stop()


async def test_correct_answers_are_taken(tmp_path: Path) -> None:
    answer = encode(protocol.STDERR, 1, b"x") + encode_json(protocol.EXIT, 1, {**EXIT, "code": -9})
    rows = encode_json(protocol.DATA, 2, [["/x", "file", 1, 2]]) + encode(protocol.DONE, 2)
    sandbox = Sandbox(TakenOver([HELLO, answer, rows]), tmp_path, Limits())
    await sandbox.start()
    result = await sandbox.run("true")
    assert result == ExecResult(b"", b"x", 137, False, False, None, result.duration)
    assert await sandbox.list_files() == [FileStat("/x", "file", 1, 2)]
    await sandbox.stop()


async def test_bytes_instead_of_a_greeting(tmp_path: Path) -> None:
    for answers in ([b"Welcome to Linux!\n"], [encode(protocol.STDOUT, 0)]):
        sandbox = Sandbox(TakenOver(answers), tmp_path, Limits())
        with pytest.raises(SandboxUnavailable):
            await sandbox.start()
        assert not sandbox.alive


async def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "START_TIMEOUT", 0.3)
    monkeypatch.setattr("agent_magics.sandbox._running.KILL_TIMEOUT", 0.3)
    monkeypatch.setattr("agent_magics.sandbox._channel.STOP_GRACE", 0.3)
    mute = Sandbox(TakenOver([]), tmp_path, Limits())
    with pytest.raises(SandboxUnavailable, match="did not answer"):
        await mute.start()
    monkeypatch.setattr(sandbox_module, "START_TIMEOUT", 30)
    deaf = Sandbox(TakenOver([HELLO]), tmp_path, Limits())
    await deaf.start()
    result = await asyncio.wait_for(deaf.run("true", timeout=0.1), 30)
    assert result.exit_code == 124 and not deaf.alive
    await deaf.stop()


async def test_failure_to_start_a_command(tmp_path: Path) -> None:
    failure = encode_json(protocol.FAIL, 1, {"errno": 11, "message": "no more processes"})
    sandbox = Sandbox(TakenOver([HELLO, failure]), tmp_path, Limits())
    await sandbox.start()
    with pytest.raises(SandboxError, match="no more processes"):
        await sandbox.run("true")
    assert sandbox.alive
    await sandbox.stop()


# The workspace as a whole


@given(
    payloads | st.sampled_from([b"B", b"D", b"E", b"F"]).flatmap(lambda b: payloads.map(b.__add__))
)
async def test_answers_about_the_workspace_are_taken_or_refused(payload: bytes) -> None:
    for request in (_Scan(10), _Fetch(["a"], 10, 10)):
        try:
            request.frame(protocol.DATA, payload)
        except ProtocolError:
            continue


async def test_rows_that_lead_elsewhere_are_refused() -> None:
    good = ["a/b", "file", 0o644, 1, 2, 3, 4, None]
    scan = _Scan(2)
    scan.frame(protocol.DATA, json.dumps([good]).encode())
    assert scan.rows[0].path == "a/b"
    bad: list[dict[int, Any]] = [
        *({0: path} for path in ("", "/etc", "../a", "a/..", "a//b", ".", "a\0", "\ud800", 1)),
        *({1: kind} for kind in ("pipe", ["file"], None)),
        *({2: mode} for mode in (-1, 0o10000, 1.0, True)),
        *({3: size} for size in (-1, 1 << 65)),
        {1: "link"},
        {1: "link", 7: "a\0b"},
        {1: "link", 7: ""},
    ]
    for change in bad:
        row = [change.get(i, value) for i, value in enumerate(good)]
        with pytest.raises(ProtocolError):
            scan.frame(protocol.DATA, json.dumps([row]).encode())
    with pytest.raises(ProtocolError):
        scan.frame(protocol.DATA, json.dumps([good, good]).encode())


async def test_files_that_were_not_asked_for_are_refused() -> None:
    begin = b"B" + json.dumps([0, 0o644, 3, 1, 1, 1, True]).encode()
    for frames in (
        [b"D1"],
        [b"E"],
        [begin, begin],
        [b"B" + json.dumps([1, 0o644, 3, 1, 1, 1, True]).encode()],
        [b"B" + json.dumps([0, 0o644, 3, 1, 1, 1, 1]).encode()],
        [begin, b"D" + b"x" * 11],
        [begin, b"E", b"F[1,2]"],
        [b"F[0,2]", b"F[0,2]"],
        [b'F[0,"2"]'],
        [b"X"],
        [b""],
    ):
        fetch = _Fetch(["a"], 10, 10)
        with pytest.raises(ProtocolError):
            for frame in frames:
                fetch.frame(protocol.DATA, frame)
