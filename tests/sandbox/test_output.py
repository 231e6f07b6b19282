"""What is kept of an output that is too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_magics.sandbox._agent.capture import Capture
from agent_magics.sandbox._agent.protocol import marker


@given(
    st.integers(0, 400),
    st.lists(st.binary(max_size=300), max_size=20),
)
def test_capture_keeps_head_and_tail(limit: int, chunks: list[bytes]) -> None:
    capture = Capture(limit)
    sent = b"".join([capture.feed(chunk) for chunk in chunks]) + capture.finish()
    whole = b"".join(chunks)
    head, tail = limit // 2, limit - limit // 2
    if len(whole) <= limit:
        assert sent == whole and not capture.truncated
    else:
        last = whole[-tail:] if tail else b""
        assert sent == whole[:head] + marker(len(whole) - limit) + last and capture.truncated


def test_capture_memory_is_bounded() -> None:
    capture = Capture(1000)
    for _ in range(1000):
        capture.feed(b"x" * 65536)
    assert len(capture._tail) < 200_000
