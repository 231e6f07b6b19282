"""How to undo what turns did: pure decisions about trees."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.engine._errors import MessageNotFound
from agent_magics.engine._plan import (
    Change,
    Entry,
    Tree,
    changes,
    net_changes,
    overlay,
    plan,
    same,
)
from agent_magics.engine._revert import turn_start


def file(content: str, mode: int = 0o644, mtime: int = 0) -> Entry:
    return Entry("file", mode, content, len(content), mtime, mtime, 1)


DIRECTORY = Entry("directory", 0o755, "", 0, 0, 0, 0)
CLOSED = Entry("closed", 0, "?its content can't be read", 0, 0, 0, 0)
BIG = Entry("file", 0o644, "?too large:9:9:9", 9, 9, 9, 9)


def test_times_are_no_change() -> None:
    assert same(file("a", mtime=1), file("a", mtime=2))
    assert changes({"f": file("a", mtime=1)}, {"f": file("a", mtime=2)}) == {}
    assert not same(file("a"), file("a", 0o755))
    assert not same(file("a"), None)


def test_created_changed_deleted() -> None:
    before = {"changed": file("old"), "deleted": file("x", 0o755)}
    after = {"changed": file("new"), "created": file("y")}
    undo = plan([Change(before, after)], after)
    assert undo.wanted == {**before, "created": None}
    assert undo.conflicts == [] and undo.skipped == {}
    assert plan([Change(before, after)], before).wanted == {}


def test_what_others_changed_since_is_a_conflict() -> None:
    change = Change({"f": file("1")}, {"f": file("2"), "g": file("g")})
    undo = plan([change], {"f": file("3"), "g": file("g"), "h": file("h")})
    assert undo.conflicts == ["f"] and undo.wanted == {"g": None}
    # They may have undone it themselves.
    assert plan([change], {"f": file("1")}).conflicts == []
    assert plan([change], {"g": file("g")}).conflicts == ["f"]


def test_what_others_changed_between_turns_is_a_conflict() -> None:
    first = Change({"f": file("1")}, {"f": file("2")})
    second = Change({"f": file("mine")}, {"f": file("4")})
    assert plan([first, second], {"f": file("4")}).conflicts == ["f"]
    assert plan([second], {"f": file("4")}).wanted == {"f": file("mine")}


def test_what_others_wrote_in_mid_turn_is_a_conflict() -> None:
    change = Change({}, {"f": file("x")}, frozenset({"f"}))
    assert plan([change], {"f": file("x")}).conflicts == ["f"]


def test_a_directory_stays_while_something_is_in_it() -> None:
    change = Change({}, {"d": DIRECTORY, "d/e": DIRECTORY, "d/e/f": file("f")})
    now = {**change.after, "d/mine": file("mine")}
    undo = plan([change], now)
    assert undo.wanted == {"d/e": None, "d/e/f": None} and undo.conflicts == []
    replaced = Change({"d": file("was a file")}, {"d": DIRECTORY})
    undo = plan([replaced], {"d": DIRECTORY, "d/mine": file("mine")})
    assert undo.wanted == {} and undo.conflicts == ["d"]


def test_directories_that_others_removed_come_back() -> None:
    private = DIRECTORY._replace(mode=0o700)
    change = Change({"d": private, "d/f": file("f")}, {"d": private})
    assert plan([change], {}).wanted == {"d": private, "d/f": file("f")}
    undo = plan([change], {"d": file("now a file")})
    assert undo.conflicts == ["d"] and undo.wanted == {}
    undo = plan([change], {"d": CLOSED})
    assert undo.wanted == {} and undo.skipped == {"d/f": "its directory is closed"}


def test_what_is_not_stored_is_skipped() -> None:
    undo = plan([Change({"f": BIG}, {"g": BIG})], {"g": BIG})
    assert undo.wanted == {} and undo.conflicts == []
    assert undo.skipped == {"f": "too large", "g": "too large"}
    undo = plan([Change(problem="the container ended")], {})
    assert undo.skipped == {".": "the container ended"}


def test_net_changes() -> None:
    first = Change({}, {"f": file("1"), "g": file("g")})
    second = Change(first.after, {"f": file("2")})
    assert net_changes([first, second]) == {"f": (None, file("2"))}


names = st.sampled_from(["a", "b", "d/x", "d/y", "d/e/z"])
files = st.dictionaries(names, st.builds(file, st.text("xyz", max_size=2)))


def whole(found: dict[str, Entry]) -> Tree:
    """With the directories that these files need."""
    parents = {"d": DIRECTORY, "d/e": DIRECTORY}
    needed = {p: e for p, e in parents.items() if any(f.startswith(p + "/") for f in found)}
    return {**found, **needed}


@given(st.lists(files, min_size=1, max_size=6))
def test_undoing_turns_leads_to_their_beginning(states: list[dict[str, Entry]]) -> None:
    trees = [whole(state) for state in states]
    done = [Change(a, b) for a, b in itertools.pairwise(trees)]
    undo = plan(done, trees[-1])
    assert undo.conflicts == []
    assert overlay(trees[-1], undo.wanted) == trees[0]


@given(files, files, files)
def test_nothing_of_others_is_overwritten(
    before: dict[str, Entry], after: dict[str, Entry], now: dict[str, Entry]
) -> None:
    undo = plan([Change(whole(before), whole(after))], whole(now))
    for path in undo.wanted:
        assert same(whole(now).get(path), whole(after).get(path)) or path in ("d", "d/e")


def test_where_a_turn_begins() -> None:
    ids = ["msg_1", "msg_a", "msg_sum", "msg_b", "msg_2"]  # a summary in the middle of msg_1's turn
    starts = [turn_start(ids, {"msg_1", "msg_2"}, message_id) for message_id in ids]
    assert starts == [0, 0, 0, 0, 4]
    with pytest.raises(MessageNotFound):
        turn_start(ids, {"msg_1"}, "msg_3")
