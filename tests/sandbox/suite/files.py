"""Files: exact bytes, honest errors, nothing that blocks."""

from __future__ import annotations

import asyncio
import errno

import pytest

from agent_magics.sandbox import FileStat, PathIsLink, Sandbox

ALL_BYTES = bytes(range(256))


@pytest.mark.parametrize("size", [0, 1, 262_144, 5_000_001])
async def test_exact_bytes(sandbox: Sandbox, size: int) -> None:
    data = (ALL_BYTES * (size // 256 + 1))[:size]
    await sandbox.write_file("some/deep/directory/fïle", data)
    assert await sandbox.read_file("/workspace/some/deep/directory/fïle") == data
    counted = await sandbox.run("wc -c < some/deep/directory/f*; ls -A some/deep/directory | wc -l")
    assert counted.stdout.split() == [str(size).encode(), b"1"]


async def test_written_at_once(sandbox: Sandbox) -> None:
    await sandbox.write_file("f", b"a" * 1_000_000)
    check = "import sys\nwhile True:\n  s=set(open('f','rb').read())\n  assert len(s)==1, s\n"
    reader = asyncio.create_task(sandbox.run("python3 -", stdin=check.encode(), timeout=1))
    while not reader.done():
        for letter in (b"b", b"c"):
            await sandbox.write_file("f", letter * 1_000_000)
    result = await reader
    assert result.timed_out and result.stderr == b""


async def test_mode_and_links_are_kept(sandbox: Sandbox) -> None:
    await sandbox.run("printf old > tool; chmod 750 tool; mkdir d; ln -s ../tool d/link")
    await sandbox.write_file("d/link", b"new")
    shown = await sandbox.run("cat tool; stat -c ' %a' tool; test -L d/link && echo link")
    assert shown.stdout == b"new 750\nlink\n"
    await sandbox.write_file("plain", b"")
    assert (await sandbox.run("stat -c %a plain")).stdout == b"644\n"


async def test_a_write_that_follows_no_link(sandbox: Sandbox) -> None:
    links = "ln -s ../there d/on; ln -s on d/twice; ln -s /etc d/out; ln -s ../there/f d/file"
    await sandbox.run(f"mkdir d there; {links}")
    leads = {
        "d/on/f": "/workspace/there/f",
        "/workspace/d/twice/new/f": "/workspace/there/new/f",
        "d/out/f": "/etc/f",
        "d/file": "/workspace/there/f",
    }
    for path, target in leads.items():
        with pytest.raises(PathIsLink) as caught:
            await sandbox.write_file(path, b"x", follow=False)
        assert caught.value.target == target and caught.value.filename == path
    assert (await sandbox.run("ls -A there")).stdout == b""
    for path in ("there/f", "/workspace/new/a/f", "d/../there/g"):
        await sandbox.write_file(path, b"x" * 300_000, follow=False)
        assert len(await sandbox.read_file(path)) == 300_000


async def test_missing(sandbox: Sandbox) -> None:
    for call in (sandbox.read_file, sandbox.delete_file, sandbox.list_files):
        with pytest.raises(FileNotFoundError) as caught:
            await call("nothing/here")
        assert caught.value.filename == "nothing/here"


async def test_directories(sandbox: Sandbox) -> None:
    await sandbox.run("mkdir d; echo x > f")
    for attempt in (
        sandbox.read_file("d"),
        sandbox.write_file("d", b"x"),
        sandbox.write_file("/workspace", b"x"),
        sandbox.delete_file("d"),
    ):
        with pytest.raises(IsADirectoryError):
            await attempt
    with pytest.raises(NotADirectoryError):
        await sandbox.write_file("f/g", b"")
    with pytest.raises(NotADirectoryError):
        await sandbox.list_files("f")


async def test_special_files_do_not_block(sandbox: Sandbox) -> None:
    socket = "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
    await sandbox.run(f'mkfifo fifo; python3 -c "{socket}"')
    for path in ("fifo", "socket", "/dev/zero", "/dev/null"):
        with pytest.raises(OSError) as caught:
            await asyncio.wait_for(sandbox.read_file(path), 30)
        assert caught.value.errno in (errno.EINVAL, errno.ENXIO)
    for path in ("fifo", "socket"):
        with pytest.raises(OSError) as caught:
            await asyncio.wait_for(sandbox.write_file(path, b"x"), 30)
        assert caught.value.errno == errno.EINVAL
        await sandbox.delete_file(path)


async def test_too_large(sandbox: Sandbox) -> None:
    await sandbox.run("truncate -s 1500M sparse; head -c 1001 /dev/zero > over")
    for path, most in (("sparse", 64 << 20), ("over", 1000), ("/proc/self/smaps", 100)):
        with pytest.raises(OSError) as caught:
            await sandbox.read_file(path, max_bytes=most)
        assert caught.value.errno == errno.EFBIG
    assert len(await sandbox.read_file("over", max_bytes=1001)) == 1001


async def test_read_only_places(sandbox: Sandbox) -> None:
    for path in ("/usr/x", "/etc/passwd", "/x", "/proc/x"):
        with pytest.raises((PermissionError, FileNotFoundError)):
            await sandbox.write_file(path, b"x")
    with pytest.raises(PermissionError):
        await sandbox.delete_file("/etc/hostname")


async def test_unusual_names(sandbox: Sandbox) -> None:
    for name in ("new\nline", "-rf", " ", "\udcff\udcfe", "<b>&amp;"):
        await sandbox.write_file(name, name.encode("utf-8", "surrogateescape"))
        assert await sandbox.read_file(name) == name.encode("utf-8", "surrogateescape")
        assert any(e.path == f"/workspace/{name}" for e in await sandbox.list_files())
        await sandbox.delete_file(name)
    assert await sandbox.list_files() == []
    for name in ("nul\0", "\ud800", "x" * 300, "x/" * 3000):
        with pytest.raises(OSError):
            await sandbox.read_file(name)


async def test_list(sandbox: Sandbox) -> None:
    made = await sandbox.run(
        "mkdir -p b/c .git/objects node_modules/m __pycache__ .local/py; "
        "printf 12345 > a; printf 1 > b/c/d; ln -s /etc/passwd l; ln -s . b/loop; mkfifo p; "
        "touch .git/x node_modules/m/x .local/py/x; touch -d @1700000000.5 a"
    )
    assert made.exit_code == 0
    top = {entry.path: entry for entry in await sandbox.list_files()}
    assert set(top) == {
        f"/workspace/{name}"
        for name in ("a", "b", "l", "p", ".git", "node_modules", "__pycache__", ".local")
    }
    assert top["/workspace/a"] == FileStat("/workspace/a", "file", 5, 1_700_000_000_500)
    kinds = {name: top[f"/workspace/{name}"].kind for name in ("b", "l", "p")}
    assert kinds == {"b": "directory", "l": "link", "p": "other"}
    found = [entry.path for entry in await sandbox.list_files("/workspace/.", recursive=True)]
    assert found == [
        f"/workspace/{name}" for name in ("a", "b", "b/c", "b/c/d", "b/loop", "l", "p")
    ]
    assert [e.path for e in await sandbox.list_files("b/c/")] == ["/workspace/b/c/d"]


async def test_hundred_thousand_files(sandbox: Sandbox) -> None:
    make = (
        "import os\n"
        "os.chdir('/dev/shm')\n"
        "for d in range(10):\n"
        "    os.mkdir(f'{d}')\n"
        "    for i in range(10000): os.mknod(f'{d}/{i}')\n"
    )
    assert (await sandbox.run("python3 -", stdin=make.encode())).exit_code == 0
    listing = asyncio.create_task(sandbox.list_files("/dev/shm", recursive=True, limit=1000))
    assert (await sandbox.run("echo meanwhile")).stdout == b"meanwhile\n"
    entries = await listing
    assert len(entries) == 1000
    assert [e.path for e in entries if e.kind == "directory"] == [
        f"/dev/shm/{d}" for d in range(10)
    ]
    assert len(await sandbox.list_files("/dev/shm/3")) == 10_000


async def test_cancelled_write_leaves_nothing(sandbox: Sandbox) -> None:
    task = asyncio.create_task(sandbox.write_file("big", bytes(50_000_000)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sandbox.list_files() == []
