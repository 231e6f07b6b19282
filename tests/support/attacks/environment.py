"""Secrets of the host in environments and command lines."""

from __future__ import annotations

import os

from .stand import DECOY, NAMES, PRELUDE, Stand, check


@check
async def environment_of_a_command(stand: Stand) -> None:
    shown = await stand.output("env; set; export -p")
    assert DECOY not in shown and "ATTACK_DECOY" not in shown


@check
async def environment_of_every_process(stand: Stand) -> None:
    shown = await stand.output("cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert "HOME=/workspace" in shown  # its own it can read
    assert DECOY not in shown


@check
async def environment_of_pid_1(stand: Stand) -> None:
    await stand.refused("open('/proc/1/environ').read()", "EACCES")


@check
async def command_lines_of_the_host(stand: Stand) -> None:
    shown = await stand.output("cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; ps axuww")
    assert "python" in shown and DECOY not in shown


@check
async def the_usual_names_of_secrets(stand: Stand) -> None:
    assert all(os.environ[name] == DECOY for name in NAMES)
    assert await stand.output(f"printenv {' '.join(NAMES)}; true") == ""


@check
async def variables_of_one_command_only(stand: Stand) -> None:
    await stand.box.start()
    given = await stand.box.run("printenv ONE", env={"ONE": DECOY})
    assert given.stdout.decode() == f"{DECOY}\n"
    assert (
        await stand.output("printenv ONE; cat /proc/*/environ 2>/dev/null | grep -c ONE") == "0\n"
    )


@check
async def shells_of_a_login(stand: Stand) -> None:
    shown = await stand.output("bash -lc 'env; alias'; bash -ic 'env; alias' 2>/dev/null; true")
    assert "HOME=/workspace" in shown
    assert DECOY not in shown and str(stand.home) not in shown


@check
async def startup_files_left_by_an_earlier_command(stand: Stand) -> None:
    """What a command leaves in its home is no other's: bash is started without such files."""
    await stand.run("echo 'echo FOOLED' | tee .bashrc .profile .bash_profile .inputrc > /dev/null")
    shown = await stand.output("echo hello; rm .bashrc .profile .bash_profile .inputrc")
    assert shown == "hello\n"


@check
async def memory_of_a_command(stand: Stand) -> None:
    """Nothing of the agent program's memory, or of what started it, is left in a command's."""
    program = (
        f"wanted = bytes(reversed({DECOY[:16][::-1]!r}.encode()))\n"
        "found = 0\n"
        "with open('/proc/%d/maps' % os.getppid()) as maps, "
        "open('/proc/%d/mem' % os.getppid(), 'rb') as memory:\n"
        "    for line in maps:\n"
        "        if ' r' not in line or 'vvar' in line or 'vsyscall' in line: continue\n"
        "        start, end = (int(n, 16) for n in line.split()[0].split('-'))\n"
        "        memory.seek(start)\n"
        "        found += memory.read(end - start).count(wanted)\n"
        "print(found)\n"
    )
    shown = await stand.run("python -; true", stdin=(PRELUDE + program).encode())
    assert shown.stdout == b"0\n", shown
