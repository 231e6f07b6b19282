"""Nothing hides in text that people decide upon."""

from __future__ import annotations

import pytest

from agent_magics.widgets import terminal_text, visible


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
