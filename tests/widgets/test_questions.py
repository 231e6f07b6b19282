"""Open questions of an agent, in full."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.lib.pretty import pretty

from agent_magics.widgets import Questions
from agent_magics.wire import PermissionRequest


def request(permission: str = "bash", **metadata: Any) -> PermissionRequest:
    patterns = (str(metadata.get("command") or metadata.get("filePath")),)
    return PermissionRequest("per_1", "ses_1", permission, patterns, ("rm *",), metadata)


def test_it_is_a_list_and_says_when_it_is_empty() -> None:
    found = Questions([request(command="ls")])
    assert found[0].id == "per_1" and len(found) == 1
    assert Questions([]).text() == "The agent waits for no answer."
    assert "no answer" in Questions([])._repr_html_()


@pytest.mark.parametrize("show", [pretty, Questions._repr_html_])
def test_nothing_of_a_command_is_cut(show: Any) -> None:
    command = "\n".join(f"echo {number} {'x' * 200}" for number in range(300))
    shown = show(Questions([request(command=command)]))
    assert all(f"echo {number} {'x' * 200}" in shown for number in range(300))
    assert "The agent asks to run" in shown
    assert "%agent_permissions once per_1" in shown
    assert "Always allow" in shown and "rm *" in shown


def test_a_change_is_shown_as_a_difference() -> None:
    change = request("edit", filePath="a.py", oldString="one", newString="two")
    text = Questions([change]).text()
    assert "a.py" in text and "-one" in text and "+two" in text


@pytest.mark.parametrize("show", [pretty, Questions._repr_html_])
def test_hidden_characters_and_markup_are_seen(show: Any) -> None:
    shown = show(Questions([request(command="echo \u202e<b>\x1b[2K $a$")]))
    assert "\u202e" not in shown and "\x1b" not in shown


def test_html_is_escaped() -> None:
    shown = Questions([request(command="<img src=x onerror=alert(1)>")])._repr_html_()
    assert "<img" not in shown and "&lt;img" in shown
