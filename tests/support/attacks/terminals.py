"""Terminals of the host, and what is written to them."""

from __future__ import annotations

import os

from .stand import Stand, check


@check
async def terminal_injection(stand: Stand) -> None:
    await stand.refused("fcntl.ioctl(pty.openpty()[1], 0x5412, b'x')", "EPERM")
    await stand.refused("open('/dev/tty')", "ENXIO")


@check
async def no_terminal_at_all(stand: Stand) -> None:
    shown = await stand.python(
        "print([os.isatty(n) for n in range(3)], open('/proc/self/stat').read().split()[6])\n"
    )
    assert shown == "[False, False, False] 0"


@check
async def terminals_of_the_host(stand: Stand) -> None:
    """Its pseudo-terminals are not in /dev/pts, whatever their numbers."""
    mine, theirs = os.openpty()
    try:
        name = os.ttyname(theirs)
        listed = set(os.listdir("/dev/pts")) - {"ptmx"}
        shown = set((await stand.output("ls /dev/pts")).split()) - {"ptmx"}
        assert listed and not shown & listed
        await stand.refused(f"open({name!r}, 'w').write('typed')", "ENOENT", "EACCES")
    finally:
        os.close(mine)
        os.close(theirs)


@check
async def the_console(stand: Stand) -> None:
    await stand.refused(
        "open('/dev/console', 'w')\nopen('/dev/tty0', 'w')\nopen('/dev/ttyS0', 'w')\n"
        "open('/dev/vcs', 'rb')\nopen('/dev/pts/0')\n",
        *("ENOENT", "EACCES", "ENXIO", "EIO", "EROFS"),
    )


@check
async def taking_over_a_console(stand: Stand) -> None:
    """The kernel's output, the virtual console's selection, everybody's hang-up."""
    await stand.refused(
        "fcntl.ioctl(pty.openpty()[1], 0x541D)\n"  # TIOCCONS
        "fcntl.ioctl(pty.openpty()[1], 0x541C, bytes(8))\n"  # TIOCLINUX
        "call(153 if X86 else 58)\n",  # vhangup
        "EPERM",
    )


@check
async def a_terminal_of_its_own_stays_inside(stand: Stand) -> None:
    """Programs that want one get one, and nothing that is typed into it leaves it."""
    shown = await stand.python(
        "pid, fd = pty.fork()\n"
        "if pid == 0:\n"
        "    os.write(os.open('/dev/tty', os.O_RDWR), b'own terminal')\n"
        "    attempt(lambda: fcntl.ioctl(0, 0x5412, b'x'))\n"
        "    os._exit(0)\n"
        "print(os.read(fd, 100).decode(), os.waitpid(pid, 0)[1])\n"
    )
    assert shown.startswith("own terminal") and "SUCCEEDED" not in shown


@check
async def escape_sequences_in_names(stand: Stand) -> None:
    """A name or an error keeps what belongs to the path; messages of the container are plain."""
    odd = "a\x1b]0;owned\x07b\x9b2J\rc"
    await stand.python(f"open({odd!r}, 'w').close()\n")
    assert odd in {os.path.basename(e.path) for e in await stand.box.list_files()}
    try:
        await stand.box.write_file(f"{odd}/below", b"x")
    except OSError as error:
        assert (error.strerror or "").isprintable()
    else:
        raise AssertionError("a file became a directory")
    await stand.box.delete_file(odd)
