"""The `batch` tool in a turn: its calls are calls like all others."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import BinaryContent, ModelRequest, ToolReturnPart, UserPromptPart

from tests.support.engine_harness import Harness, Step, call, engine_in, say

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
BASH = [{"permission": "bash", "pattern": "*", "action": "allow"}]


def batch(*calls: tuple[str, dict[str, Any]]) -> Step:
    items = [{"tool": tool, "parameters": parameters} for tool, parameters in calls]
    return call(("batch", {"tool_calls": items}))


def states(harness: Harness) -> list[tuple[str, str, str]]:
    """Tool, status and result of every call, in order."""
    return [
        (p["tool"], p["state"]["status"], p["state"].get("output") or p["state"].get("error", ""))
        for p in harness.recorder.parts("tool")
    ]


def result(harness: Harness) -> str:
    """What the model got for its batch."""
    request = harness.model.seen[-1][-1]
    assert isinstance(request, ModelRequest)
    (part,) = [p for p in request.parts if isinstance(p, ToolReturnPart)]
    return str(part.content)


async def test_each_call_has_its_part(tmp_path: Path) -> None:
    steps = [
        batch(
            ("read", {"filePath": "a.txt"}),
            ("bash", {"command": "echo hi"}),
            ("read", {"filePath": "none.txt"}),
            ("read", {"path": "a.txt"}),
            ("nothing", {}),
            ("batch", {"tool_calls": [{"tool": "todoread", "parameters": {}}]}),
        ),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=BASH)
        (harness.sandboxes[0].workspace / "a.txt").write_text("content")
        ended = await harness.turn(session)
        assert ended["outcome"] == "completed"
        whole, first, second, missing, wrong, unknown, nested = states(harness)
        assert whole[:2] == ("batch", "completed")
        assert first == ("read", "completed", "1: content")
        assert second == ("bash", "completed", "hi")
        assert missing[:2] == ("read", "error") and "does not exist" in missing[2]
        assert wrong[:2] == ("read", "error") and "filePath" in wrong[2]
        assert unknown == ("nothing", "error", "There is no tool nothing.")
        assert nested == ("batch", "error", "A batch can't contain a batch.")
        text = result(harness)
        assert text == whole[2]
        assert text.startswith("2 of 6 calls succeeded.\n\n[1] read:\n1: content\n\n[2] bash:\nhi")
        assert "[3] read failed:\n" in text and "[5] nothing failed:" in text
        (part, *others) = harness.recorder.parts("tool")
        assert part["state"]["title"] == "6 calls: read, bash, nothing, batch"
        assert [c["callID"] for c in part["state"]["metadata"]["calls"]] == [
            p["callID"] for p in others
        ]
        metrics = session.metrics()["toolUsage"]
        assert metrics == {"batch": 1, "read": 2, "bash": 1}


async def test_each_call_asks_for_itself_and_they_run_at_once(tmp_path: Path) -> None:
    """Two commands that wait for each other: one after the other they would never end."""
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.01; done; echo met"
    steps = [
        batch(
            ("bash", {"command": meet.format("a", "b")}),
            ("bash", {"command": meet.format("b", "a")}),
            ("bash", {"command": "echo rejected"}),
        ),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        await harness.prompt(session)
        await harness.recorder.wait("permission.asked", 3)
        for request in harness.engine.permissions.pending(session.id):
            reply = "reject" if "rejected" in request["patterns"][0] else "once"
            harness.engine.permissions.reply(request["id"], reply, None, session_id=session.id)  # type: ignore[arg-type]
        await harness.recorder.wait("session.idle")
        assert [state[1] for state in states(harness)] == [
            "completed", "completed", "completed", "error",
        ]  # fmt: skip
        assert result(harness).count("met") == 2 and "2 of 3 calls" in result(harness)


async def test_changes_stay_in_order(tmp_path: Path) -> None:
    edit = {"filePath": "a.txt", "oldString": "1", "newString": "2"}
    steps = [
        batch(
            ("write", {"filePath": "a.txt", "content": "1"}),
            ("edit", edit),
            ("read", {"filePath": "a.txt"}),
            ("edit", {**edit, "oldString": "2", "newString": "3"}),
            ("read", {"filePath": "a.txt"}),
        ),
        say("Done."),
    ]
    async with engine_in(tmp_path, steps) as harness:
        await harness.turn(await harness.session())
        found = [output for tool, _, output in states(harness) if tool == "read"]
        assert found == ["1: 2", "1: 3"]


async def test_an_abort_ends_all_calls(tmp_path: Path) -> None:
    steps = [
        batch(
            ("bash", {"command": "echo up; sleep 600"}),
            ("bash", {"command": "echo up; sleep 600"}),
            ("write", {"filePath": "never", "content": ""}),
        )
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session(rules=BASH)
        workspace = harness.sandboxes[0].workspace
        await harness.prompt(session)
        await harness.recorder.wait("tool.output", 2)
        await harness.engine.abort(session)
        ended = await harness.recorder.wait("turn.ended")
        assert ended["properties"]["outcome"] == "aborted"
        assert {state[1:] for state in states(harness)} == {("error", "Tool execution aborted")}
        assert len(states(harness)) == 4
        assert not (workspace / "never").exists()


@pytest.mark.parametrize("count", [0, 26])
async def test_the_number_of_calls_is_limited(tmp_path: Path, count: int) -> None:
    steps = [batch(*[("todoread", {})] * count), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        await harness.turn(await harness.session())
        ((tool, status, error),) = states(harness)
        assert (tool, status) == ("batch", "error") and "1 to 25 calls" in error


async def test_the_most_calls_and_long_results(tmp_path: Path) -> None:
    steps = [batch(*[("read", {"filePath": "long"})] * 25), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        (harness.sandboxes[0].workspace / "long").write_text("x\n" * 10_000)
        await harness.turn(session)
        assert "25 of 25 calls succeeded" in result(harness)
        assert len(result(harness)) < 120_000


async def test_images_reach_the_model(tmp_path: Path) -> None:
    steps = [batch(("read", {"filePath": "a.png"}), ("todoread", {})), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        (harness.sandboxes[0].workspace / "a.png").write_bytes(PNG)
        await harness.turn(session)
        assert "(an image; it follows)" in result(harness)
        request = harness.model.seen[-1][-1]
        prompts = [p for p in request.parts if isinstance(p, UserPromptPart)]
        assert any(
            isinstance(item, BinaryContent) and item.data == PNG
            for prompt in prompts
            for item in prompt.content
        )


async def test_a_container_that_cannot_start_ends_the_turn(tmp_path: Path) -> None:
    steps = [batch(("read", {"filePath": "a"}), ("todoread", {})), say("Done.")]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        harness.sandboxes[0].alive = False
        harness.sandboxes[0].unavailable = "User namespaces are off."
        ended = await harness.turn(session)
        assert ended["outcome"] == "error"
        assert "User namespaces are off." in ended["error"]["data"]["message"]
