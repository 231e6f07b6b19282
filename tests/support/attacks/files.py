"""Files of the host and of others, and places where nothing may be written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent_magics.sandbox import open_sandbox

from .stand import DECOY, SECRETS, Stand, check


@check
async def files_of_the_home(stand: Stand) -> None:
    secret = stand.home / ".ssh/id_decoy"
    assert DECOY in secret.read_text()
    shown = await stand.output(f"cat {secret}; ls -la {stand.home} {stand.home}/.ssh")
    assert "No such file" in shown and DECOY not in shown and "cannot access '" in shown


@check
async def decoys_anywhere(stand: Stand) -> None:
    shown = await stand.output("find / -xdev -name '*_decoy*' 2>/dev/null; ls /home /root /mnt")
    assert "id_decoy" not in shown


@check
async def files_of_other_sessions(stand: Stand) -> None:
    other = open_sandbox(stand.base / "other")
    await other.start()
    await other.write_file("note", DECOY.encode())
    shown = await stand.output(f"ls -la {stand.base}; cat {stand.base}/other/workspace/note")
    await other.destroy()
    assert DECOY not in shown and "No such file" in shown


_BELOW_TMP = {
    Path(place).parts[2] for place in (sys.prefix, sys.base_prefix) if place.startswith("/tmp/")
}
"""What Python's own directories add to `/tmp` where they lie below it."""


@check
async def tmp_of_the_host(stand: Stand) -> None:
    assert list(Path("/tmp").iterdir())
    shown = await stand.output("ls -A /tmp /var/tmp/ /dev/shm | grep -v -e cache -e ':$'")
    assert set(shown.split()) <= _BELOW_TMP


@check
async def account_files(stand: Stand) -> None:
    await stand.refused(
        "open('/etc/shadow')\nopen('/etc/sudoers')\nopen('/etc/machine-id')", "ENOENT"
    )
    users = (await stand.output("cut -d: -f1 /etc/passwd")).split()
    assert users == ["root", "agent", "nobody"]


@check
async def system_directories(stand: Stand) -> None:
    places = f"/usr /etc /bin / /run /dev /var {Path(sys.executable).parent}"
    if not _BELOW_TMP:  # else the prefix itself is a directory of the container's own /tmp
        places += f" {sys.prefix}"
    names = " ".join(f"{place.rstrip('/')}/x" for place in places.split())
    shown = await stand.output(f"for f in {names}; do touch $f && echo WROTE $f; done")
    assert "WROTE" not in shown and "Read-only file system" in shown


@check
async def files_bound_read_only(stand: Stand) -> None:
    code = "\n".join(
        f"open({path!r}, 'ab')"
        for path in ("/etc/hosts", "/etc/passwd", "/usr/bin/env", os.__file__)
    )
    await stand.refused(code, "EROFS", "EACCES")


@check
async def a_different_user_outside(stand: Stand) -> None:
    await stand.run("touch mine")
    owner = (stand.root / "workspace/mine").stat().st_uid
    assert owner != 0
    assert owner == os.geteuid() or os.geteuid() == 0


@check
async def secrets_in_the_home(stand: Stand) -> None:
    """Keys, tokens of the cloud and of git, what Jupyter and the engine keep, histories."""
    assert all((stand.home / name).read_text() == DECOY for name in SECRETS)
    for name in SECRETS:
        try:
            content = await stand.box.read_file(str(stand.home / name))
        except OSError:
            continue
        raise AssertionError(f"{name}: {content!r}")
    paths = " ".join(f"{stand.home}/{name} ~/{name} /root/{name}" for name in SECRETS)
    assert DECOY not in await stand.output(f"cat {paths}")


@check
async def above_the_workspace(stand: Stand) -> None:
    shown = await stand.output("ls -A /workspace/.. /workspace/../.. /tmp/.. | sort -u")
    assert {"workspace", "usr", "tmp"} <= set(shown.split())
    known = ("bin dev etc home lib lib32 lib64 libx32 mnt opt proc root run sbin tmp usr var "
             "workspace /tmp/..: /workspace/..: /workspace/../..:")  # fmt: skip
    places = {part for path in (sys.prefix, sys.base_prefix) for part in Path(path).parts[1:2]}
    assert set(shown.split()) <= {*known.split(), *places}, shown


@check
async def above_an_open_directory(stand: Stand) -> None:
    """`..` of a descriptor does not climb over the place where it was mounted."""
    shown = await stand.python(
        "fd = os.open('/workspace', os.O_RDONLY)\n"
        "for _ in range(30): fd = os.open('..', os.O_RDONLY, dir_fd=fd)\n"
        "print(os.path.samestat(os.fstat(fd), os.stat('/')))\n"
        "os.chdir('/workspace')\n"
        "for _ in range(30): os.chdir('..')\n"
        "print(os.getcwd())\n"
    )
    assert shown.split() == ["True", "/"]


@check
async def magic_links_of_proc(stand: Stand) -> None:
    secret = stand.home / SECRETS[0]
    shown = await stand.output(
        "for p in /proc/[0-9]* /proc/self /proc/thread-self; do"
        f" cat $p/root{secret} $p/cwd/..{secret} $p/root/../..{secret}; ls $p/map_files; done"
    )
    assert "No such file" in shown and DECOY not in shown


@check
async def open_descriptors_lead_nowhere(stand: Stand) -> None:
    shown = await stand.output(
        "for f in /proc/self/fd/* /proc/[0-9]*/fd/*; do readlink $f; ls -d $f/..; done 2>/dev/null"
    )
    assert str(stand.base) not in shown and str(stand.home) not in shown, shown


@check
async def moving_things_out(stand: Stand) -> None:
    await stand.run("echo x > mine; mkdir -p folder")
    await stand.refused(
        """
        os.rename('/workspace/mine', '/etc/mine')
        os.rename('/workspace/mine', '/run/mine')
        os.rename('/usr/bin/env', '/workspace/env')
        os.rename('/workspace', '/elsewhere')
        os.rename('/etc/passwd', '/etc/other')
        os.rmdir('/workspace')
        os.unlink('/etc/hosts')
        os.link('/workspace/mine', '/run/mine')
        os.symlink('/workspace/mine', '/usr/bin/mine')
        """,
        *("EROFS", "EXDEV", "EBUSY", "EACCES", "EPERM"),
    )


@check
async def data_of_services_of_the_host(stand: Stand) -> None:
    shown = await stand.output(
        "ls -d /var/lib /var/log /var/spool /var/run /var/cache /boot /srv /media /sys /lost+found"
    )
    assert shown.count("No such file") == 10, shown


@check
async def attributes_of_the_system(stand: Stand) -> None:
    """Neither modes nor times nor extended attributes of what is bound read-only."""
    await stand.refused(
        """
        os.chmod('/usr/bin/env', 0o4755)
        os.utime('/etc/passwd')
        os.truncate('/usr/bin/env', 0)
        os.chmod('/', 0o777)
        os.setxattr('/usr/bin/env', 'user.x', b'x')
        os.chown('/etc/passwd', 1000, 1000)
        """,
        *("EROFS", "EPERM", "EACCES"),
    )
