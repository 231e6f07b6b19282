"""Nothing hides in text that people decide upon."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.widgets import TerminalTail, terminal_text, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode ✓ 👩‍💻", "plain text, ünïcode ✓ 👩‍💻"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("rm \u202e txt.exe", "rm ⟦U+202E⟧ txt.exe"),
        ("zero\u200bwidth \u2066iso\u2069", "zero⟦U+200B⟧width ⟦U+2066⟧iso⟦U+2069⟧"),
        ("\x1b[31mred\x07\x00", "␛[31mred␇␀"),
        ("over\rwritten", "over␍written"),
        ("\x7f\x85\u2028", "⟦U+007F⟧⟦U+0085⟧⟦U+2028⟧"),
        ("blank \u3164\u115f\ufeff name", "blank ⟦U+3164⟧⟦U+115F⟧⟦U+FEFF⟧ name"),
        ("tag\U000e0041", "tag⟦U+E0041⟧"),
        ("lone \ud800", "lone ⟦U+D800⟧"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m and \x1b]0;title\x07plain", "red and plain"),
        ("10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
        ("ab\b\bcd", "cd"),
        ("_\bB_\bo", "Bo"),
        ("\u202eevil", "⟦U+202E⟧evil"),
        ("\x1b[2J\x1b[Hscreen", "screen"),
        ("\b\bx", "␈␈x"),
    ],
)
def test_terminal_text(text: str, shown: str) -> None:
    assert terminal_text(text) == shown


def followed(chunks: list[str]) -> str:
    """What a page shows that does what a `TerminalTail` says."""
    tail, shown = TerminalTail(), ""
    for chunk in chunks:
        back, more = tail.feed(chunk)
        units = shown.encode("utf-16-le")
        shown = units[: len(units) - 2 * back].decode("utf-16-le") + more
    return shown


@given(
    st.lists(
        st.sampled_from(
            [
                "10%",
                "\r",
                "\n",
                "\r\n",
                "\x1b[31m",
                "\x1b[0m",
                "\b",
                "word 🐧",
                "\x1b]0;t\x07",
                "\u202e",
            ]
        ),
        max_size=20,
    ).map("".join),
    st.lists(st.integers(0, 100), max_size=20),
)
def test_live_output_shows_what_the_whole_would(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(c for c in cuts if c < len(text)), len(text)]
    chunks = [text[a:b] for a, b in itertools.pairwise(places)]
    # What ends with half a line end or half an escape sequence waits for the other half.
    assert followed([*chunks, "\n"]) == terminal_text(text + "\n")


def test_a_progress_bar_stays_one_line() -> None:
    bar = [f"\r{n:4d}% done" for n in range(2_000)]
    assert followed(["start\n", *bar, "\n"]) == "start\n1999% done\n"
    assert followed(["a\x1b[3", "1mred\x1b", "[0m", "!"]) == "ared!"


def test_a_line_without_an_end_is_not_shown_again_and_again() -> None:
    tail, sent = TerminalTail(), 0
    for _ in range(1_000):
        back, more = tail.feed("x" * 1_000)
        sent += back + len(more)
    assert sent == 1_000_000
