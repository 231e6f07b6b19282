"""Tables of Python objects."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.lib.pretty import pretty

from agent_magics.widgets import Columns, Facts, Listing, clock, size_text

COLUMNS: Columns = {"name": lambda item: item["name"], "size": lambda item: item["size"]}


def listing(*names: object, **options: Any) -> Listing[Any]:
    return Listing([{"name": name, "size": 1} for name in names], COLUMNS, **options)


def test_it_is_a_list() -> None:
    found = listing("a", "b")
    assert len(found) == 2 and found[1]["name"] == "b"
    assert found == [{"name": "a", "size": 1}, {"name": "b", "size": 1}]


def test_plain_text_is_aligned() -> None:
    assert pretty(listing("a", "long", caption="Two")) == "Two\nname  size\na     1\nlong  1"
    assert listing(empty="none").text() == "none"
    assert listing("one\ntwo").text().splitlines()[1] == "one two  1"
    assert len(listing("x" * 500).text().splitlines()[1]) < 80


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "</td><script>", "&lt;"])
def test_html_is_escaped_everywhere(text: str) -> None:
    for shown in (
        listing(text)._repr_html_(),
        listing("a", caption=text)._repr_html_(),
        listing(empty=text)._repr_html_(),
        Facts([("name", text)])._repr_html_(),
    ):
        assert text not in shown
        assert "<img" not in shown and "<script" not in shown


def test_nothing_hides_or_steers() -> None:
    hostile = "a\u202eb\x1b[2Jc\x07"
    for shown in (
        listing(hostile).text(),
        listing(hostile)._repr_html_(),
        repr(Facts([("n", hostile)])),
    ):
        assert "\u202e" not in shown and "\x1b" not in shown and "\x07" not in shown
        assert "U+202E" in shown


def test_long_lists_and_cells_say_what_is_left_out() -> None:
    many = listing(*range(700))
    assert "200 more" in many.text() and "200 more" in many._repr_html_()
    assert "(5000 characters)" in listing("x" * 5000)._repr_html_()


def test_facts() -> None:
    facts = Facts([("id", 1), ("title", None)], value="it")
    assert repr(facts) == "id     1\ntitle  " and facts.value == "it"
    assert "<th" in facts._repr_html_()


def test_sizes_and_times() -> None:
    sizes = [0, 999, 1000, 1234, 999_949, 999_950, 5_000_000, 7_200_000_000]
    assert [size_text(size) for size in sizes] == [
        "0 B", "999 B", "1.0 kB", "1.2 kB", "999.9 kB", "1.0 MB", "5.0 MB", "7.2 GB",
    ]  # fmt: skip
    assert clock(0) == "" and len(clock(1_700_000_000_000)) == 19
