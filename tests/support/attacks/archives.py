"""Archives that write elsewhere, and links."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from agent_magics.sandbox import TreeRow, open_sandbox

from .stand import DECOY, Stand, check


@check
async def hard_links_to_the_system(stand: Stand) -> None:
    await stand.refused("os.link('/usr/bin/env', '/workspace/env')", "EXDEV", "EPERM")


@check
async def setuid_files_stay_behind_closed_doors(stand: Stand) -> None:
    await stand.run("cp /bin/sh shell; chmod 4777 shell")
    for path in (stand.root, stand.root / "workspace", stand.root / "tmp"):
        assert path.stat().st_mode & 0o077 == 0


@check
async def links_out_of_the_container(stand: Stand) -> None:
    secret = stand.home / ".ssh/id_decoy"
    await stand.run(f"ln -sf {secret} link; ln -sfn / slash; ln -sfn {stand.home} home")
    for path in (
        *("link", "home/.ssh/id_decoy", f"slash{secret}", f"../../../../..{secret}"),
        *(f"/proc/1/root{secret}", f"/proc/self/root{secret}", f"/proc/self/cwd/..{secret}"),
        *("slash/etc/shadow", "/proc/1/environ", "/proc/self/environ", "/proc/1/mem"),
    ):
        try:
            content = await stand.box.read_file(path)
        except OSError:
            continue
        assert DECOY.encode() not in content, path


@check
async def writing_through_links(stand: Stand) -> None:
    victim = stand.home / "victim"
    await stand.run(f"ln -sf {victim} out; ln -sfn {stand.home} house")
    for path in ("out", "house/victim", "house/new", f"../..{victim}", f"/proc/1/root{victim}"):
        with contextlib.suppress(OSError):
            await stand.box.write_file(path, b"overwritten")
        with contextlib.suppress(OSError):
            await stand.box.delete_file(path)
    assert victim.read_text() == "untouched"
    assert not (stand.home / "new").exists()


@check
async def removing_through_links(stand: Stand) -> None:
    box = open_sandbox(stand.base / "doomed")
    await box.start()
    await box.run(f"ln -s {stand.home} home; mkdir -p a/b; ln -s {stand.home} a/b/home; chmod 0 a")
    await box.destroy()
    assert not (stand.base / "doomed").exists()
    assert (stand.home / "victim").read_text() == "untouched"


def packed(*members: str) -> str:
    """A program that makes the archive `evil.tar`: statements about `m`, a member called `name`."""
    program = "import io, tarfile\nt = tarfile.open('evil.tar', 'w')\n"
    for member in members:
        program += f"data, m = b'overwritten', tarfile.TarInfo()\n{member}\n"
        program += "m.size = len(data) if m.isreg() else 0\nt.addfile(m, io.BytesIO(data))\n"
    return program + "t.close()\n"


async def unpack(stand: Stand, *members: str) -> Sequence[TreeRow]:
    """Unpack such an archive by every means, trusting it in all; what the workspace is then."""
    await stand.python(packed(*members))
    await stand.output(
        "mkdir -p a b; tar -xPf evil.tar -C a --overwrite --keep-directory-symlink;"
        'cd b; python -c \'import tarfile; t = tarfile.open("../evil.tar")\n'
        "for m in t:\n"
        '    try: t.extract(m, filter="fully_trusted")\n'
        "    except Exception as e: print(e)' 2>&1"
    )
    rows = await stand.box.tree.scan()
    await stand.run('chmod -R u+rwX a b; rm -rf a b evil.tar "${TMPDIR:?}"/*')
    assert (stand.home / "victim").read_text() == "untouched"
    assert sorted(p.name for p in stand.root.iterdir()) == ["tmp", "workspace"]
    return rows


@check
async def names_that_climb(stand: Stand) -> None:
    up = "../" * 30
    await unpack(stand, *(f"m.name = {up + path!r}" for path in (str(stand.home / "victim")[1:],
                          "victim", "etc/passwd", "usr/bin/env", "tmp/../../victim")))  # fmt: skip
    assert "overwritten" not in await stand.output(
        "cat /etc/passwd /usr/bin/env; rm -f /tmp/victim"
    )


@check
async def absolute_names(stand: Stand) -> None:
    paths = (str(stand.home / "victim"), "/etc/hosts", f"{stand.base}/session/planted")
    await unpack(stand, *(f"m.name = {path!r}" for path in paths))
    assert not (stand.root / "planted").exists()


@check
async def hard_links_in_an_archive(stand: Stand) -> None:
    rows = await unpack(
        stand,
        f"m.name, m.type, m.linkname = 'hard', tarfile.LNKTYPE, {str(stand.home / 'victim')!r}",
        "m.name = 'hard'",
        "m.name, m.type, m.linkname = 'shell', tarfile.LNKTYPE, '/bin/bash'",
        "m.name, m.type, m.linkname = 'accounts', tarfile.LNKTYPE, '/etc/passwd'",
    )
    assert not {"a/shell", "b/accounts"} & {row.path for row in rows if row.target}


@check
async def links_and_then_files_through_them(stand: Stand) -> None:
    rows = await unpack(
        stand,
        f"m.name, m.type, m.linkname = 'house', tarfile.SYMTYPE, {str(stand.home)!r}",
        "m.name = 'house/victim'",
        "m.name = 'house/planted'",
        f"m.name, m.type, m.linkname = 'file', tarfile.SYMTYPE, {str(stand.home / 'victim')!r}",
        "m.name = 'file'",
    )
    assert not (stand.home / "planted").exists()
    assert rows


@check
async def devices_in_an_archive(stand: Stand) -> None:
    rows = await unpack(
        stand,
        "m.name, m.type, m.devmajor, m.devminor = 'memory', tarfile.CHRTYPE, 1, 1",
        "m.name, m.type, m.devmajor, m.devminor = 'disk', tarfile.BLKTYPE, 254, 0",
        "m.name, m.type = 'pipe', tarfile.FIFOTYPE",
    )
    kinds = {row.path: row.kind for row in rows}
    assert kinds.get("a/pipe") == "other" and not {"a/memory", "b/disk"} & set(kinds), kinds


@check
async def owners_and_modes_in_an_archive(stand: Stand) -> None:
    """Neither root's files nor programs that run as their owner come to the host by it."""
    await stand.python(packed("m.name, m.mode, m.uid, m.gid = 'shell', 0o6777, 0, 0"))
    await stand.run("tar -xpf evil.tar --same-owner; tar -xpf evil.tar")
    found = (stand.root / "workspace/shell").stat()
    assert found.st_uid not in (0,) or os.geteuid() == 0 == stand.root.stat().st_uid
    assert found.st_uid == (stand.root / "workspace").stat().st_uid
    assert stand.root.stat().st_mode & 0o077 == 0
    await stand.run("rm -f shell evil.tar")


