"""Others at work while a revert runs: nothing of theirs is overwritten, nothing of ours is left."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine._blobs import BlobStore
from agent_magics.engine._plan import Entry
from agent_magics.sandbox._agent import trees
from tests.support.engine_harness import Harness, engine_in, say
from tests.support.fake_tree import FakeTree
from tests.support.past import allowed, messages, post, revert, run, turns, workspace
from tests.support.workspaces import contents


async def ask(harness: Harness, session_id: str, action: str, **body: Any) -> tuple[int, Any]:
    response = await harness.http.post(f"/session/{session_id}/{action}", json=body)
    return response.status_code, response.json()


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object], puts: int = 0) -> None:
    """Let `do` happen once, when the files are being moved and so many are written."""
    put, count = FakeTree.put, 0

    async def put_after(self: FakeTree, *arguments: Any, **options: Any) -> None:
        nonlocal count
        if count == puts:
            do()
        count += 1
        await put(self, *arguments, **options)

    monkeypatch.setattr(FakeTree, "put", put_after)


@pytest.mark.parametrize(
    "theirs",
    [
        lambda root: (root / "2").write_text("mine"),
        lambda root: ((root / "2").unlink(), (root / "2").write_text("b")),  # same size
        lambda root: (root / "gone").write_text("mine"),
        lambda root: ((root / "2").unlink(), (root / "2").symlink_to("/etc/passwd")),
    ],
)
async def test_what_is_written_in_this_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: Callable[[Path], object]
) -> None:
    async with engine_in(tmp_path, turns("echo 1 > 1; echo 2 > 2; echo 3 > 3; rm gone")) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        for name in ("1", "2", "3", "gone"):
            (root / name).write_text("old")
        (first,) = await run(harness, session)
        everything = await messages(harness, session)
        expected: dict[bytes, Any] = {}

        def change() -> None:
            theirs(root)
            expected.update(contents(root))

        with monkeypatch.context() as patch:
            meanwhile(patch, change)
            status, error = await ask(harness, session.id, "revert", messageID=first)
        assert (status, error["name"]) == (409, "RevertConflictError")
        assert error["data"]["paths"] in (["2"], ["gone"])
        assert contents(root) == expected
        assert await messages(harness, session) == everything and session.revert is None
        status, error = await ask(harness, session.id, "revert", messageID=first)
        assert status == 409 and contents(root) == expected  # it is still somebody else's


async def test_what_is_removed_in_this_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file of the turn is not removed once somebody has written to it."""
    async with engine_in(tmp_path, turns("echo 1 > new; ln -s new link")) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        (first,) = await run(harness, session)
        change = FakeTree.change

        async def changed_before(self: FakeTree, steps: Any) -> None:
            (root / "new").write_text("mine")
            monkeypatch.setattr(FakeTree, "change", change)
            await change(self, steps)

        monkeypatch.setattr(FakeTree, "change", changed_before)
        status, error = await ask(harness, session.id, "revert", messageID=first)
        assert (status, error["data"]["paths"]) == (409, ["new"])
        assert (root / "new").read_text() == "mine" and (root / "link").is_symlink()


