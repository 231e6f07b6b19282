"""Nothing hides in text that people decide upon."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.notebook._text import printable
from agent_magics.widgets import TerminalTail, TurnRecord, readable, terminal_text, visible
from agent_magics.widgets._describe import ask_blocks
from agent_magics.widgets._ops import OpWriter
from tests.support.agent_events import asked, replied, tool_done


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode ✓ 日本 한국 עברית", "plain text, ünïcode ✓ 日本 한국 עברית"),
        ("e\u0301 n\u0303 \u0e17\u0e35\u0e48", "e\u0301 n\u0303 \u0e17\u0e35\u0e48"),
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


HIDDEN = [
    *(0x00, 0x07, 0x0B, 0x0C, 0x0D, 0x7F, 0x80, 0x85, 0x9F, 0xD800, 0xDFFF),
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180E, 0x180F),
    *(0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F)),
    *(0x2060, 0x2061, 0x2062, 0x2063, 0x2064, 0x2065, *range(0x2066, 0x2070)),
    *(0x3164, 0xFE00, 0xFE0E, 0xFE0F, 0xFEFF, 0xFFA0, 0xFFF0, 0xFFF8, 0xFFF9, 0xFFFB),
    *(0xA0, 0x1680, 0x2000, 0x2003, 0x2007, 0x200A, 0x202F, 0x205F, 0x3000, 0x2800),
    *(0x1BCA0, 0x1BCA3, 0x1D159, 0x1D173, 0x1D17A, 0x16FE4, 0x13430, 0x13441),
    *(0xE0000, 0xE0001, 0xE0020, 0xE0041, 0xE007F, 0xE0100, 0xE01EF, 0xE0FFF),
    *(0xE000, 0xF8FF, 0xF0000, 0x10FFFD, 0x378, 0xFFFE, 0xFFFF, 0x10FFFF),
    *(0x600, 0x6DD, 0x70F, 0x890, 0x8E2, 0x110BD),
]


@pytest.mark.parametrize("code", HIDDEN, ids=hex)
def test_whatever_cannot_be_seen_is_spelled_out_where_people_decide(code: int) -> None:
    hidden = chr(code)
    name = chr(0x2400 + code) if code < 0x20 else f"⟦U+{code:04X}⟧"
    command = f"rm {hidden}x"
    assert visible(command) == f"rm {name}x"
    always = (f"{command} *",)
    request = asked(metadata={"command": command}, patterns=(command,), always=always)
    assert [block.text for block in ask_blocks(request.request)] == [f"rm {name}x"]
    record = TurnRecord()
    record.handle(request)
    ask = next(op for op in OpWriter(record).changes() if op["op"] == "ask")
    assert ask["blocks"][0]["text"] == f"rm {name}x"
    assert f'"rm {name}x *"' in ask["always"]
    record.handle(replied())
    record.handle(tool_done(input={"command": command}))
    assert hidden not in record.text().replace("\n", "") or hidden in "\n"
    assert hidden not in record.html() or code == 0x0A
    assert f"rm {name}x" in record.text()
    assert record.html().count(f"rm {name}x") == 3


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d💻 ❤\ufe0f 1\ufe0f\u20e3 👍🏽 🏳\ufe0f\u200d🌈 👩\u200d❤\ufe0f\u200d👨",
        "می\u200cخواهم क्\u200dष ශ්\u200dරී",  # noqa: RUF001
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "葛\U000e0100 ᠠ\u180b",
        "10\u00a0000\u202f€\u3000 e\u0301",
    ],
)
def test_prose_keeps_what_emoji_and_scripts_need(text: str) -> None:
    assert readable(text) == text
    assert visible(text) != text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200db \u200c x\ufe0f y\ufe00", "a⟦U+200D⟧b ⟦U+200C⟧ x⟦U+FE0F⟧ y⟦U+FE00⟧"),
        ("x\U000e0100\U000e0041", "x⟦U+E0100⟧⟦U+E0041⟧"),
        ("🏴\U000e0041\U000e007f", "🏴⟦U+E0041⟧⟦U+E007F⟧"),
        ("a\u202eb\u2060\u00ad\u3164", "a⟦U+202E⟧b⟦U+2060⟧⟦U+00AD⟧⟦U+3164⟧"),
        ("z" + "\u0301" * 5, "z\u0301\u0301\u0301⟦U+0301⟧⟦U+0301⟧"),
    ],
)
def test_prose_hides_nothing_else(text: str, shown: str) -> None:
    assert readable(text) == shown
    assert printable(text) == shown  # although str.isprintable() says yes to some of it


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
