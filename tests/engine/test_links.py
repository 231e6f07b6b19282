"""Hard links: what are names of one file comes back as names of one file."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from agent_magics.engine._links import joined, relinked
from agent_magics.engine._plan import Change, Entry, changes, overlay, plan
from agent_magics.engine._restore import steps
from agent_magics.engine._snapshots import Snapshots
from agent_magics.sandbox._agent import trees
from agent_magics.sandbox._frames import ProtocolError
from agent_magics.sandbox._workspace import _row
from tests.support.engine_harness import engine_in
from tests.support.fake_sandbox import FakeSandbox
from tests.support.past import allowed, post, preview, revert, run, turns, workspace
from tests.support.workspaces import contents, names_of_files

ID = "ses_1"
FURNISH = """
printf 'one\n' > a; mkdir d e; ln a d/b; ln a e/c; printf 'two\n' > x; ln x y; printf same > s
printf same > t; chmod 600 t; printf same > u; ln -s a to_a; printf alone > z
"""


def shell(command: str, folder: Path) -> None:
    subprocess.run(["sh", "-ec", command], cwd=folder, check=True)


class Place:
    """A workspace and its snapshots."""

    def __init__(self, tmp_path: Path) -> None:
        self.sandbox = FakeSandbox(tmp_path / "session")
        self.root = self.sandbox.workspace
        self.root.mkdir(parents=True)
        self.snapshots = Snapshots(tmp_path / "snapshots")

    def run(self, command: str) -> None:
        shell(command, self.root)

    def seen(self) -> object:
        return contents(self.root), names_of_files(self.root)

    async def take(self) -> dict[str, Entry]:
        return dict(await self.snapshots.tree(ID, await self.snapshots.take(ID, self.sandbox)))

    async def undo(self, *done: Change) -> None:
        now = await self.take()
        undo = plan(done, now)
        assert undo.conflicts == [] and undo.skipped == {}
        goal = overlay(now, undo.wanted)
        await self.snapshots.restore(ID, self.sandbox, now, goal, changes(now, goal))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "echo changed > a",  # all its names
        "rm a",
        "rm a d/b e/c; rmdir d",
        "rm x; echo other > x",  # the link is broken, the other name stays
        "cp a n; mv n a",  # broken, and the content is the same
        "cp d/b n; mv n d/b; cp e/c n; mv n e/c",
        "ln a new; ln z zz",
        "ln -f s u",  # linked, and the content is the same
        "ln -f t s",  # ... and the mode is not
        "ln -f x a",
        "ln -f x a; ln -f x d/b; rm y",
        "chmod 700 a",
        "chmod 700 a; cp a n; mv n a; chmod 711 a",
        "rm a; mkdir a; ln x a/inside; ln -f e/c y",
        "rm -r d; ln -s e d",
        "mv a d/moved; mv d f",
        "chmod 500 d; rm e/c; chmod 100 e",
    ],
)
async def test_there_and_back(place: Place, command: str) -> None:
    place.run(FURNISH)
    before, files = await place.take(), place.seen()
    place.run(command)
    after, changed = await place.take(), place.seen()
    assert files != changed and changes(before, after)
    await place.undo(Change(before, after))
    assert place.seen() == files
    assert changes(before, await place.take()) == {}
    await place.undo(Change(after, before))
    assert place.seen() == changed


async def test_several_turns_break_one_file_apart(place: Place) -> None:
    place.run(FURNISH)
    files, found = place.seen(), [await place.take()]
    for command in ("cp a n; mv n a", "echo other > n; mv n d/b", "rm e/c; ln x e/c"):
        place.run(command)
        found.append(await place.take())
    await place.undo(*(Change(*pair) for pair in itertools.pairwise(found)))
    assert place.seen() == files


async def test_names_that_others_made_stay(place: Place) -> None:
    place.run(FURNISH)
    before = await place.take()
    place.run("rm a; echo new > a")
    after = await place.take()
    place.run("ln e/c mine; ln z also_mine; rm y")
    await place.undo(Change(before, after))
    assert names_of_files(place.root) == {
        frozenset({"a", "d/b", "e/c", "mine"}),
        frozenset({"z", "also_mine"}),
    }


async def test_half_done(place: Place) -> None:
    """As after a crash: some of it is done, and what is done is done once more."""
    place.run(FURNISH)
    before, files = await place.take(), place.seen()
    place.run("rm a d/b e/c x; echo new > a")
    start = await place.take()
    place.run("rm a; echo one > a; echo one > d/b")
    now = await place.take()
    paths = changes(start, before).keys() & changes(now, before).keys()
    await place.snapshots.restore(ID, place.sandbox, now, before, paths)
    assert place.seen() == files
    todo = steps(start, before, changes(start, before))
    again = [{"do": "name", "path": p, "source": s} for p, s in todo.names.items()]
    assert again
    await place.sandbox.tree.change([*again, *again])
    assert place.seen() == files  # and no temporary name is left


async def test_where_names_cannot_be_given(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    place.run(FURNISH)
    before, files = await place.take(), contents(place.root)
    place.run("rm a d/b e/c")
    monkeypatch.setattr(os, "link", refused)
    await place.undo(Change(before, await place.take()))
    assert contents(place.root) == files


def test_nothing_outside_gets_a_name(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "out").symlink_to(tmp_path)
    for source in ("../secret", "link", "out/secret", "/secret", "d", "missing", "d/../link", ""):
        with pytest.raises(OSError):
            list(trees.change(str(root), [{"do": "name", "path": "d/f", "source": source}]))
    assert list((root / "d").iterdir()) == []
    assert (tmp_path / "secret").stat().st_nlink == 1


@pytest.mark.parametrize("target", ["../f", "/etc/passwd", "", "a/../b", 7, ["f"]])
@pytest.mark.parametrize("kind", ["file", "directory", "other"])
def test_names_that_a_container_must_not_tell(kind: str, target: object) -> None:
    with pytest.raises(ProtocolError):
        _row(["f", kind, 0o644, 1, 1, 1, 1, target])


async def test_what_a_container_tells_of_names_is_checked(place: Place) -> None:
    """Names of one file that have different contents are none."""
    place.run("echo 1 > a; echo 2 > b; echo 1 > c")
    rows = await place.sandbox.tree.scan()
    lies = [row if row.path == "a" else _row([*_values(row), "a"]) for row in rows]
    lies.append(_row(["d", "file", 0o644, 1, 1, 1, 1, "nowhere"]))

    async def scan(**options: object) -> object:
        return lies

    place.sandbox.tree.scan = scan  # type: ignore[method-assign, assignment]
    tree = await place.take()
    assert {path: entry.twin for path, entry in tree.items()} == {"a": "a", "b": "", "c": "a"}


def _values(row: object) -> list[object]:
    names = ("path", "kind", "mode", "size", "mtime", "ctime", "inode")
    return [getattr(row, name) for name in names]


def test_many_names_are_no_work() -> None:
    """Work that grows with the square of this would not end."""
    one = Entry("file", 0o644, "k", 1, 1, 1, 1, "0")
    before = {str(i): one for i in range(60_000)}
    after = {**before, **{str(i): one._replace(twin="") for i in range(30_000)}}
    assert len(relinked(before, after)) == 60_000
    wanted = joined({"0": one, "7": one}, {"0": before, "7": before}, after)
    assert len(wanted) == 60_000
    todo = steps(after, overlay(after, wanted), before)
    assert len(todo.names) == 59_999 and todo.contents == {}


async def test_a_revert_and_back(tmp_path: Path) -> None:
    commands = ("cp a n; mv n a", "echo new > d/b", "rm -r d; ln x w")
    async with engine_in(tmp_path, turns(*commands)) as harness:
        session = await allowed(harness)
        root = workspace(harness)
        shell(FURNISH, root)
        seen, ids = [(contents(root), names_of_files(root))], []
        for _ in commands:
            ids += await run(harness, session)
            seen.append((contents(root), names_of_files(root)))
        assert {f.path for f in (await preview(harness, session, ids[0])).files} == {
            *("d/b", "e/c", "w")  # `a` has the same content
        }
        for index in (2, 0, 1):
            await revert(harness, session, ids[index])
            assert (contents(root), names_of_files(root)) == seen[index]
        await post(harness, session, "unrevert")
        assert (contents(root), names_of_files(root)) == seen[-1]
        copy = await post(harness, session, "fork")
        assert names_of_files(harness.sandboxes[1].workspace) == names_of_files(root), copy