async def test_a_session_that_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its container nor its snapshots come back to life."""
    async with engine_in(tmp_path, turns("echo 1 > f; echo 2 > g")) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        for name in "fg":
            (root / name).write_text("old")
        (first,) = await run(harness, session)
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def stuck(self: FakeTree, *arguments: Any, **options: Any) -> None:
            entered.set()
            await go_on.wait()
            raise OSError(2, "No such file or directory")

        monkeypatch.setattr(FakeTree, "put", stuck)
        task = asyncio.create_task(ask(harness, session.id, "revert", messageID=first))
        await entered.wait()
        assert (await harness.http.delete(f"/session/{session.id}")).status_code == 200
        go_on.set()
        status, _ = await task
        assert 400 <= status < 500
        assert len(harness.sandboxes) == 1 and not root.exists()
        assert list((tmp_path / "snapshots").iterdir()) == []
        assert harness.engine.store.query("SELECT count(*) FROM revert") == [(0,)]


async def test_after_a_crash_what_others_wrote_since_stays(tmp_path: Path) -> None:
    living, copy = tmp_path / "living", tmp_path / "copy"
    living.mkdir()
    async with engine_in(living, turns("for i in 1 2 3; do echo new > $i; done")) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        for name in ("1", "2", "3"):
            (root / name).write_text("old")
        (first,) = await run(harness, session)
        entered = asyncio.Event()

        async def stuck(*arguments: Any, **options: Any) -> None:
            entered.set()
            await asyncio.Event().wait()

        harness.sandboxes[0].tree.put = stuck  # type: ignore[method-assign]
        task = asyncio.create_task(ask(harness, session.id, "revert", messageID=first))
        await entered.wait()
        shutil.copytree(living, copy, symlinks=True)
        task.cancel()
        await asyncio.wait([task])
    left = copy / root.relative_to(living)
    (left / "2").write_text("mine")
    (left / ".0123456789abcdef01.tmp").write_text("half a file")
    (left / ".mine.tmp").write_text("x")
    async with engine_in(copy):
        found = {path.name: path.read_text() for path in left.iterdir()}
        assert found == {"1": "old", "2": "mine", "3": "old", ".mine.tmp": "x"}


@pytest.mark.parametrize("damage", [b"", b"half"])
async def test_damaged_snapshots(tmp_path: Path, damage: bytes) -> None:
    """As after a power failure: told, not restored, and the engine starts and works on."""
    async with engine_in(tmp_path, turns("echo 1 > f", "echo 2 > f")) as harness:
        session = await allowed(harness)
        (workspace(harness) / "f").write_text("old")
        first, second = await run(harness, session, 2)
        store = tmp_path / "snapshots" / session.id
        old = next(p for p in (store / "objects").rglob("*") if p.is_file() and _is(p, b"old"))
        old.write_bytes(damage)
        assert (await ask(harness, session.id, "revert", messageID=first))[0] == 400
        assert (workspace(harness) / "f").read_text() == "2\n"
        await revert(harness, session, second)
        await post(harness, session, "unrevert")
        for path in (store / "trees").iterdir():
            path.write_bytes(damage)
        for action in ("revert", "revert?preview=1"):
            status, error = await ask(harness, session.id, action, messageID=first)
            assert (status, error["data"]["message"]) == (400, "the snapshot is damaged")
        answer = await harness.http.get(f"/session/{session.id}/diff")
        assert answer.status_code == 400
    async with engine_in(tmp_path, turns("echo 3 > f")) as harness:
        (third,) = await run(harness, harness.engine.sessions.get(session.id))
        await revert(harness, session, third)
        assert (workspace(harness) / "f").read_text() == "2\n"


def _is(path: Path, content: bytes) -> bool:
    return path.read_bytes() == content


def test_a_damaged_content_is_stored_anew(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    key = store.put(b"content")
    path = next(p for p in (tmp_path / "objects").rglob("*") if p.is_file())
    path.write_bytes(b"")
    with pytest.raises(OSError, match="damaged"):
        list(store.chunks(key))
    assert store.put(b"content") == key and list(store.chunks(key)) == [b"content"]
    tree = store.put_tree({"f": Entry("file", 0o644, key, 7, 1, 1, 1)}, last=True)
    (tmp_path / "trees" / tree).write_bytes(b"x")
    assert store.last() == ("", {})
    store.collect([])


def test_what_may_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one")
    found = os.lstat(file)
    facts = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    wrong = [[], [*facts[:3], 1], [4, *facts[1:]], [*facts[:2], 1, facts[3]]]
    for expect in wrong:
        for step in ({"do": "remove"}, {"do": "link", "target": "x"}):
            with pytest.raises(OSError, match="somebody else has changed it: f"):
                list(trees.change(str(tmp_path), [{**step, "path": "f", "expect": expect}]))
        writing = trees.Restoring(str(tmp_path), "f", 0o600, None, expect)
        with pytest.raises(OSError, match="somebody else"):
            writing.finish()
        writing.abandon()
    assert file.read_text() == "one" and os.listdir(tmp_path) == ["f"]
    trees.Restoring(str(tmp_path), "f", 0o600, None, [*facts[:2], 0, facts[3]]).finish()
    assert file.read_text() == ""
    step = {"do": "remove", "path": "gone", "expect": facts}
    list(trees.change(str(tmp_path), [step]))  # then nothing is overwritten


async def test_a_fork_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_in(tmp_path, [*turns("echo 1 > f"), say("x")]) as harness:
        session = await allowed(harness)
        await run(harness, session)
        entered, go_on = asyncio.Event(), asyncio.Event()
        put = FakeTree.put

        async def slow(self: FakeTree, *arguments: Any, **options: Any) -> None:
            entered.set()
            await go_on.wait()
            await put(self, *arguments, **options)

        monkeypatch.setattr(FakeTree, "put", slow)
        task = asyncio.create_task(post(harness, session, "fork"))
        await entered.wait()
        body = {"parts": [{"type": "text", "text": "go"}]}
        status, error = await ask(harness, session.id, "prompt_async", **body)
        assert status == 409 and "busy with a fork" in error["data"]["message"]
        go_on.set()
        await task
