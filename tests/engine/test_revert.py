"""Revert, unrevert and diff over HTTP: messages, todos, the model's memory and files."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_harness import call, engine_in, fail, hang, say
from tests.support.fake_sandbox import FakeSandbox
from tests.support.fake_tree import FakeTree
from tests.support.past import (
    CHANGES,
    allowed,
    furnish,
    messages,
    post,
    preview,
    prompts_seen,
    revert,
    run,
    sh,
    turns,
    workspace,
)
from tests.support.workspaces import contents


async def test_everything_comes_back_and_goes_again(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns(CHANGES, "rm no*text; rm -r repo kept")) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        furnish(root)
        before, mtime = contents(root), (root / "gone").stat().st_mtime_ns
        first, _ = await run(harness, session, 2)
        after = contents(root)
        assert before != after
        done = await revert(harness, session, first)
        assert contents(root) == before
        assert (root / "gone").stat().st_mtime_ns == mtime
        assert (done.message_id, done.messages, done.skipped) == (first, 4, ())
        found = {f.path: f.status for f in done.files}
        assert found["changed"] == "modified" and found["gone"] == "added"
        assert found["other"] == "deleted" and found["empty2/"] == "deleted"
        assert found["no\udcfftext"] == "added" and "old/empty/" in found and "old/" not in found
        patch = next(f.patch for f in done.files if f.path == "changed")
        assert "-new\n+old\n" in patch
        assert session.to_json()["revert"]["messageID"] == first
        await post(harness, session, "unrevert")
        assert contents(root) == after
        assert "revert" not in session.to_json()
        await post(harness, session, "unrevert")  # nothing to bring back
        assert contents(root) == after


async def test_messages_todos_and_memory(tmp_path: Path) -> None:
    steps = [
        call(("todowrite", {"todos": [{"content": "first"}]})),
        say("one"),
        call(("todowrite", {"todos": [{"content": "second"}]})),
        say("two"),
        say("three"),
        say("four"),
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 3)
        everything, todos = await messages(harness, session), list(session.todos)
        used = session.usage.context_used
        answer = everything[3]["info"]["id"]
        assert everything[3]["info"]["parentID"] == ids[1]
        done = await revert(harness, session, answer)  # an answer means its prompt
        assert (done.message_id, done.messages, done.files) == (ids[1], 4, ())
        assert await messages(harness, session) == everything[:2]
        assert [t["content"] for t in session.todos] == ["first"]
        await harness.recorder.wait("todo.updated", 3)
        path = f"/session/{session.id}"
        assert (await harness.http.get(f"{path}/message/{answer}")).status_code == 404
        assert (await harness.http.get(f"{path}/metrics")).json()["messages"] == 2
        assert harness.recorder.of("message.removed") == []
        await post(harness, session, "unrevert")
        assert await messages(harness, session) == everything
        assert (session.todos, session.usage.context_used) == (todos, used)
        assert session.usage.messages == 6
        await revert(harness, session, ids[1])
        await run(harness, session)
        assert prompts_seen(harness) == ["prompt 0", "prompt 0"]
        assert len(await messages(harness, session)) == 4
        removed = [e["properties"]["messageID"] for e in harness.recorder.of("message.removed")]
        assert removed == [m["info"]["id"] for m in everything[2:]]
        assert "revert" not in session.to_json() and session.usage.messages == 4
        await post(harness, session, "unrevert")  # sealed by the prompt
        assert len(await messages(harness, session)) == 4
        rows = harness.engine.store.query("SELECT count(*) FROM part WHERE session_id LIKE 'rev%'")
        assert rows == [(0,)]


async def test_the_first_message(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        await revert(harness, session, first)
        assert await messages(harness, session) == [] and contents(workspace(harness)) == {}
        await run(harness, session)
        assert prompts_seen(harness) == ["prompt 0"]


async def test_preview_changes_nothing(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f; mkdir d", "echo 2 > f")) as harness:
        session = await allowed(harness)
        first, second = await run(harness, session, 2)
        root = workspace(harness)
        (root / "d/mine").write_text("mine")
        before, everything = contents(root), await messages(harness, session)
        events = len(harness.recorder.events)
        shown = await preview(harness, session, first)
        assert (shown.messages, shown.conflicts) == (4, ())
        assert [(f.path, f.status) for f in shown.files] == [("f", "deleted")]  # d is in use
        assert [f.patch for f in (await preview(harness, session, second)).files] == [
            "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-2\n+1\n"
        ]
        (root / "f").write_text("changed")
        assert (await preview(harness, session, second)).conflicts == ("f",)
        (root / "f").write_text("2\n")
        assert contents(root) == before and await messages(harness, session) == everything
        assert len(harness.recorder.events) == events and session.revert is None


async def test_conflicts(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f; echo 1 > g; echo 1 > h")) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        root = workspace(harness)
        path = f"/session/{session.id}"
        await harness.http.put(f"{path}/fs?path=f", content=b"mine")
        await harness.http.delete(f"{path}/fs?path=g")
        await harness.http.post(f"{path}/exec", json={"command": "echo 2 > new"})
        before = contents(root)
        response = await harness.http.post(f"{path}/revert", json={"messageID": first})
        assert response.status_code == 409
        error = response.json()
        assert error["name"] == "RevertConflictError" and error["data"]["paths"] == ["f"]
        assert contents(root) == before and len(await messages(harness, session)) == 2
        await harness.http.put(f"{path}/fs?path=f", content=b"1\n")
        await revert(harness, session, first)
        assert contents(root) == {b"new": ("file", 0o644, b"2\n")}
        # What comes back must not overwrite anything either.
        (root / "h").write_text("mine")
        response = await harness.http.post(f"{path}/unrevert")
        assert response.status_code == 409 and response.json()["data"]["paths"] == ["h"]
        assert (root / "h").read_text() == "mine" and await messages(harness, session) == []
        (root / "h").unlink()
        await post(harness, session, "unrevert")
        assert (root / "h").read_text() == "1\n"


async def test_files_written_in_mid_turn_are_not_the_turns(tmp_path: Path) -> None:
    steps = [sh("echo 1 > f"), hang("thinking")]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        message_id = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta", delta="thinking")
        await harness.http.put(f"/session/{session.id}/fs?path=/workspace/mine", content=b"x")
        await post(harness, session, "abort")
        await harness.recorder.wait("turn.ended", messageID=message_id)
        assert (await preview(harness, session, message_id)).conflicts == ("mine",)


async def test_mistakes(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [sh("sleep 60")]) as harness:
        session = await allowed(harness)
        path = f"/session/{session.id}"
        for action in ("revert", "revert?preview=1", "fork"):
            response = await harness.http.post(f"{path}/{action}", json={"messageID": "msg_no"})
            assert (response.status_code, response.json()["name"]) == (404, "MessageNotFoundError")
        response = await harness.http.get(f"{path}/diff?messageID=msg_no")
        assert (response.status_code, response.json()["name"]) == (404, "MessageNotFoundError")
        for body in ({}, {"messageID": 1}, {"messageID": "msg_1", "partID": "prt_1"}):
            assert (await harness.http.post(f"{path}/revert", json=body)).status_code == 400
        for action in ("revert", "unrevert", "fork"):
            response = await harness.http.post(f"/session/ses_no/{action}", json={"messageID": "m"})
            assert response.status_code == 404
        message_id = await harness.prompt(session)
        await harness.recorder.wait("turn.started")
        for action in ("revert", "unrevert", "fork"):
            response = await harness.http.post(f"{path}/{action}", json={"messageID": message_id})
            assert (response.status_code, response.json()["name"]) == (409, "SessionBusyError")


async def test_no_turn_while_a_revert_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        entered, go_on = asyncio.Event(), asyncio.Event()
        change = FakeTree.change

        async def slow(self: FakeTree, steps: Any) -> None:
            entered.set()
            await go_on.wait()
            await change(self, steps)

        monkeypatch.setattr(FakeTree, "change", slow)
        task = asyncio.create_task(revert(harness, session, first))
        await entered.wait()
        body = {"parts": [{"type": "text", "text": "go"}], "messageID": first}
        for action in ("prompt_async", "revert", "unrevert", "fork"):
            body["messageID"] = "msg_other" if action == "prompt_async" else first
            response = await harness.http.post(f"/session/{session.id}/{action}", json=body)
            assert (response.status_code, response.json()["name"]) == (409, "SessionBusyError")
        go_on.set()
        await task
        assert contents(workspace(harness)) == {}


async def test_further_back_and_forward_again(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f", "echo 2 > f", "echo 3 > g")) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 3)
        root = workspace(harness)
        after, everything = contents(root), await messages(harness, session)
        await revert(harness, session, ids[2])
        assert set(contents(root)) == {b"f"}
        await revert(harness, session, ids[0])
        assert contents(root) == {} and await messages(harness, session) == []
        await revert(harness, session, ids[1])
        assert (root / "f").read_text() == "1\n"
        assert await messages(harness, session) == everything[:2]
        await post(harness, session, "unrevert")
        assert contents(root) == after and await messages(harness, session) == everything


async def test_what_a_sub_agent_did_belongs_to_the_turn_that_waits(tmp_path: Path) -> None:
    task = call(("task", {"description": "d", "prompt": "p", "subagent_type": "general"}))
    steps = [task, sh("echo 1 > f"), say("child"), say("parent"), hang("so")]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        (child,) = harness.engine.sessions.children(session.id)
        assert (workspace(harness) / "f").exists()
        (prompt, _) = await messages(harness, child)
        shown = await preview(harness, child, prompt["info"]["id"])
        assert shown.files == () and "sub-agent" in shown.skipped[0].reason
        await harness.prompt(child)
        await harness.recorder.wait("message.part.delta", delta="so")
        path = f"/session/{session.id}/revert"
        assert (await harness.http.post(path, json={"messageID": first})).status_code == 409
        await post(harness, child, "abort")
        done = await revert(harness, session, first)
        assert [f.path for f in done.files] == ["f"] and contents(workspace(harness)) == {}


async def test_a_summary_is_taken_back(tmp_path: Path) -> None:
    steps = [say("one"), say("SUMMARY"), say("two"), say("three")]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        await run(harness, session)
        before = await messages(harness, session)
        model = {"providerID": "fake", "modelID": "main"}
        await post(harness, session, "summarize", **model)
        summary = (await messages(harness, session))[len(before) :]
        await revert(harness, session, summary[-1]["info"]["id"])
        assert await messages(harness, session) == before
        await run(harness, session)  # the model sees the conversation again
        assert prompts_seen(harness) == ["prompt 0", "prompt 0"]
        ids = [m["info"]["id"] for m in await messages(harness, session)]
        await revert(harness, session, ids[-1])
        await post(harness, session, "summarize", **model)  # seals, as a prompt does
        assert "revert" not in session.to_json()
        await post(harness, session, "unrevert")
        assert ids[-1] not in [m["info"]["id"] for m in await messages(harness, session)]


async def test_diff(tmp_path: Path) -> None:
    commands = turns("printf 'a\\nb\\n' > f; echo 1 > g", "rm g; printf 'a\\nc\\n' > f")
    async with engine_in(tmp_path, [*commands, say("just talk")]) as harness:
        session = await allowed(harness)
        (workspace(harness) / "mine").write_text("mine")
        first, second, third = await run(harness, session, 3)
        path = f"/session/{session.id}/diff"

        async def diff(message_id: str = "") -> list[dict[str, Any]]:
            response = await harness.http.get(f"{path}?messageID={message_id}")
            assert response.status_code == 200
            return list(response.json())

        assert [(d["file"], d["status"], d["additions"]) for d in await diff(first)] == [
            ("f", "added", 2),
            ("g", "added", 1),
        ]
        changed, deleted = await diff(second)
        assert changed == {
            "file": "f",
            "patch": "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n",
            "additions": 1,
            "deletions": 1,
            "status": "modified",
        }
        assert (deleted["file"], deleted["status"], deleted["deletions"]) == ("g", "deleted", 1)
        assert await diff(third) == []
        assert [(d["file"], d["additions"]) for d in await diff()] == [("f", 2)]
        await revert(harness, session, second)
        assert [d["file"] for d in await diff()] == ["f", "g"]


async def test_a_turn_costs_snapshots_only_where_files_may_change(tmp_path: Path) -> None:
    steps = [say("hello"), call(("read", {"filePath": "x"})), say("b"), *turns("echo 1 > x")]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        await run(harness, session, 2)
        assert harness.sandboxes[0].tree.scans == 0
        await run(harness, session)
        assert harness.sandboxes[0].tree.scans == 2


async def test_a_turn_without_a_snapshot_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_many(self: FakeTree, **options: Any) -> list[Any]:
        raise OSError(7, "too many files")

    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        with monkeypatch.context() as patch:
            patch.setattr(FakeTree, "scan", too_many)
            (first,) = await run(harness, session)
        done = await revert(harness, session, first)
        assert [s.path for s in done.skipped] == ["."] and "100000" in done.skipped[0].reason
        assert await messages(harness, session) == []
        assert (workspace(harness) / "f").exists()


async def test_a_killed_turn_has_no_second_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, second = FakeTree.scan, asyncio.Event()

    async def stuck(self: FakeTree, **options: Any) -> list[Any]:
        if self.scans == 1:
            second.set()
            await asyncio.Event().wait()
        return await scan(self, **options)

    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        with monkeypatch.context() as patch:
            patch.setattr(FakeTree, "scan", stuck)
            message_id = await harness.prompt(session)
            await second.wait()
            assert session.turn is not None
            await session.turn.kill()
        await harness.recorder.wait("turn.ended", messageID=message_id)
    async with engine_in(tmp_path) as harness:  # nor gets it one from a later start
        again = harness.engine.sessions.get(session.id)
        done = await revert(harness, again, message_id)
        assert [s.path for s in done.skipped] == ["."] and done.messages == 2


async def test_an_aborted_and_a_failed_turn_are_taken_back(tmp_path: Path) -> None:
    steps = [sh("echo 1 > f"), fail(RuntimeError("no")), sh("echo 2 > f"), hang("so")]
    async with engine_in(tmp_path, steps) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        message_id = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta", delta="so")
        await post(harness, session, "abort")
        await revert(harness, session, message_id)
        assert (workspace(harness) / "f").read_text() == "1\n"
        await revert(harness, session, first)
        assert contents(workspace(harness)) == {}


# -- when something goes wrong


async def test_a_failure_half_way_is_undone(tmp_path: Path) -> None:
    command = "for i in 1 2 3 4 5; do echo 2 > $i; done"
    async with engine_in(tmp_path, turns(command)) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        for i in range(5):
            (root / str(i)).write_text("1")
        (first,) = await run(harness, session)
        before = contents(root)
        harness.sandboxes[0].tree.fail_at = 2
        response = await harness.http.post(
            f"/session/{session.id}/revert", json={"messageID": first}
        )
        assert response.status_code == 507, response.text
        assert contents(root) == before and len(await messages(harness, session)) == 2
        assert session.revert is None
        await revert(harness, session, first)
        assert sorted(contents(root)) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("action", ["revert", "unrevert"])
@pytest.mark.parametrize("puts", [0, 2])
async def test_a_crash_half_way_is_finished_at_the_next_start(
    tmp_path: Path, action: str, puts: int
) -> None:
    command = "for i in 1 2 3 4 5; do echo 2 > $i; done; echo x > new"
    living, copy = tmp_path / "living", tmp_path / "copy"
    living.mkdir()
    async with engine_in(living, turns(command)) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        for i in range(1, 6):
            (root / str(i)).write_text("1")
        old = contents(root)
        (first,) = await run(harness, session)
        new, everything = contents(root), await messages(harness, session)
        if action == "unrevert":
            await revert(harness, session, first)
        entered = asyncio.Event()
        tree = harness.sandboxes[0].tree
        put, count = tree.put, 0

        async def stuck(*arguments: Any, **options: Any) -> None:
            nonlocal count
            count += 1
            if count > puts:
                entered.set()
                await asyncio.Event().wait()
            await put(*arguments, **options)

        tree.put = stuck  # type: ignore[method-assign]
        task = asyncio.create_task(post(harness, session, action, messageID=first))
        await entered.wait()
        shutil.copytree(living, copy, symlinks=True)  # what a crash would leave
        task.cancel()
        await asyncio.wait([task])
    async with engine_in(copy) as harness:
        again = harness.engine.sessions.get(session.id)
        root = harness.sandboxes[0].workspace
        assert contents(root) == (old if action == "revert" else new)
        assert (again.revert is None) == (action == "unrevert")
        assert await messages(harness, again) == ([] if action == "revert" else everything)
        await post(harness, again, "unrevert")
        assert contents(root) == new and await messages(harness, again) == everything


async def test_unfinished_where_no_container_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine starts all the same, and finishes it before the next prompt."""
    async with engine_in(tmp_path, turns("echo 1 > f; echo 2 > g")) as harness:
        session = await allowed(harness)
        (workspace(harness) / "f").write_text("0")
        (first,) = await run(harness, session)
        tree = harness.sandboxes[0].tree

        async def gone(*arguments: Any, **options: Any) -> None:
            raise OSError(5, "gone")

        tree.put = gone  # type: ignore[method-assign]
        path = f"/session/{session.id}/revert"
        response = await harness.http.post(path, json={"messageID": first})
        assert response.status_code >= 400
    monkeypatch.setattr(FakeSandbox, "unavailable", "No container today.")
    async with engine_in(tmp_path, [say("hello")]) as harness:
        again = harness.engine.sessions.get(session.id)
        body = {"parts": [{"type": "text", "text": "go"}]}
        response = await harness.http.post(f"/session/{again.id}/prompt_async", json=body)
        assert response.status_code == 503
        assert len(await messages(harness, again)) == 2
        monkeypatch.setattr(FakeSandbox, "unavailable", None)
        await run(harness, again)
        assert contents(workspace(harness)) == {b"f": ("file", 0o644, b"0")}
        assert len(await messages(harness, again)) == 2


