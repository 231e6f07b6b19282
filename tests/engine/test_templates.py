"""Placeholders of commands: what takes which argument, and that values stay what they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.engine._errors import CommandArguments
from agent_magics.engine._templates import expand, placeholders


@pytest.mark.parametrize(
    ("template", "arguments", "text"),
    [
        ("Test $path now", {"path": "./src"}, "Test ./src now"),
        ("Test $path now", "path=./src", "Test ./src now"),
        ("Test $path now", "'path=a b'", "Test a b now"),
        ("$1 and $2", "one 'two three' four", "one and two three four"),
        ("$1 and $2", ["one", "two", "three"], "one and two three"),
        ("$2 before $1, $1", "a b", "b before a, a"),
        ("All: $ARGUMENTS", "a  'b c'", "All: a  'b c'"),
        ("All: $ARGUMENTS.", "", "All: ."),
        ("All: $ARGUMENTS", {"a": 1, "b": "x y"}, "All: a=1 b='x y'"),
        ("$n $flag $items", {"n": 2, "flag": True, "items": ["é"]}, '2 true ["é"]'),
        ("No placeholder", "", "No placeholder"),
        ("No placeholder", "but this", "No placeholder\n\nbut this"),
        ("No placeholder", {"path": "./src"}, "No placeholder\n\npath=./src"),
        (
            "$$1 costs {x} $HOME ${path} $(ls) `ls` $1",
            "5",
            "$1 costs {x} $HOME ${path} $(ls) `ls` 5",
        ),
        ("$1", "it's", "it's"),
        ("$a $1", "a=1 b=2", "1 b=2"),
        ("$a $b", {"a": "$b $1 $$ $ARGUMENTS", "b": "!`id`"}, "$b $1 $$ $ARGUMENTS !`id`"),
        ("$10 $ARGUMENTSX", {"10": "ten"}, "ten $ARGUMENTSX"),
        ("$1!", "x" * 200_000 + " 'y", "x" * 200_000 + " 'y!"),
    ],
)
def test_expansion(template: str, arguments: Any, text: str) -> None:
    assert expand("test", template, arguments) == text


def test_what_is_missing_is_named() -> None:
    with pytest.raises(CommandArguments, match=r"needs more arguments: \$path, \$2\.") as caught:
        expand("test", "$path $1 $2", "one")
    assert caught.value.data == {"command": "test", "missing": ["$path", "$2"]}
    with pytest.raises(CommandArguments, match=r"\$path"):
        expand("test", "$path", {"path": None})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(CommandArguments, match="has no argument paht; it takes path"):
        expand("test", "$path", {"path": "a", "paht": "b"})


def test_placeholders() -> None:
    assert placeholders("$b $1 $ARGUMENTS $b $$c $X") == ["b", "1", "ARGUMENTS"]


@given(st.text(), st.text())
def test_values_are_never_expanded(first: str, second: str) -> None:
    text = expand("test", "<$a|$b>", {"a": first, "b": second})
    assert text == f"<{first}|{second}>"
