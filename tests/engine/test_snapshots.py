"""Snapshots of real containers: what hostile code leaves there, exactness, and how much is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_magics.engine._blobs import BlobStore
from agent_magics.engine._plan import Entry, Tree, changes
from agent_magics.engine._snapshots import SnapshotLimits, Snapshots
from agent_magics.sandbox import Sandbox, open_sandbox, probe
from tests.support.past import CHANGES
from tests.support.workspaces import contents, names_of_files

pytestmark = pytest.mark.container

ID = "ses_1"
FURNISH = r"""
printf 'old\n' > changed; head -c 300000 /dev/urandom > gone; printf p > private
mkdir -p old/er/est old/empty; printf '#!/bin/sh' > old/er/script; chmod 4755 old/er/script
chmod 711 old/empty; ln -s /etc/passwd link; ln -s nowhere dangling; printf f > now_directory
mkdir was_directory kept read_only; printf x > .ignored; printf x > $(printf 'no\xfftext')
printf x > read_only/file; chmod 500 read_only
"""


@pytest.fixture(scope="module", params=["bubblewrap", "local"])
def provider(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    report = next((r for r in probe(["bubblewrap"]) if r.name == name), None)
    if report is not None and not report.works:
        pytest.skip(f"NO CONTAINERS HERE: {report.reason}")
    return name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "session"


@pytest.fixture
async def sandbox(root: Path, provider: str) -> AsyncIterator[Sandbox]:
    box = open_sandbox(root, provider=provider)
    await box.start()
    yield box
    await box.destroy()


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "snapshots")


async def run(sandbox: Sandbox, command: str) -> str:
    result = await sandbox.run(command)
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()


async def take(snapshots: Snapshots, sandbox: Sandbox) -> Tree:
    return await snapshots.tree(ID, await snapshots.take(ID, sandbox))


async def go_to(snapshots: Snapshots, sandbox: Sandbox, tree: Tree) -> None:
    now = await take(snapshots, sandbox)
    await snapshots.restore(ID, sandbox, now, tree, changes(now, tree))


async def test_exact(root: Path, sandbox: Sandbox, snapshots: Snapshots) -> None:
    await run(sandbox, FURNISH)
    before, files = await take(snapshots, sandbox), contents(root / "workspace")
    await run(sandbox, CHANGES + "rm no*text; chmod 700 read_only; rm -r read_only")
    after, changed = await take(snapshots, sandbox), contents(root / "workspace")
    await go_to(snapshots, sandbox, before)
    assert contents(root / "workspace") == files
    await go_to(snapshots, sandbox, after)
    assert contents(root / "workspace") == changed
    await go_to(snapshots, sandbox, {})
    assert contents(root / "workspace") == {}
    assert await run(sandbox, "head -c 4 /etc/passwd") == "root"


async def test_names_of_one_file(root: Path, sandbox: Sandbox, snapshots: Snapshots) -> None:
    await run(sandbox, "mkdir d closed; echo 1 > a; ln a d/b; ln a closed/c; chmod 500 closed")
    tree, files = await take(snapshots, sandbox), contents(root / "workspace")
    for command in ("rm a; echo 2 > d/b", "cp a n; mv n a", "chmod 700 closed; rm -r a d closed"):
        await run(sandbox, command)
        await go_to(snapshots, sandbox, tree)
        assert contents(root / "workspace") == files
        assert names_of_files(root / "workspace") == {frozenset({"a", "d/b", "closed/c"})}


async def test_what_others_change_meanwhile_stays(
    root: Path, sandbox: Sandbox, snapshots: Snapshots
) -> None:
    await run(sandbox, "echo old > f; echo old > g")
    tree = await take(snapshots, sandbox)
    await run(sandbox, "echo new > f; echo new > g; echo new > h")
    now = await take(snapshots, sandbox)
    await run(sandbox, "echo mine > f; echo mine > h")
    for paths in (["f"], ["h"]):
        with pytest.raises(OSError, match="somebody else has changed it"):
            await snapshots.restore(ID, sandbox, now, tree, paths)
    await snapshots.restore(ID, sandbox, now, tree, ["g"])
    assert await run(sandbox, "cat f g h; ls -A") == "mine\nold\nmine\nf\ng\nh\n"


HOSTILE = r"""
ln -s /etc/passwd passwd; ln -s / everything; ln -s . loop; mkfifo fifo
truncate -s 1900M sparse; mkdir closed; echo x > closed/secret; chmod 000 closed
mkdir -p .cache/pip .local/py sub/.cache; echo x > .cache/pip/f; echo y > sub/.cache/f
python3 - <<'END'
import os, socket
socket.socket(socket.AF_UNIX).bind("socket")
here = os.getcwd()
for i in range(600):
    os.mkdir("deep"); os.chdir("deep")
open("bottom", "w").close()
os.chdir(here)
for name in (b"\xff\xfe", b"new\nline", b"-rf", b" ", b"a" * 255, "\u202e".encode()):
    open(name, "w").write("odd")
