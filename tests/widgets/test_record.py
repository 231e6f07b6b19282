"""A turn's state and what remains of it in the saved notebook."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from agent_magics.widgets import MIME, TurnRecord
from agent_magics.widgets._describe import always_label, ask_blocks, ask_title
from agent_magics.wire import PermissionRequest, Tokens, TurnStarted
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    status,
    step,
    text,
    thought,
    tool_done,
    tool_failed,
    tool_prints,
    tool_runs,
    tool_start,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def whole_turn() -> TurnRecord:
    record = TurnRecord()
    record.describe("ses_1", "", "bubblewrap", True)
    for event in (
        TurnStarted("msg_1", "demo/guide"),
        status("busy"),
        thought("I should look."),
        text("Let me "),
        text("**look**."),
        tool_start(),
        tool_runs(input={"command": "ls -l", "description": "List files"}),
        asked(),
        replied("always"),
        tool_prints("a.csv\n", input={"command": "ls -l"}),
        tool_done(
            input={"command": "ls -l"},
            output="a.csv\n",
            title="List files",
            metadata={"exit": 2},
            time_start=1000,
            time_end=3500,
        ),
        plan(("load", "completed"), ("plot", "in_progress"), ("report", "pending")),
        tool_failed("read", "2", error="no such file"),
        step(Tokens(10, 5), 0.25),
        text("| a |\n|---|\n| 1 |\n", "prt_t2"),
        ended(cost=0.25),
    ):
        record.handle(event)
    record.add_image("image/png", PNG, "mass.png")
    return record


def test_the_transcript_keeps_its_order_and_one_plan() -> None:
    record = whole_turn()
    record.handle(plan(("load", "completed"), ("plot", "completed")))
    kinds = [type(item).__name__ for item in record.items.values()]
    assert kinds == [
        "ThinkItem",
        "TextItem",
        "ToolItem",
        "AskItem",
        "TodosItem",
        "ToolItem",
        "TextItem",
        "ImageItem",
    ]
    assert record.outcome == "completed"
    assert record.model == "demo/guide"
    assert (record.steps, record.tokens, record.cost) == (1, Tokens(10, 5), 0.25)


def test_html_shows_everything() -> None:
    html = whole_turn().html()
    for piece in (
        "<strong>look</strong>",
        "List files",
        "exit code 2 · 2.5 s",
        "ls -l",
        "a.csv",
        "always allowed in this session",
        "I should look.",
        "☑",
        "◐",
        "no such file",
        "<table>",
        "demo/guide",
        "<span>$</span>0.2500",
        "15 tokens",
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
    ):
        assert piece in html, piece
    assert "not isolated" not in html


def test_an_unisolated_session_is_marked_everywhere() -> None:
    record = whole_turn()
    record.describe("ses_1", "demo/guide", "local", False)
    assert "not isolated" in record.html()
    assert "not isolated" in record.text()
    assert record.json()["sandbox"] == {"provider": "local", "isolated": False}


def test_text_is_readable() -> None:
    text_form = whole_turn().text()
    assert "[bash] List files (exit code 2, 2.5 s)" in text_form
    assert "[permission] bash ls -l: always allowed in this session" in text_form
    assert "☑ load\n◐ plot\n☐ report" in text_form
    assert "[image] mass.png" in text_form


def test_json_has_the_facts_and_survives_json() -> None:
    facts = json.loads(json.dumps(whole_turn().json()))
    assert facts["sessionID"] == "ses_1"
    assert facts["messageID"] == "msg_2"
    assert facts["outcome"] == "completed"
    assert facts["tokens"]["input"] == 10
    assert facts["tools"] == ["bash"]
    assert facts["files"] == ["/workspace/a.png"]
    assert facts["permissions"] == [{"permission": "bash", "reply": "always"}]
    assert MIME.endswith("+json")
    assert "ls -l" not in json.dumps(facts)


def test_reasoning_can_be_left_out() -> None:
    record = TurnRecord(show_reasoning=False)
    record.handle(thought("secret thought"))
    assert "secret thought" not in record.html()
    assert "secret thought" not in record.text()


def test_an_error_is_shown_and_open_questions_are_closed() -> None:
    record = TurnRecord()
    record.handle(asked())
    record.handle(ended("error", "OPENAI_API_KEY is not valid."))
    assert record.open_asks == []
    assert "OPENAI_API_KEY is not valid." in record.html()
    assert "not answered" in record.html()
    assert record.json()["error"] == "APIError"


def test_a_turn_that_is_shown_later_says_how_long_it_ran() -> None:
    record = TurnRecord()
    record.handle(ended(seconds=75.0))
    assert record.elapsed == 75.0 and "1 min 15 s" in record.html()
    slower = TurnRecord()
    slower.started -= 100
    slower.handle(ended(seconds=75.0))  # as the user saw it: with the way to the server
    assert slower.elapsed >= 100


def test_the_saved_html_has_a_limit_and_says_what_is_missing() -> None:
    record = TurnRecord()
    record.handle(text("word " * 500_000))
    record.add_image("image/png", b"x" * 5_000_000, "large.png")
    record.handle(tool_done("read", output="y" * 500_000))
    html = record.html()
    assert len(html) < 4_100_000
    assert "Too large for the saved notebook: large.png" in html
    assert "The text is cut here." in html
    assert "characters are not kept here" in html


def test_live_output_is_bounded() -> None:
    record = TurnRecord()
    record.handle(tool_start())
    for _ in range(300):
        record.handle(tool_prints("z" * 10_000))
    (item,) = record.items.values()
    assert item.live_length <= 2_000_000  # type: ignore[union-attr]
    assert item.dropped + item.live_length == 3_000_000  # type: ignore[union-attr]
    assert "earlier characters are not kept" in record.html()


def test_a_new_image_takes_the_place_of_the_old_one() -> None:
    record = TurnRecord()
    record.add_image("image/png", b"old", "a.png")
    record.add_image("image/png", b"new", "a.png")
    assert record.html().count("<img") == 1
    assert base64.b64encode(b"new").decode() in record.html()


def test_unknown_events_are_ignored() -> None:
    from agent_magics.wire import UnknownEvent, WireEvent

    record = TurnRecord()
    record.handle(UnknownEvent(WireEvent("catalog.updated", {})))
    assert not record.items


def test_a_task_is_a_card_and_its_question_says_who_asks() -> None:
    record = TurnRecord()
    arguments = {"description": "Find it", "prompt": "Where is x?", "subagent_type": "explore"}
    record.handle(tool_start("task"))
    metadata = {"sessionId": "ses_2", "agent": "explore"}
    record.handle(tool_prints("bash: ls\n", "task", input=arguments, metadata=metadata))
    child = {"agent": "explore", "parent_id": "ses_1"}
    record.handle(asked(**child, session_title="Find <b>it (@explore subagent)"))
    assert "bash: ls" in record.html()
    record.handle(
        tool_done(
            "task",
            input=arguments,
            title="Find it (@explore)",
            output="It is in <b>a.py</b>.",
            metadata={**metadata, "toolCalls": 1},
            time_start=0,
            time_end=2000,
        )
    )
    html, text_form = record.html(), record.text()
    for piece in ("<b>task</b>", "Find it (@explore)", "1 tool call", "Where is x?", "explore"):
        assert piece in html, piece
    assert "It is in &lt;b&gt;a.py&lt;/b&gt;." in html
    assert "The sub-agent explore (Find &lt;b&gt;it) asks to run a command in /workspace" in html
    assert "[task] Find it (@explore) (1 tool call, 2.0 s)" in text_form
    assert "[permission] bash ls -l for the sub-agent explore (Find <b>it)" in text_form


def test_a_wish_for_the_network_is_one_clear_sentence() -> None:
    site = ("data.example.org:443",)
    wish = PermissionRequest("per_1", "ses_1", "network", site, site, {"port": 443}, "msg_1", "c_1")
    title = "A command in the container wants to reach data.example.org:443"
    assert ask_title(wish) == title and ask_blocks(wish) == []
    assert always_label(wish) == 'Always allow "data.example.org:443" in this session'
    of_child = replace(wish, parent_id="ses_1", agent="mine", call_id="")
    assert ask_title(of_child) == (
        "A background process of the sub-agent mine in the container wants to reach "
        "data.example.org:443"
    )


def test_a_sub_agent_without_a_title_is_named_all_the_same() -> None:
    request = asked(agent="mine", parent_id="ses_1").request
    assert request.asker == "the sub-agent mine"
    assert asked().request.asker == "the agent"