@check
async def holes_in_an_archive(stand: Stand) -> None:
    """A member that says it is a terabyte, all of it a hole."""
    made = "truncate -s 40M hole; tar -cSf hole.tar hole; sed -i 's/hole/HOLE/' hole.tar; rm hole"
    await stand.run(made)
    assert (stand.root / "workspace/hole.tar").stat().st_size < 1 << 20
    shown = await stand.output(
        'python -c \'b = bytearray(open("hole.tar", "rb").read());'
        ' b[483:495] = b"20000000000\\0"; b[124:136] = b"20000000000\\0";'
        ' b[148:156] = b"        "; b[148:156] = b"%06o\\0 " % sum(b[:512]);'
        ' open("hole.tar", "wb").write(b)\';'
        " tar -xf hole.tar; stat -c '%n %s' *; rm -f hole* HOLE*"
    )
    sizes = [int(line.split()[1]) for line in shown.splitlines() if line.split()[-1].isdigit()]
    assert sizes and max(sizes) <= stand.limits.file_size, shown  # type: ignore[operator]


@check
async def zip_names_that_climb(stand: Stand) -> None:
    await stand.python(
        "import zipfile\n"
        "z = zipfile.ZipFile('evil.zip', 'w')\n"
        f"for name in ('../' * 30 + {str(stand.home / 'victim')[1:]!r}, '/etc/hosts'):\n"
        "    z.writestr(name, 'overwritten')\n"
        "link = zipfile.ZipInfo('house'); link.external_attr = 0o120777 << 16\n"
        f"z.writestr(link, {str(stand.home)!r}); z.writestr('house/victim', 'overwritten')\n"
        "z.close()\n"
    )
    await stand.output("mkdir z; cd z; python -m zipfile -e ../evil.zip .; unzip -o ../evil.zip")
    assert (stand.home / "victim").read_text() == "untouched"
    await stand.run("rm -rf z evil.zip")


