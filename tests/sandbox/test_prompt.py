"""What one does at a prompt works in a container; what would wait for a person fails at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent_magics.sandbox import Sandbox
from tests.support.processes import eventually

pytestmark = pytest.mark.container

WORKS = {
    "pipe": ("printf 'b\\na\\n' | sort | head -1", "a\n"),
    "exit code of a pipe": ("set -o pipefail; false | cat; echo $?", "1\n"),
    "here-document": ("cat <<'END'\n$HOME `x` é\nEND", "$HOME `x` é\n"),
    "here-string": ("tr a-z A-Z <<< shout", "SHOUT\n"),
    "substitution": ("echo $(( $(echo 20) + 22 ))", "42\n"),
    "process substitution": ("diff <(echo a) <(echo a) && echo same", "same\n"),
    "arrays": ("a=(x 'y z'); echo ${#a[@]} \"${a[1]}\"", "2 y z\n"),
    "several lines": ("for i in 1 2\ndo\n  echo $i\ndone", "1\n2\n"),
    "function": ("f() { echo \"<$1>\"; }; f 'a b'", "<a b>\n"),
    "UTF-8": ("echo 'grüße 日本 🙂' | tee f; cat f | wc -m", "grüße 日本 🙂\n11\n"),
    "redirections": ("{ echo out; echo err >&2; } > o 2> e; cat e o", "err\nout\n"),
    "background and wait": ("{ sleep 0.1; echo late; } & echo soon; wait", "soon\nlate\n"),
    "subshell directory": (
        "mkdir -p d; (cd d && pwd); pwd",
        "/workspace/subshell directory/d\n/workspace/subshell directory\n",
    ),
    "tilde": ("cd ~ && pwd", "/workspace\n"),
    "trap": ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n"),
    "python": ("python3 -c 'print(6 * 7)'", "42\n"),
    "python from stdin": ("python3 - <<'END'\nprint('in')\nEND", "in\n"),
    "xargs": ("seq 3 | xargs -P 3 -I{} echo n{} | sort | tr -d '\\n'", "n1n2n3"),
    "tar": ("echo x > t; tar cz t | tar tz", "t\n"),
    "sed -i": ("echo old > s; sed -i s/old/new/ s; cat s", "new\n"),
    "process limit is one's own": ("ulimit -c", "0\n"),
}


async def test_works_as_at_a_prompt(sandbox: Sandbox) -> None:
    async def check(name: str) -> None:
        command, shown = WORKS[name]
        result = await sandbox.run(f"mkdir {name!r} && cd {name!r} && {command}", timeout=100)
        found = (result.stdout.decode(), result.stderr, result.exit_code)
        assert found == (shown, b"", 0), name

    await asyncio.gather(*map(check, WORKS))


async def test_binary_output(sandbox: Sandbox) -> None:
    result = await sandbox.run('python3 -c "import os; os.write(1, bytes(range(256)))"')
    assert result.stdout == bytes(range(256))


WAITS = [
    "read answer",
    "python3 -c 'input()'",
    "python3 -c 'import getpass; getpass.getpass()'",
    "python3 -i < /dev/tty",
    "sudo -S true",
    "su root -c true",
    "ssh -o ConnectTimeout=5 nowhere.invalid true",
    "scp nowhere.invalid:x .",
    "git clone https://nowhere.invalid/x.git",
    "git clone git@nowhere.invalid:x.git",
    "git init -q r1 && cd r1 && git commit --allow-empty",
    "apt-get install nothing-of-this-name",
    "dd if=/dev/tty",
]
ENDS = [
    "cat",
    "less /etc/passwd | tail -1",
    "more /etc/passwd | tail -1",
    "vi file",
    "git init -q r2 && cd r2 && git -c user.name=a -c user.email=a@b commit -q --allow-empty "
    "-m one && git log",
    "git init -q r3 && cd r3 && git -c user.name=a -c user.email=a@b commit -q --allow-empty "
    "-m one && git -c user.name=a -c user.email=a@b commit -q --amend && git diff",
    "top -b -n 1 | head -1",
    "bash",
    "bash -i -c 'echo $-'",
    "python3",
    "man bash | head -1",
]


async def test_what_asks_a_person_fails_at_once(sandbox: Sandbox) -> None:
    async def check(command: str) -> None:
        result = await sandbox.run(command, timeout=100)
        assert not result.timed_out and result.exit_code != 0, command

    await asyncio.gather(*map(check, WAITS))


async def test_what_shows_pages_or_waits_for_input_ends(sandbox: Sandbox) -> None:
    async def check(command: str) -> None:
        result = await sandbox.run(command, timeout=100)
        assert not result.timed_out, command
        assert b"\x1b[?1049h" not in result.stdout  # nobody has a screen to be cleared

    await asyncio.gather(*map(check, ENDS))


# Ctrl-C


async def interrupted(sandbox: Sandbox, command: str, ready: Callable[[], bool]) -> None:
    running = asyncio.create_task(sandbox.run(command, timeout=100))
    await eventually(ready, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_command_is_interrupted_first(sandbox: Sandbox) -> None:
    code = (
        "import time\n"
        "try:\n"
        "    print('up', flush=True); open('up', 'w').close(); time.sleep(100)\n"
        "except KeyboardInterrupt:\n"
        "    open('note', 'w').write('interrupted')\n"
    )
    await sandbox.write_file("wait.py", code.encode())
    up = sandbox._root / "workspace/up"
    await interrupted(sandbox, "python3 wait.py; echo on > after; sleep 100", up.exists)
    assert await sandbox.read_file("note") == b"interrupted"
    assert (await sandbox.run("pgrep -x sleep")).exit_code == 1


async def test_then_asked_to_end_then_made_to(sandbox: Sandbox) -> None:
    up = sandbox._root / "workspace/up"
    deaf = "trap '' INT; trap 'echo asked > note; exit' TERM; touch up; while :; do sleep 1; done"
    await interrupted(sandbox, deaf, up.exists)
    assert await sandbox.read_file("note") == b"asked\n"
    up.unlink()
    await interrupted(sandbox, "trap '' INT TERM; touch up; while true; do :; done", up.exists)
    assert (await sandbox.run("pgrep -c bash")).stdout == b"0\n"  # it asks without a shell


async def test_servers_of_earlier_commands_are_not_interrupted(sandbox: Sandbox) -> None:
    await sandbox.run("(setsid sleep 4711 &)")
    up = sandbox._root / "workspace/up"
    await interrupted(sandbox, "touch up; sleep 100", up.exists)
    async with asyncio.timeout(30):
        while (await sandbox.run("pgrep -f 'sleep 4711' | wc -l")).stdout == b"0\n":
            await asyncio.sleep(0.02)