async def test_a_turn_that_a_crash_cut_is_taken_back(tmp_path: Path) -> None:
    living, copy = tmp_path / "living", tmp_path / "copy"
    living.mkdir()
    async with engine_in(living, [sh("echo 1 > f"), hang("so")]) as harness:
        session = await allowed(harness)
        message_id = await harness.prompt(session)
        await harness.recorder.wait("message.part.delta", delta="so")
        await harness.engine.store.flushed()
        shutil.copytree(living, copy)
    async with engine_in(copy) as harness:
        again = harness.engine.sessions.get(session.id)
        done = await revert(harness, again, message_id)
        assert [f.path for f in done.files] == ["f"] and done.skipped == ()
        assert contents(workspace(harness)) == {}


async def test_snapshots_go_with_what_needs_them(tmp_path: Path) -> None:
    commands = turns("echo first > f", "head -c 5000 /dev/zero > big", "echo 3 > f")
    async with engine_in(tmp_path, commands) as harness:
        session = await allowed(harness)
        ids = await run(harness, session, 2)
        objects = tmp_path / "snapshots" / session.id / "objects"

        def sizes() -> set[int]:
            return {p.stat().st_size for p in objects.glob("*/*")}

        assert sizes() == {6, 5000}
        await revert(harness, session, ids[1])
        await run(harness, session)
        assert sizes() == {6, 2}
        assert (tmp_path / "snapshots").stat().st_mode & 0o777 == 0o700
        await harness.http.delete(f"/session/{session.id}")
        assert not objects.exists()
        rows = harness.engine.store.query("SELECT count(*) FROM checkpoint")
        assert rows == [(0,)]
    unknown = tmp_path / "snapshots/ses_gone"
    unknown.mkdir()
    async with engine_in(tmp_path):  # only what a record says was ended may go
        assert list((tmp_path / "snapshots").iterdir()) == [unknown]


async def test_a_reverted_session_can_be_deleted(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        await revert(harness, session, first)
        assert (await harness.http.delete(f"/session/{session.id}")).status_code == 200
        for table in ("message", "part", "turn", "checkpoint", "revert"):
            assert harness.engine.store.query(f"SELECT * FROM {table}") == []


async def test_rows_survive_a_restart(tmp_path: Path) -> None:
    async with engine_in(tmp_path, turns("echo 1 > f")) as harness:
        session = await allowed(harness)
        (first,) = await run(harness, session)
        everything = await messages(harness, session)
        await revert(harness, session, first)
    async with engine_in(tmp_path) as harness:
        again = harness.engine.sessions.get(session.id)
        assert again.to_json()["revert"]["messageID"] == first
        await post(harness, again, "unrevert")
        assert await messages(harness, again) == everything
        assert (workspace(harness) / "f").read_text() == "1\n"
