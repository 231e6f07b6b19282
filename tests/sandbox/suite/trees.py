"""The workspace as a whole: looked at, saved and taken back, with nothing but the container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent_magics.engine._plan import changes
from agent_magics.engine._snapshots import Snapshots
from agent_magics.sandbox import Sandbox

FURNISH = r"""
printf 'old\n' > changed; head -c 300000 /dev/urandom > gone; mkdir -p old/er old/empty repo/.git
printf '#!/bin/sh' > old/er/script; chmod 755 old/er/script; chmod 711 old/empty
ln -s /etc/passwd link; ln -s nowhere dangling; printf f > now_directory; mkdir was_directory
printf x > .ignored; printf x > repo/.git/HEAD; printf x > $(printf 'no\xfftext')
"""
CHANGES = r"""
printf 'new\n' > changed; rm gone link now_directory; rmdir was_directory; mkdir now_directory
printf y > was_directory; printf n > other; rm -r old/er; chmod 700 old/empty; rm no*text
printf y > repo/.git/HEAD; ln -sf elsewhere dangling
"""
CONTENTS = r"""
import hashlib, json, os
found = {}
for folder, directories, files in os.walk("."):
    for name in directories + files:
        path = os.path.join(folder, name)
        if os.path.islink(path):
            found[ascii(path)] = ["link", os.readlink(path)]
        elif os.path.isdir(path):
            found[ascii(path)] = ["directory", oct(os.stat(path).st_mode)]
        else:
            digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
            found[ascii(path)] = ["file", oct(os.stat(path).st_mode), digest]
print(json.dumps(found))
"""


async def contents(sandbox: Sandbox) -> dict[str, Any]:
    """Kind, mode and content of everything in /workspace, as a command sees it."""
    result = await sandbox.run("python3 -", stdin=CONTENTS.encode())
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


async def test_revert(sandbox: Sandbox, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots")
    assert (await sandbox.run(FURNISH)).stderr == b""
    before = await contents(sandbox)
    key = await snapshots.take("ses_1", sandbox)
    assert (await sandbox.run(CHANGES)).stderr == b""
    after = await contents(sandbox)
    assert before.keys() != after.keys()
    now = await snapshots.tree("ses_1", await snapshots.take("ses_1", sandbox))
    for tree, expected in ((await snapshots.tree("ses_1", key), before), (now, after)):
        present = await snapshots.tree("ses_1", await snapshots.take("ses_1", sandbox))
        wanted = {path: pair[1] for path, pair in changes(present, tree).items()}
        await snapshots.restore("ses_1", sandbox, present, wanted)
        assert await contents(sandbox) == expected


async def test_large_file_in_pieces(sandbox: Sandbox) -> None:
    await sandbox.run("head -c 9000000 /dev/urandom > large")
    pieces = [piece async for piece in sandbox.tree.read("large")]
    assert len(pieces) > 1
    await sandbox.tree.put("copy", pieces, mode=0o640, mtime=1_700_000_000_000_000_000)
    result = await sandbox.run("cmp large copy; stat -c '%a %Y' copy")
    assert (result.stdout, result.exit_code) == (b"640 1700000000\n", 0)
    rows = {row.path: row for row in await sandbox.tree.scan()}
    assert (rows["copy"].kind, rows["copy"].size) == ("file", 9_000_000)
