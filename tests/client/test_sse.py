from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_magics.client import ProtocolError
from agent_magics.client import _sse as sse
from agent_magics.client._sse import iter_events


class Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


def response(chunks: list[bytes], content_type: str = "text/event-stream") -> httpx.Response:
    return httpx.Response(
        200,
        headers={"content-type": content_type},
        stream=Chunks(chunks),
        request=httpx.Request("GET", "http://agent/event"),
    )


def read(*chunks: bytes, on_retry=None) -> list[tuple[str, str, str]]:
    async def run() -> list[tuple[str, str, str]]:
        events = iter_events(response(list(chunks)), on_retry)
        return [(e.event, e.data, e.id) async for e in events]

    return asyncio.run(run())


def m(data: str, id: str = "") -> tuple[str, str, str]:
    return "message", data, id


CASES = {
    "one line": (b"data: a\n\n", [m("a")]),
    "several lines": (b"data: a\ndata: b\n\n", [m("a\nb")]),
    "type": (b"event: x\ndata: a\n\n", [("x", "a", "")]),
    "no space": (b"data:a\n\n", [m("a")]),
    "one space only": (b"data:  a\n\n", [m(" a")]),
    "CR": (b"data: a\r\rdata: b\r\r", [m("a"), m("b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [m("a"), m("b")]),
    "mixed line ends": (b"data: a\r\ndata: b\n\rdata: c\n\n", [m("a\nb"), m("c")]),
    "mark": (b"\xef\xbb\xbfdata: a\n\n", [m("a")]),
    "mark inside": ("data: \ufeffa\n\n".encode(), [m("\ufeffa")]),
    "comments": (b": x\ndata: a\n:\n\n: y\n\n", [m("a")]),
    "id persists": (b"id: 7\ndata: a\n\ndata: b\n\n", [m("a", "7"), m("b", "7")]),
    "comment after id": (b"id: 7\ndata: a\n\n: ping\n\n: ping\n\n", [m("a", "7")]),
    "id without data": (b"id: 7\n\ndata: a\n\n", [m("a", "7")]),
    "id reset": (b"id: 7\ndata: a\n\nid\ndata: b\n\n", [m("a", "7"), m("b")]),
    "NUL in id": (b"id: 7\ndata: a\n\nid: 8\x009\ndata: b\n\n", [m("a", "7"), m("b", "7")]),
    "empty data": (b"data\n\ndata:\n\ndata: a\n\n", [m("a")]),
    "unknown field": (b"foo: x\ndata: a\n\n", [m("a")]),
    "no colon": (b"data: a\nfoo\n\n", [m("a")]),
    "unfinished": (b"data: a\n\ndata: b\n", [m("a")]),
    "unfinished line": (b"data: a\n\ndata: b", [m("a")]),
    "no line separator": ("data: a\u2028b\x85c\x0bd\n\n".encode(), [m("a\u2028b\x85c\x0bd")]),
    "invalid UTF-8": (b"data: a\xffb\n\n", [m("a\ufffdb")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_standard_cases_in_any_chunks(name: str) -> None:
    body, expected = CASES[name]
    assert read(body) == expected
    assert read(*(bytes([byte]) for byte in body)) == expected
    for cut in range(len(body)):
        assert read(body[:cut], body[cut:]) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), min_size=1)),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_what_goes_in_comes_out_however_it_is_cut(
    payloads: list[str], line_end: str, cuts: list[int]
) -> None:
    body = "".join(
        f"id: {n}{line_end}data: {data}{line_end}{line_end}: ping{line_end}{line_end}"
        for n, data in enumerate(payloads)
    ).encode()
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*chunks) == [("message", data, str(n)) for n, data in enumerate(payloads)]


def test_retry_is_reported_in_seconds() -> None:
    wishes: list[float] = []
    read(b"retry: 1500\n\nretry: soon\ndata: a\n\nretry: -1\n\n", on_retry=wishes.append)
    assert wishes == [1.5]


async def test_the_claimed_charset_does_not_count() -> None:
    answer = response(["data: ü\n\n".encode()], "Text/Event-Stream; charset=latin-1")
    assert [event.data async for event in iter_events(answer)] == ["ü"]


async def test_something_else_than_a_stream_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="/event answered text/html"):
        await anext(iter_events(response([b"data: a\n\n"], "text/html")))


async def test_a_frame_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME", 100)
    small = [b"data: %d\n\n" % n for n in range(50)]
    assert len([event async for event in iter_events(response(small))]) == 50
    with pytest.raises(ProtocolError, match="more than 100 bytes"):
        await anext(iter_events(response([b"data: a"] + [b"b" * 50] * 3)))
