from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.notebook._text import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 👩‍💻\n\ttab", "plain ünïcode 👩‍💻\n\ttab"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("rm \u202egnp.tac", "rm ⟦U+202E⟧gnp.tac"),
        ("back\x08space\r", "back␈space␍"),
        ("\x9b31m", "⟦U+009B⟧31m"),
        ("lone \x1b", "lone ␛"),
        ("half \ud83d", "half ⟦U+D83D⟧"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_colours_can_stay() -> None:
    text = "\x1b[1;31mred\x1b[0m\r\x1b[2Jgone \x1b]0;t\x07"
    assert printable(text, colours=True) == "\x1b[1;31mred\x1b[0m\rgone "


@given(st.text())
def test_no_escape_survives(text: str) -> None:
    assert "\x1b" not in printable(text)
    printable(text).encode()
    assert "\n" not in one_line(text)
    assert len(one_line(text, 50)) <= 50


@given(st.text())
def test_only_colours_survive(text: str) -> None:
    kept = printable(text + "\x1b[31m", colours=True)
    assert kept.count("\x1b") == kept.count("\x1b[")