@check
async def zip_bombs(stand: Stand) -> None:
    """A small archive, large inside: one file meets the cap of files, many that of the disk."""
    await stand.python(
        "import gzip\n"
        "with gzip.open('bomb.gz', 'wb') as g:\n"
        "    for _ in range(100): g.write(bytes(1 << 20))\n"
    )
    assert (stand.root / "workspace/bomb.gz").stat().st_size < 1 << 20
    shown = await stand.output("gunzip -k bomb.gz; stat -c %s bomb 2>/dev/null; rm -f bomb")
    assert all(int(n) <= 50 << 20 for n in shown.split() if n.isdigit()), shown
    many = "for n in 1 2 3 4 5 6; do gunzip -c bomb.gz | head -c 50000000 > b$n; done; sleep 5"
    result = await stand.run(many, timeout=30)
    assert result.killed_by == "disk", result
    assert (
        await stand.output("rm -rf b*; ls b*")
        == "ls: cannot access 'b*': No such file or directory\n"
    )


@check
async def snapshots_do_not_follow_links(stand: Stand) -> None:
    await stand.run(f"ln -s {stand.home} house; ln -s {stand.home}/victim file; mkdir -p real")
    rows = {row.path: row for row in await stand.box.tree.scan()}
    assert rows["house"].kind == rows["file"].kind == "link"
    assert not any(path.startswith("house/") for path in rows)
    paths = ["file", "house/victim", "house/.ssh/id_decoy"]
    fetched = await stand.box.tree.fetch(paths, limit=1000, budget=3000)
    assert [f.content for f in fetched] == [None] * 3 and all(f.errno for f in fetched)
    for path in ("house/victim", "house/planted"):
        with contextlib.suppress(OSError):
            await stand.box.tree.put(path, [b"overwritten"], mode=0o644)
        with contextlib.suppress(OSError):
            await stand.box.tree.change([{"do": "remove", "path": path}])
    await stand.box.tree.put("file", [b"own now"], mode=0o644)  # the link itself is replaced
    assert await stand.output("cat file; rm -rf house file real") == "own now"
    assert (stand.home / "victim").read_text() == "untouched"
    assert not (stand.home / "planted").exists()


@check
async def paths_that_leave_the_tree(stand: Stand) -> None:
    await stand.box.start()
    for path in ("../x", "a/../../x", "/etc/x", "..", ".", "", "a//b", "tmp/../../tmp/x"):
        try:
            await stand.box.tree.put(path, [b"x"], mode=0o644)
        except OSError:
            continue
        raise AssertionError(path)
    assert await stand.output("ls -d x b tmp /tmp/x 2>/dev/null; true") == ""


@check
async def links_that_go_in_circles(stand: Stand) -> None:
    await stand.run("ln -s b a; ln -s a b; mkdir -p d; ln -s . d/self; ln -s .. d/up; ln -s c/c c")
    for path in ("a", "b/x", "c"):
        try:
            await stand.box.read_file(path)
        except OSError as error:
            assert error.errno == errno.ELOOP
        else:
            raise AssertionError(path)
    assert len(await stand.box.list_files(recursive=True)) < 20
    assert len(await stand.box.tree.scan()) < 20
    await stand.run("rm -rf a b c d")
