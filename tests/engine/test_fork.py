"""Copies of sessions: the same and yet another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._fork import forked_title
from agent_magics.engine._sessions import Session
from tests.support.engine_harness import Harness, call, engine_in, say
from tests.support.fake_tree import FakeTree
from tests.support.past import (
    CHANGES,
    allowed,
    furnish,
    messages,
    post,
    prompts_seen,
    revert,
    run,
    sh,
    turns,
)
from tests.support.workspaces import contents


async def fork(harness: Harness, session: Session, **body: Any) -> Session:
    answer = await post(harness, session, "fork", **body)
    assert answer["skipped"] == []
    return harness.engine.sessions.get(answer["id"])


def test_titles() -> None:
    assert forked_title("A") == "A (fork #1)"
    assert forked_title("A (fork #1)") == "A (fork #2)"
    assert forked_title("A (fork #9) more") == "A (fork #9) more (fork #1)"


def without_ids(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = {m["info"]["id"]: i for i, m in enumerate(found)}
    result = []
    for message in found:
        info = {k: v for k, v in message["info"].items() if k not in ("id", "sessionID")}
        if "parentID" in info:
            info["parentID"] = ids[info["parentID"]]
        hidden = ("id", "messageID", "sessionID")
        parts = [{k: v for k, v in p.items() if k not in hidden} for p in message["parts"]]
        result.append({"info": info, "parts": parts})
    return result


async def test_as_it_is(tmp_path: Path) -> None:
    todos = call(("todowrite", {"todos": [{"content": "do"}]}))
    steps = [sh(CHANGES), todos, say("done"), say("in the copy"), say("in the original")]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        session.standing = [{"permission": "bash", "pattern": "*", "action": "allow"}]
        source = harness.sandboxes[0].workspace
        furnish(source)
        await run(harness, session)
        (source / ".local/lib").mkdir(parents=True)
        (source / ".local/lib/package.py").write_text("x")
        (source / "mine").write_text("mine")
        before, everything = contents(source), await messages(harness, session)
        record = session.to_json()
        copy = await fork(harness, session)
        target = harness.sandboxes[1].workspace
        assert contents(target) == before
        copied = await messages(harness, copy)
        assert without_ids(copied) == without_ids(everything)
        ids = {m["info"]["id"] for m in everything} | {
            p["id"] for m in everything for p in m["parts"]
        }
        assert not ids & {p["id"] for m in copied for p in m["parts"]}
        assert all(p["sessionID"] == copy.id for m in copied for p in m["parts"])
        assert (copy.title, copy.parent_id, copy.standing) == ("prompt 0 (fork #1)", None, [])
        assert copy.todos == session.todos and copy.rules == session.rules
        assert copy.usage == session.usage
        await run(harness, copy)
        assert prompts_seen(harness) == ["prompt 0", "prompt 0"]
        (target / "mine").write_text("other")
        assert session.to_json() == record and contents(source) == before
        assert await messages(harness, session) == everything
        await harness.http.delete(f"/session/{session.id}")
        first = (await messages(harness, copy))[0]["info"]["id"]
        done = await revert(harness, copy, first)  # with snapshots of its own
        assert done.messages == 4
        assert (target / "changed").read_text() == "old\n"


async def test_as_it_was_before_a_message(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f", "echo 2 > f", "echo 3 > f")) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 3)
        everything = await messages(harness, session)
        copy = await fork(harness, session, messageID=everything[3]["info"]["id"])
        assert without_ids(await messages(harness, copy)) == without_ids(everything[:2])
        assert (harness.sandboxes[1].workspace / "f").read_text() == "1\n"
        assert (copy.usage.messages, copy.usage.steps) == (2, 2)
        assert copy.usage.tools == {"bash": 1}
        empty = await fork(
            harness, copy, messageID=(await messages(harness, copy))[0]["info"]["id"]
        )
        assert contents(harness.sandboxes[2].workspace) == {}
        assert await messages(harness, empty) == [] and empty.title == "prompt 0 (fork #2)"
        assert (await messages(harness, session)) == everything
        assert len(ids) == 3 and (harness.sandboxes[0].workspace / "f").read_text() == "3\n"


async def test_of_a_reverted_session(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f", "echo 2 > f")) as harness:
        session = await allowed(harness)
        _, second = await run(harness, session, 2)
        await revert(harness, session, second)
        copy = await fork(harness, session)
        assert "revert" not in copy.to_json() and len(await messages(harness, copy)) == 2
        assert (harness.sandboxes[1].workspace / "f").read_text() == "1\n"
        await post(harness, session, "unrevert")
        assert len(await messages(harness, session)) == 4


async def test_a_failed_fork_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        await run(harness, session)

        async def full(self: FakeTree, *arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(FakeTree, "put", full)
        response = await harness.http.post(f"/session/{session.id}/fork")
        assert (response.status_code, response.json()["name"]) == (507, "NoSpaceError")
        assert [s.id for s in harness.engine.sessions] == [session.id]
        for name in ("sessions", "snapshots"):
            assert [p.name for p in (tmp_path / name).iterdir()] == [session.id]


async def test_what_can_not_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the reading breaks in the middle; what vanishes meanwhile is not missed."""
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        await run(harness, session)
        folder = harness.sandboxes[0].workspace
        (folder / ".local").mkdir()
        for name, code in (("broken", 5), ("closed", 13), ("gone", 2), ("good", 0)):
            (folder / ".local" / name).write_text(str(code))

        async def read(self: FakeTree, path: str) -> AsyncIterator[bytes]:
            code = int((folder / path).read_text())
            yield b"first"
            if code:
                raise OSError(code, "it broke")

        monkeypatch.setattr(FakeTree, "read", read)
        answer = await post(harness, session, "fork")
        assert answer["skipped"] == [
            {"path": ".local/broken", "reason": "it can't be read: it broke"},
            {"path": ".local/closed", "reason": "it can't be read: it broke"},
        ]
        target = harness.sandboxes[1].workspace
        assert sorted(path.name for path in (target / ".local").iterdir()) == ["good"]
        assert (target / "f").read_text() == "1\n"


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        await run(harness, session)
        copy = await fork(harness, session)
        expected = await messages(harness, copy)
    async with engine_in(tmp_path, [say("again")]) as harness:
        again = harness.engine.sessions.get(copy.id)
        assert await messages(harness, again) == expected
        await run(harness, again)
        assert prompts_seen(harness) == ["prompt 0", "prompt 0"]
