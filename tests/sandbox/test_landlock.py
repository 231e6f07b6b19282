"""The second layer on files, on this machine's kernel where it has it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from agent_magics.sandbox import Sandbox
from agent_magics.sandbox._agent import landlock

needs_landlock = pytest.mark.skipif(
    landlock.version() < landlock.LEAST, reason="NOT TESTED: THIS KERNEL HAS NO LANDLOCK"
)
SOURCE = Path(landlock.__file__).read_text("utf-8")

PROGRAM = """
import os, sys
trees, files, outside = sys.argv[1:4]
print(restrict([trees], [files]))
def attempt(name, action):
    try:
        action()
        print(name, "done")
    except OSError as error:
        print(name, error.errno)
attempt("write", lambda: open(trees + "/new", "w").write("x"))
attempt("mkdir", lambda: os.mkdir(trees + "/d"))
attempt("move", lambda: os.rename(trees + "/new", trees + "/d/new"))
attempt("link", lambda: os.link(trees + "/d/new", trees + "/twin"))
attempt("write there", lambda: open(files + "/there", "w").write("x"))
attempt("new there", lambda: open(files + "/new", "w"))
attempt("remove there", lambda: os.unlink(files + "/there"))
attempt("read", lambda: open(outside + "/there").read())
attempt("outside", lambda: open(outside + "/there", "w"))
attempt("append", lambda: open(outside + "/there", "a"))
attempt("truncate", lambda: os.truncate(outside + "/there", 0))
attempt("mkdir outside", lambda: os.mkdir(outside + "/d"))
attempt("unlink outside", lambda: os.unlink(outside + "/there"))
attempt("move out", lambda: os.rename(trees + "/twin", outside + "/twin"))
attempt("link out", lambda: os.symlink("x", outside + "/x"))
attempt("null", lambda: open("/dev/null", "w"))
"""


@needs_landlock
def test_what_may_be_written(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("trees", "files", "outside")]
    for folder in folders:
        folder.mkdir()
        (folder / "there").write_text("kept")
    command = [sys.executable, "-I", "-S", "-c", SOURCE + PROGRAM, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    answers = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines()[1:])
    assert done.stdout.startswith("True\n")
    allowed = {name for name, answer in answers.items() if answer == "done"}
    expected = {"write", "mkdir", "move", "link", "write there", "read"}
    if landlock.version() < 3:
        expected.add("truncate")
    assert allowed == expected, answers
    assert {answers[name] for name in set(answers) - expected} <= {"13", "18"}
    assert (folders[2] / "there").read_text() in ("kept", "")


@pytest.mark.parametrize("answers", [[-1], [1], [7, -1], [7, 9, -1], [7, 9, 0, -1]])
def test_a_kernel_without_it(
    answers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not there, too old, or refused by an outer container: no error, and nothing was changed."""
    given = iter(answers)
    closed: list[int] = []
    libc = types.SimpleNamespace(syscall=lambda *a: next(given), prctl=lambda *a: 0)
    monkeypatch.setattr(landlock, "_libc", lambda: libc)
    real_close = os.close
    monkeypatch.setattr(
        landlock.os, "close", lambda fd: closed.append(fd) if fd == 9 else real_close(fd)
    )
    assert landlock.restrict([str(tmp_path)], []) is False
    assert closed == ([9] if 9 in answers else [])


LAYERS = """
import ctypes, os, sys
count = 0
while restrict(["/tmp"], []):
    count += 1
print(count)
"""


@needs_landlock
@pytest.mark.container
async def test_it_is_on_in_the_container(sandbox: Sandbox) -> None:
    """A kernel takes 16 layers of it, of which the container has one."""
    command = [sys.executable, "-I", "-S", "-c", SOURCE + LAYERS]
    outside = await asyncio.to_thread(subprocess.check_output, command)
    await sandbox.write_file("layers.py", (SOURCE + LAYERS).encode())
    result = await sandbox.run("python layers.py")
    assert int(result.stdout) == int(outside) - 1, result.stderr
    # and it is in nobody's way
    script = (
        "mkdir -p a/b && echo x > a/f && mv a/f a/b/f && ln a/b/f g && mkfifo p && cp g /tmp/g &&"
        "echo x > /dev/null && echo x > /dev/stdout && echo y > /dev/shm/y && rm /dev/shm/y &&"
        "echo agent > /proc/self/comm && mv a /tmp/a && echo done"
    )
    result = await sandbox.run(script)
    assert result.stdout == b"x\ndone\n", result.stderr