END
"""


async def test_a_hostile_workspace(root: Path, sandbox: Sandbox, snapshots: Snapshots) -> None:
    await run(sandbox, HOSTILE)
    tree = await asyncio.wait_for(take(snapshots, sandbox), 60)
    kinds = {path: entry.kind for path, entry in tree.items()}
    assert tree["passwd"].key == "/etc/passwd" and tree["everything"].key == "/"
    assert kinds["fifo"] == kinds["socket"] == "other"
    assert not tree["sparse"].stored and "larger" in tree["sparse"].key
    assert not [path for path in tree if path.startswith((".cache", ".local", "loop/"))]
    assert "sub/.cache/f" in tree and len([p for p in kinds if p.startswith("deep")]) == 101
    assert "closed" in kinds.values()
    for name in ("\udcff\udcfe", "new\nline", "-rf", " ", "a" * 255, "\u202e"):
        assert tree[name].size == 3
    stored = b"".join(
        p.read_bytes() for p in (snapshots._root / ID / "objects").rglob("*") if p.is_file()
    )
    assert b"root:" not in stored and len(stored) < 100
    # It is left as it was where it can't be brought back.
    await run(sandbox, "rm -- -rf passwd; echo more >> ' '")
    await go_to(snapshots, sandbox, tree)
    assert changes(await take(snapshots, sandbox), tree) == {}


async def test_directories_exchanged_for_links(
    root: Path, sandbox: Sandbox, snapshots: Snapshots
) -> None:
    """While a snapshot is taken and brought back, directories turn into links and back."""
    await run(sandbox, "mkdir d $TMPDIR/out; echo inside > d/f; echo outside > $TMPDIR/out/f")
    tree = await take(snapshots, sandbox)
    swap = "while :; do mv d e; ln -s $TMPDIR/out d; rm d; mv e d; done"
    task = asyncio.create_task(sandbox.run(swap, timeout=60))
    store = await snapshots.store(ID)
    try:
        for _ in range(30):
            seen = await take(snapshots, sandbox)
            for path, entry in seen.items():
                if path.endswith("/f") and entry.stored:
                    assert store.content(entry.key) == b"inside\n"
            try:
                await snapshots.restore(ID, sandbox, {}, tree, ["d/f"])
            except OSError:
                continue  # it was a link, or nothing, when it was looked at
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert await run(sandbox, "cat $TMPDIR/out/f; ls $TMPDIR/out") == "outside\nf\n"


async def test_unchanged_files_are_not_read_again(
    root: Path, sandbox: Sandbox, snapshots: Snapshots
) -> None:
    await run(sandbox, "mkdir d; for i in $(seq 1000); do echo $i > d/$i; done; touch -d @1 d/1")
    first = await take(snapshots, sandbox)
    assert snapshots.files_read == 1000
    while True:  # what has just been written may change once more without a trace
        before = snapshots.files_read
        await snapshots.take(ID, sandbox)
        if snapshots.files_read == before:
            break
    await run(
        sandbox, "echo x > d/7; touch d/8; mv d/9 d/nine; rm d/10; echo 1 > d/1; touch -d @1 d/1"
    )
    second = await take(snapshots, sandbox)
    assert snapshots.files_read - before == 4
    assert set(changes(first, second)) == {"d/7", "d/9", "d/nine", "d/10"}
    again = Snapshots(snapshots._root)  # after a restart
    await again.take(ID, sandbox)
    assert again.files_read <= 4


async def test_limits(root: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "limited", SnapshotLimits(file=1000, total=2500))
    await run(sandbox, "for i in 1 2 3; do head -c 1000 /dev/urandom > f$i; done")
    await run(sandbox, "head -c 1001 /dev/urandom > large")
    tree = await take(snapshots, sandbox)
    assert [tree[n].stored for n in ("f1", "f2", "f3", "large")] == [True, True, False, False]
    assert "too much room" in tree["f3"].key


async def test_files_of_any_size_are_copied(root: Path, sandbox: Sandbox) -> None:
    await run(sandbox, "head -c 9000000 /dev/urandom > large; truncate -s 12M large")
    pieces = sandbox.tree.read("large")
    await sandbox.tree.put("copy", pieces, mode=0o640, mtime=5_000_000_000)
    shown = await run(sandbox, "cmp large copy && stat -c '%a %Y' copy && du -k copy | cut -f1")
    mode, size = shown.splitlines()
    assert mode == "640 5" and int(size) < 9500  # holes stay holes
    with pytest.raises(FileNotFoundError):
        await sandbox.tree.put("copy", sandbox.tree.read("missing"), mode=0o640)
    assert await run(sandbox, "ls -A") == "copy\nlarge\n"


def test_nothing_is_lost_when_a_tree_is_collected(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    keys = [store.put(content) for content in (b"a", b"bb", b"ccc")]
    assert store.put(b"a") == keys[0] and store.size == 6
    trees = [
        store.put_tree({"f": Entry("file", 0o644, key, 1, 1, 1, 1)}, last=key == keys[2])
        for key in keys
    ]
    copy = store.clone(tmp_path / "clone")
    store.collect([trees[0]])
    assert store.content(keys[0]) == b"a" and store.content(keys[2]) == b"ccc"
    assert store.size == 4 and not (tmp_path / "store/trees" / trees[1]).exists()
    assert copy.content(keys[1]) == b"bb" and copy.size == 6
