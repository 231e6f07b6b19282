"""Conversations as files for people and programs."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from agent_magics.notebook._manage import _export
from agent_magics.notebook._replay._codec import decoded
from agent_magics.wire import (
    CompactionPart,
    FilePart,
    Message,
    MessageInfo,
    ReasoningPart,
    SessionInfo,
    TextPart,
    Tokens,
    ToolPart,
    ToolState,
    WireError,
)
from tests.support.fake_session import FakeSession, hello, install

IDS = ("prt_1", "msg_2", "ses_1")
TODOS = [{"content": "Load", "status": "completed"}, {"content": "Draw", "status": "pending"}]


def tool(name: str, output: str = "", **state: Any) -> ToolPart:
    values = {"status": "completed", "output": output, **state}
    return ToolPart(*IDS, name, "call_1", ToolState(**values))


PARTS = (
    ReasoningPart(*IDS, "First\nsecond"),
    TextPart(*IDS, "I **look**.\n\n"),
    tool("bash", "1\n2", input={"command": "seq 2\necho ```", "description": "Count"}),
    tool("todowrite", "[]", input={"todos": TODOS}),
    tool(
        "edit",
        input={"filePath": "a.py", "oldString": "one", "newString": "two"},
        metadata={"exit": 0},
    ),
    tool("grep", status="error", input={"pattern": "`x`"}, error="No such file"),
    CompactionPart(*IDS),
    TextPart(*IDS, "Not for people", synthetic=True),
)
MESSAGES = [
    Message(
        MessageInfo("msg_1", "ses_1", "user", time_created=1_700_000_000_000),
        (
            TextPart(*IDS, "Do <b>it</b> \u202e{x}"),
            FilePart(*IDS, "text/csv", "file:///workspace/data/a.csv"),
        ),
    ),
    Message(
        MessageInfo(
            "msg_2",
            "ses_1",
            "assistant",
            model="demo/guide",
            tokens=Tokens(1200, 34),
            cost=0.5,
            error=WireError("MessageOutputLengthError", "It was cut off."),
        ),
        PARTS,
    ),
]


@pytest.fixture
def export(shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exports the messages above to a file of this name; returns its text."""
    install(shell, hello)
    session = FakeSession(hello, "ses_1")
    session.get_info = lambda: SessionInfo("ses_1", "My <title>")  # type: ignore[method-assign]
    session.get_messages = lambda: MESSAGES  # type: ignore[attr-defined]
    monkeypatch.setattr(_export.Workbench, "session", lambda bench, id: session)

    def run(name: str) -> str:
        options = Namespace(file=str(tmp_path / name), force=False, session=None)
        path = _export.agent_export(options)
        assert [file.name for file in path.parent.iterdir() if name in file.name] == [name]
        return path.read_text()

    return run


def test_markdown_reads_as_a_conversation(export: Any) -> None:
    text = export("talk.md")
    assert text.startswith("# My &lt;title>\n\nses_1 · ")
    assert "1,200 tokens in · 34 out · <span>$</span>0.5000" in text
    assert "## You, 2023-" in text and "File: `/workspace/data/a.csv`" in text
    assert "> First\n> second" in text and "I **look**.\n\n**bash** `Count`" in text
    assert "````text\nseq 2\necho ```\n````\n\nResult:\n\n```text\n1\n2\n```" in text
    assert "- ☑ Load\n- ☐ Draw" in text and '"content"' not in text
    assert "```diff\n" in text and "-one\n+two" in text
    assert "**grep** `` `x` `` (failed)" in text and "No such file" in text
    assert "was summarized" in text and "**MessageOutputLengthError**: It was cut off." in text
    assert "Not for people" not in text and "\u202e" not in text
    assert "\n\n\n" not in text


def test_html_is_one_safe_page(export: Any) -> None:
    text = export("talk.html")
    assert text.startswith("<!doctype html>") and "<h1>My &lt;title&gt;</h1>" in text
    assert "<b>it</b>" not in text and "&lt;b&gt;it" in text
    assert "It was cut off." in text and "<strong>look</strong>" in text and "seq 2" in text
    assert "\u202e" not in text and "<script" not in text


def test_json_is_the_whole_conversation_and_reads_back(export: Any) -> None:
    data = json.loads(export("talk.json"))
    assert (data["format"], data["version"]) == ("agent-magics-conversation", 1)
    assert decoded(SessionInfo, data["session"]) == SessionInfo("ses_1", "My <title>")
    assert [decoded(Message, message) for message in data["messages"]] == MESSAGES


def test_a_file_that_cannot_be_written_is_left_as_it_was(
    export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RuntimeError, match=r"No space left on device: .*talk\.md$"):
        export("talk.md")
    assert not any("talk.md" in file.name for file in tmp_path.iterdir())
