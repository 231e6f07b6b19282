"""The dataclasses are built from the JSON that real servers send."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

import pytest

from agent_magics import wire

IDS = {"id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1"}


def test_exports_are_sorted_and_complete() -> None:
    expected = {"PROTOCOL"}
    for module in pkgutil.iter_modules(wire.__path__):
        expected |= set(importlib.import_module(f"agent_magics.wire.{module.name}").__all__)
    assert set(wire.__all__) == expected
    assert all(hasattr(wire, name) for name in wire.__all__)


def test_tokens_add_up_and_total_counts_reasoning_once() -> None:
    one = wire.Tokens.from_json(
        {"input": 10, "output": 5, "reasoning": 3, "cache": {"read": 2, "write": 1}}
    )
    assert one == wire.Tokens(10, 5, 3, 2, 1)
    assert one.total == 18
    assert one + one == wire.Tokens(20, 10, 6, 4, 2)
    assert wire.Tokens.from_json({}) == wire.Tokens()


def test_error_without_message_shows_its_name() -> None:
    error = wire.WireError.from_json({"name": "APIError", "data": {"statusCode": 500}})
    assert (error.name, error.message) == ("APIError", "APIError")
    assert error.data["statusCode"] == 500
    assert wire.WireError.from_json({}).name == "UnknownError"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"type": "text", "text": "hi", "time": {"start": 1}},
            wire.TextPart("prt_1", "msg_1", "ses_1", "hi", closed=False),
        ),
        (
            {"type": "text", "text": "hi", "time": {"start": 1, "end": 2}},
            wire.TextPart("prt_1", "msg_1", "ses_1", "hi"),
        ),
        (
            {"type": "text", "text": "hi", "synthetic": True},
            wire.TextPart("prt_1", "msg_1", "ses_1", "hi", synthetic=True),
        ),
        (
            {"type": "reasoning", "text": "hm", "time": {"start": 1}},
            wire.ReasoningPart("prt_1", "msg_1", "ses_1", "hm", closed=False),
        ),
        (
            {"type": "file", "mime": "image/png", "url": "file:///workspace/a.png"},
            wire.FilePart("prt_1", "msg_1", "ses_1", "image/png", "file:///workspace/a.png"),
        ),
        ({"type": "step-start"}, wire.StepStartPart("prt_1", "msg_1", "ses_1")),
        (
            {"type": "compaction", "auto": True},
            wire.CompactionPart("prt_1", "msg_1", "ses_1", auto=True),
        ),
        (
            {"type": "step-finish", "reason": "stop", "tokens": {"input": 1}, "cost": 0.5},
            wire.StepFinishPart("prt_1", "msg_1", "ses_1", "stop", wire.Tokens(1), 0.5),
        ),
        (
            {"type": "step-finish", "context": {"used": 5, "limit": None}},
            wire.StepFinishPart(
                *("prt_1", "msg_1", "ses_1", "unknown", wire.Tokens()), context_used=5
            ),
        ),
        (
            {"type": "step-finish"},
            wire.StepFinishPart("prt_1", "msg_1", "ses_1", "unknown", wire.Tokens(), None),
        ),
    ],
)
def test_part_types(data: dict[str, Any], expected: wire.Part) -> None:
    assert wire.part_from_json({**IDS, **data}) == expected


def test_tool_part_in_every_state() -> None:
    def state(**fields: Any) -> wire.ToolState:
        part = wire.part_from_json(
            {**IDS, "type": "tool", "tool": "bash", "callID": "call_1", "state": fields}
        )
        assert isinstance(part, wire.ToolPart)
        assert (part.tool, part.call_id, part.type) == ("bash", "call_1", "tool")
        return part.state

    assert state(status="pending", input={}, raw='{"comm').raw == '{"comm'
    running = state(status="running", input={"command": "ls"}, time={"start": 5})
    assert (running.time_start, running.time_end) == (5, None)
    done = state(
        status="completed",
        input={},
        output="a\n",
        title="ls",
        metadata={"exit": 0},
        time={"start": 5, "end": 9},
    )
    assert (done.output, done.title, done.metadata["exit"], done.time_end) == ("a\n", "ls", 0, 9)
    assert state(status="error", error="boom").error == "boom"


def test_unknown_part_keeps_its_data() -> None:
    part = wire.part_from_json({**IDS, "type": "patch", "hash": "x"})
    assert isinstance(part, wire.UnknownPart)
    assert (part.type, part.data["hash"]) == ("patch", "x")


def test_file_part_path() -> None:
    data = {**IDS, "type": "file", "mime": "image/png"}
    inside = wire.part_from_json({**data, "url": "file:///workspace/a b.png"})
    inline = wire.part_from_json({**data, "url": "data:image/png;base64,AA==", "filename": "a"})
    assert isinstance(inside, wire.FilePart)
    assert isinstance(inline, wire.FilePart)
    assert inside.path == "/workspace/a b.png"
    assert inline.path is None
    assert inline.filename == "a"


def test_message_of_user_and_assistant_name_their_model() -> None:
    user = wire.Message.from_json(
        {
            "info": {
                "id": "msg_1",
                "sessionID": "ses_1",
                "role": "user",
                "time": {"created": 1},
                "model": {"providerID": "demo", "modelID": "guide"},
            },
            "parts": [{**IDS, "type": "text", "text": "hi"}],
        }
    )
    assert user.info.model == "demo/guide"
    assert user.info.time_completed is None
    assistant = wire.Message.from_json(
        {
            "info": {
                "id": "msg_2",
                "sessionID": "ses_1",
                "role": "assistant",
                "parentID": "msg_1",
                "providerID": "openai",
                "modelID": "gpt-x",
                "cost": 0.25,
                "tokens": {"input": 3},
                "error": {"name": "APIError", "data": {"message": "no"}},
                "time": {"created": 1, "completed": 2},
            },
            "parts": [
                {**IDS, "type": "text", "text": "a"},
                {**IDS, "type": "text", "text": "hidden", "synthetic": True},
                {**IDS, "type": "reasoning", "text": "no"},
                {**IDS, "type": "text", "text": "b"},
            ],
        }
    )
    assert assistant.text == "ab"
    assert assistant.info.parent_id == "msg_1"
    assert assistant.info.model == "openai/gpt-x"
    assert assistant.info.error == wire.WireError("APIError", "no", {"message": "no"})
    assert (assistant.info.cost, assistant.info.tokens.input) == (0.25, 3)
    bare = wire.MessageInfo.from_json({"id": "m", "sessionID": "s", "role": "user"})
    assert (bare.model, bare.error, bare.cost) == ("", None, None)
    assert not assistant.info.summary and not bare.summary


def test_a_summary_is_marked() -> None:
    info = {"id": "msg_1", "sessionID": "ses_1", "role": "assistant"}
    assert wire.MessageInfo.from_json({**info, "summary": True}).summary
    # A user message of opencode may have something else under this name.
    user = {**info, "role": "user", "summary": {"diffs": []}}
    assert not wire.MessageInfo.from_json(user).summary


def test_session_info() -> None:
    info = wire.SessionInfo.from_json(
        {
            "id": "ses_1",
            "title": "T",
            "parentID": "ses_0",
            "time": {"created": 1, "updated": 2, "archived": 3},
            "model": {"providerID": "demo", "id": "guide"},
            "sandbox": {"provider": "local", "isolated": False},
        },
        "busy",
    )
    assert info.archived
    assert not info.isolated
    assert (info.status, info.parent_id, info.model, info.sandbox) == (
        "busy",
        "ses_0",
        "demo/guide",
        "local",
    )
    failed = {"id": "ses_1", "error": {"name": "APIError", "data": {"message": "No."}}}
    info = wire.SessionInfo.from_json(failed)
    assert (info.status, info.error) == (
        "error",
        wire.WireError("APIError", "No.", {"message": "No."}),
    )
    # It works again, and the two answers that make this object were not given at the same time.
    info = wire.SessionInfo.from_json(failed, "busy")
    assert (info.status, info.error) == ("busy", None)
    plain = wire.SessionInfo.from_json({"id": "ses_1", "time": {"archived": 0}})
    assert not plain.archived
    assert (plain.status, plain.error) == ("idle", None)
    assert plain.isolated
    assert plain.model == ""


def test_permission_request() -> None:
    request = wire.PermissionRequest.from_json(
        {
            "id": "per_1",
            "sessionID": "ses_1",
            "permission": "bash",
            "patterns": ["ls -l"],
            "always": ["ls *"],
            "metadata": {"command": "ls -l"},
            "tool": {"messageID": "msg_2", "callID": "call_1"},
        }
    )
    assert request.patterns == ("ls -l",)
    assert request.always == ("ls *",)
    assert (request.message_id, request.call_id) == ("msg_2", "call_1")
    empty = wire.PermissionRequest.from_json({"id": "per_2", "sessionID": "s"})
    assert (empty.call_id, empty.reason) == ("", "")
    why = wire.PermissionRequest.from_json({"id": "per_3", "sessionID": "s", "reason": "Why."})
    assert why.reason == "Why."


def test_metrics_shell_file_todo() -> None:
    metrics = wire.SessionMetrics.from_json(
        {
            "sessionID": "ses_1",
            "messages": 2,
            "steps": 1,
            "toolCalls": 3,
            "toolUsage": {"bash": 3},
            "tokens": {"output": 4},
            "cost": None,
            "context": {"used": 10, "limit": 100},
        }
    )
    assert (metrics.tool_calls, metrics.tool_usage["bash"], metrics.cost) == (3, 3, None)
    assert (metrics.context_used, metrics.context_limit) == (10, 100)
    assert wire.SessionMetrics.from_json({"sessionID": "s"}).context_limit is None
    shell = wire.ShellResult.from_json({"stdout": "x", "exitCode": 124, "timedOut": True})
    assert shell == wire.ShellResult("x", "", 124, timed_out=True)
    entry = wire.FileEntry.from_json({"path": "/workspace/a", "kind": "file", "size": 1})
    assert entry == wire.FileEntry("/workspace/a", "file", 1, 0)
    assert wire.Todo.from_json({"content": "plan"}) == wire.Todo("plan", "pending", "medium")


def test_objects_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        wire.Tokens().input = 1  # type: ignore[misc]


def test_missing_required_key_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        wire.part_from_json({"type": "text"})
    with pytest.raises(KeyError):
        wire.WireEvent.from_json({"properties": {}})


def test_a_session_says_what_its_commands_reach() -> None:
    session = {"id": "ses_1", "title": "t"}
    assert wire.SessionInfo.from_json(session).network is None
    found = wire.SessionInfo.from_json({**session, "network": {"allow": ["packages"]}})
    assert found.network == ("packages",)
