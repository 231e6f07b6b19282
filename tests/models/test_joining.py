"""Deltas that lie ready together become one, and nothing else changes."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.engine.models._joining import JoinedStream, ReadAhead, join_frames
from tests.support.scripted_wire import Send, stream_actions
from tests.support.waiting import until


def frame(data: Any, head: str = "") -> bytes:
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chat(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return frame({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


def block_delta(delta: dict[str, Any], index: int = 0) -> bytes:
    data = {"type": "content_block_delta", "index": index, "delta": delta}
    return frame(data, "event: content_block_delta\n")


def data_of(frames: bytes) -> list[Any]:
    return [json.loads(one.rpartition(b"\n")[2][6:]) for one in frames.split(b"\n\n") if one]


def test_texts_of_one_kind_are_joined() -> None:
    for key in ("content", "reasoning_content", "reasoning"):
        joined = data_of(join_frames(chat({key: "a"}) + chat({key: "b\n"}) + chat({key: "ü"})))
        assert [one["choices"][0]["delta"] for one in joined] == [{key: "ab\nü"}]
    for key in ("text", "thinking", "partial_json"):
        pair = block_delta({"type": "x", key: "a"}) + block_delta({"type": "x", key: "b"})
        joined_block = join_frames(pair)
        assert joined_block.startswith(b"event: content_block_delta\ndata: ")
        assert [one["delta"][key] for one in data_of(joined_block)] == ["ab"]


def test_arguments_of_a_call_are_joined() -> None:
    def call(arguments: str, **more: Any) -> bytes:
        function = {"arguments": arguments}
        return chat({"tool_calls": [{"index": 0, "function": function, **more}]})

    joined = data_of(join_frames(call('{"a', id="call_1") + call('":') + call("1}")))
    calls = [one["choices"][0]["delta"]["tool_calls"][0] for one in joined]
    assert [one["function"]["arguments"] for one in calls] == ['{"a', '":1}']
    assert [one.get("id") for one in calls] == ["call_1", None]


@pytest.mark.parametrize(
    "pair",
    [
        chat({"role": "assistant", "content": "a"}) + chat({"content": "b"}),
        chat({"content": "a"}) + chat({"reasoning": "b"}),
        chat({"content": "a", "reasoning": "r"}) + chat({"content": "b", "reasoning": "r"}),
        chat({"content": ""}) + chat({"content": ""}),
        chat({"content": "a"}) + chat({"content": "b"}, usage={"prompt_tokens": 1}),
        chat({"content": "a"}) + b"data: [DONE]\n\n",
        chat({"content": "a"}) + b": ping\n\n",
        chat({"content": "a"}) + frame({"error": {"message": "content"}}),
        block_delta({"type": "text_delta", "text": "a"})
        + block_delta({"type": "text_delta", "text": "b"}, index=1),
        block_delta({"type": "x", "text": "a"}) + frame({"type": "message_stop"}),
        b"data: {broken\n\ndata: {broken\n\n",
        b"data: 1\ndata: 2\n\n" * 2,
        b"data: 1\r\n\r\n" * 2,
        chat({"content": "a"}) + chat({"content": "b"}).replace(b"data:", b"event: x\ndata:"),
    ],
)
def test_all_else_passes_byte_by_byte(pair: bytes) -> None:
    assert join_frames(pair) == pair
    assert join_frames(pair + pair).count(b"\n\n") == (pair + pair).count(b"\n\n")


def test_padding_and_split_surrogates() -> None:
    first = chat({"content": "\ud83d"}, obfuscation="x")
    other = chat({"content": "\ude00 data: "}, obfuscation="yyyy")
    (joined,) = data_of(join_frames(first + other))
    assert joined["choices"][0]["delta"]["content"] == "😀 data: "


TURN: dict[str, Any] = {
    "do": [
        {"reasoning": "Let me think. ", "chunk": 3},
        {"text": "data: Some *text*,\n\nand more of it. " * 5, "chunk": 2},
        {"tool": {"name": "bash", "args": {"command": "ls -l"}, "id": "call_1"}, "chunk": 2},
        {"tool": {"name": "bash", "args": {"command": "pwd"}, "id": "call_2"}, "chunk": 3},
    ]
}


class Scripted(httpx2.AsyncByteStream):
    """Gives pieces; after each of them it waits for the reader when `slow`."""

    def __init__(self, pieces: list[bytes], *, slow: bool = False, error: bool = False) -> None:
        self.pieces = pieces
        self.slow = slow
        self.error = error
        self.given = 0
        self.closed = False
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.given += 1
            yield piece
            if self.slow:
                await self.go_on.wait()
                self.go_on.clear()
        if self.error:
            raise httpx2.ReadError("cut")

    async def aclose(self) -> None:
        self.closed = True


async def hooked(stream: Scripted, **headers: str) -> httpx2.Response:
    head = {"content-type": "text/event-stream; charset=utf-8", **headers}
    return httpx2.Response(200, headers=head, stream=JoinedStream(ReadAhead(stream)))


def content(frames: bytes) -> tuple[str, str, dict[int, str], int]:
    """Text, reasoning, arguments by call, and number of frames."""
    text = reasoning = ""
    calls: dict[int, str] = {}
    found = [one for one in frames.split(b"\n\n") if one and one != b"data: [DONE]"]
    for one in found:
        for choice in json.loads(one.removeprefix(b"data: "))["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                index = call["index"]
                calls[index] = calls.get(index, "") + (call["function"].get("arguments") or "")
    return text, reasoning, calls, len(found)


@given(st.lists(st.integers(1, 400), max_size=40))
def test_a_turn_says_the_same_however_it_is_cut(cuts: list[int]) -> None:
    actions = stream_actions("openai", {"model": "m"}, TURN, 0)
    whole = b"".join(action.data for action in actions if isinstance(action, Send))
    pieces, rest = [], whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)

    async def read() -> bytes:
        response = await hooked(Scripted([piece for piece in pieces if piece]))
        return b"".join([data async for data in response.aiter_raw()])

    text, reasoning, calls, frames = content(asyncio.run(read()))
    expected = content(whole)
    assert (text, reasoning, calls) == expected[:3]
    assert text
    assert reasoning
    assert len(calls) == 2
    assert frames < expected[3]


async def test_a_slow_stream_is_not_held_back() -> None:
    frames = [chat({"content": str(number)}) for number in range(5)]
    stream = Scripted(frames, slow=True)
    response = await hooked(stream)
    seen = []
    async for data in response.aiter_raw():
        seen.append(data)
        stream.go_on.set()
    assert seen == frames


async def test_it_reads_ahead_but_not_without_end() -> None:
    piece = chat({"content": "x" * 100_000})
    stream = Scripted([piece] * 100)
    response = await hooked(stream)
    reader = response.aiter_raw()
    size = len(await anext(reader))
    given = stream.given
    await until(lambda: stream.given > given)
    size += sum([len(data) async for data in reader])
    assert 10_000_000 < size < 10_000_000 + 100 * 200


async def test_an_error_comes_after_what_arrived() -> None:
    response = await hooked(Scripted([chat({"content": "a"}), b"data: half"], error=True))
    seen = b""
    with pytest.raises(httpx2.ReadError):
        async for data in response.aiter_raw():
            seen += data
    assert seen == chat({"content": "a"})


@pytest.mark.parametrize("error", [False, True])
async def test_leaving_early_leaves_nothing(error: bool) -> None:
    stream = Scripted([chat({"content": "a"})], slow=not error, error=error)
    response = await hooked(stream)
    async for _ in response.aiter_raw():
        break
    await response.aclose()
    assert stream.closed
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_leaving_that_is_cut_short_closes_the_stream() -> None:
    stream = Scripted([chat({"content": "a"})], slow=True)
    response = await hooked(stream)
    async for _ in response.aiter_raw():
        break
    leaving = asyncio.create_task(response.aclose())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert stream.closed


async def test_what_was_left_is_collected_without_a_word() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    response = await hooked(Scripted([chat({"content": "a"})], slow=True))
    chunks = response.aiter_raw()
    await anext(chunks)
    await response.aclose()
    cycle: list[Any] = [chunks]
    cycle.append(cycle)  # as an exception and the frames it came through
    del chunks, cycle, response
    gc.collect()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    gc.collect()
    assert complaints == []
