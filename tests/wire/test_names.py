"""Names that are no UTF-8, as text and back."""

from __future__ import annotations

import os

import pytest

from agent_magics.wire import spelled_name, unspelled_name


@pytest.mark.parametrize(
    "name", [b"caf\xe9.txt", b"\xff\xfe", b"a/b\x80/\xc3", b"\xc3\xa9 \xe9", b"plain", b"\\xzz"]
)
def test_there_and_back(name: bytes) -> None:
    spelled = spelled_name(os.fsdecode(name))
    spelled.encode()
    assert os.fsencode(unspelled_name(spelled)) == name


@pytest.mark.parametrize(
    "path",
    [r"\xc3\xa9", r"\x2e\x2e/x", r"\x2f", r"\x00", r"\xE9", r"\\x", "\xe9", r"a\xc3\xa9\xff"],
)
def test_no_other_spelling_of_a_name(path: str) -> None:
    """Else a rule about the name would not hold."""
    assert unspelled_name(path) == path
