"""Changes of files as diffs, before and after they were made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent_magics.notebook._turn._permissions import question
from agent_magics.widgets import TurnRecord
from agent_magics.widgets._describe import always_label, ask_blocks, tool_blocks, tool_facts
from agent_magics.wire import PermissionRequest, ToolPart
from tests.support.agent_events import tool_done, tool_part

EDIT = {"filePath": "/workspace/a.py", "oldString": "one\ntwo", "newString": "one\n2\u202e"}
DIFF = "--- a.py\n+++ a.py\n@@ -4,2 +4,3 @@\n one\n-two\n+2\n+3\n"


def request(permission: str, *always: str, **metadata: Any) -> PermissionRequest:
    return PermissionRequest("per_1", "ses_1", permission, ("a.py",), always, metadata)


def edit(status: str, diff: str = "") -> ToolPart:
    return tool_part(status, "edit", input=EDIT, metadata={"diff": diff} if diff else {})


def test_a_change_is_a_diff_before_it_is_made() -> None:
    path, change = tool_blocks(edit("running"))
    assert (path.text, path.kind) == ("/workspace/a.py", "line")
    assert change == ("", " one\n-two\n+2⟦U+202E⟧", "diff")
    assert ask_blocks(request("edit", **EDIT))[:2] == [path, change]


def test_why_it_is_asked_stands_first() -> None:
    asked = replace(request("edit", **EDIT), reason="This file changes\u202e what commands do.")
    assert ask_blocks(asked)[0] == ("", "This file changes⟦U+202E⟧ what commands do.", "words")
    assert ask_blocks(asked)[1:] == ask_blocks(request("edit", **EDIT))
    assert "\n  This file changes" in question(asked)


def test_afterwards_it_is_what_the_tool_has_changed() -> None:
    part = edit("completed", DIFF)
    assert tool_blocks(part)[1:] == [("", "@@ -4,2 +4,3 @@\n one\n-two\n+2\n+3", "diff")]
    assert tool_facts(part) == ["+2 \u22121"]


def test_a_new_file_is_its_content_until_it_is_written() -> None:
    arguments = {"filePath": "/workspace/b.py", "content": "x = 1\n"}
    assert ask_blocks(request("write", **arguments))[1] == ("", "x = 1\n", "code")
    part = tool_part("completed", "write", input=arguments, metadata={"diff": "@@ @@\n+x = 1\n"})
    assert tool_blocks(part)[1].kind == "diff"


def test_very_large_changes_are_not_compared() -> None:
    large = {**EDIT, "oldString": "a\n" * 60_000, "newString": "b\n" * 60_000}
    old, new = tool_blocks(tool_part("running", "edit", input=large))[1:]
    assert (old.label, new.label) == ("old", "new")


def test_the_saved_diff_has_its_signs_and_its_colours() -> None:
    record = TurnRecord()
    record.handle(tool_done("edit", input=EDIT, metadata={"diff": DIFF}))
    html = record.html()
    assert 'background:rgba(218,54,51,.22)">-two\n</span>' in html
    assert 'background:rgba(46,160,67,.22)">+2\n</span>' in html
    assert "+2 \u22121" in html


def test_always_says_what_it_is_about() -> None:
    assert always_label(request("bash", "git *")) == 'Always allow "git *" in this session'
    assert always_label(request("bash", "ls *", command="ls a")).startswith(
        'Always allow "ls *" in'
    )
    for always, command in (("make a", "make a"), ("ls [*]; x", "ls *; x"), ("ls > *", "ls > *")):
        label = always_label(request("bash", always, command=command))
        assert label == "Always allow exactly this command in this session"
    assert always_label(request("bash", "*")) == "Always allow every command in this session"
    assert always_label(request("db_query", "*")) == (
        "Always allow every use of db_query in this session"
    )
    assert always_label(request("bash")) == ""
