"""Commands: streams, exit codes, directories, input, several at a time."""

from __future__ import annotations

import asyncio

import pytest

from agent_magics.sandbox import Sandbox, SandboxError
from tests.support.processes import with_argument


async def test_streams_and_exit_code(sandbox: Sandbox) -> None:
    result = await sandbox.run("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 7)
    assert (result.timed_out, result.truncated, result.killed_by) == (False, False, None)
    assert result.duration > 0


async def test_output_comes_live_and_in_order(sandbox: Sandbox) -> None:
    seen: list[tuple[str, bytes]] = []
    proceed = asyncio.Event()

    def on_output(stream: str, data: bytes) -> None:
        seen.append((stream, data))
        if data == b"one\n":
            proceed.set()

    command = "echo one; until [ -e go ]; do sleep 0.01; done; echo two >&2; sleep 0.2; echo three"
    task = asyncio.create_task(sandbox.run(command, on_output=on_output))
    await asyncio.wait_for(proceed.wait(), 30)
    assert not task.done()  # the first line was here before the command ended
    await sandbox.write_file("go", b"")
    result = await task
    assert seen == [("stdout", b"one\n"), ("stderr", b"two\n"), ("stdout", b"three\n")]
    assert result.stdout == b"one\nthree\n"


async def test_a_failing_listener_ends_the_command(sandbox: Sandbox, seconds: str) -> None:
    def on_output(stream: str, data: bytes) -> None:
        raise RuntimeError("listener")

    with pytest.raises(RuntimeError, match="listener"):
        await sandbox.run(f"echo x; sleep {seconds}", on_output=on_output)
    assert not with_argument(seconds)


@pytest.mark.parametrize(("cwd", "shown"), [("/tmp", "/tmp"), (".", "/workspace"), ("a", None)])
async def test_directory(sandbox: Sandbox, cwd: str, shown: str | None) -> None:
    await sandbox.run("mkdir a")
    result = await sandbox.run("pwd", cwd=cwd)
    assert result.stdout.decode() == f"{shown or '/workspace/a'}\n"


async def test_missing_directory(sandbox: Sandbox) -> None:
    result = await sandbox.run("pwd", cwd="/nope")
    assert result.exit_code == 126
    assert b"cannot start command" in result.stderr and b"/nope" in result.stderr
    assert (await sandbox.run("echo still")).stdout == b"still\n"


async def test_no_input_by_default(sandbox: Sandbox) -> None:
    result = await sandbox.run("cat; read line; echo $?; tty; python3 -c 'input()'", timeout=10)
    assert result.stdout == b"1\nnot a tty\n"
    assert b"EOFError" in result.stderr


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_input_bytes(sandbox: Sandbox, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    result = await sandbox.run("cat", stdin=data, max_output=4_000_000)
    assert result.stdout == data


async def test_input_that_cannot_be_stored(sandbox: Sandbox) -> None:
    await sandbox.run("chmod 0 /tmp")
    with pytest.raises(SandboxError, match="Permission denied"):
        await sandbox.run("cat", stdin=b"x" * 1_000_000)
    assert (await sandbox.run("chmod 700 /tmp; echo fine")).stdout == b"fine\n"


async def test_variables(sandbox: Sandbox) -> None:
    result = await sandbox.run('echo "$A|$HOME"', env={"A": 'quo"te $x {y}\n'})
    assert result.stdout == b'quo"te $x {y}\n|/workspace\n'
    for bad in ({"": "x"}, {"A=B": "x"}, {"A": "x\0y"}):
        with pytest.raises(ValueError, match="environment variable"):
            await sandbox.run("true", env=bad)


async def test_command_text_is_not_touched(sandbox: Sandbox) -> None:
    text = "héllo {x} 'q' \"d\" <b> \\n €" * 1000
    result = await sandbox.run(f"cat <<'END'\n{text}\nEND")
    assert result.stdout.decode() == text + "\n"
    with pytest.raises(ValueError, match="NUL"):
        await sandbox.run("echo \0")


async def test_command_too_long_for_the_system(sandbox: Sandbox) -> None:
    result = await sandbox.run("true " + "x" * 3_000_000)
    assert result.exit_code == 126
    assert b"Argument list too long" in result.stderr


@pytest.mark.parametrize(("signal", "code"), [("SEGV", 139), ("KILL", 137), ("TERM", 143)])
async def test_death_by_signal(sandbox: Sandbox, signal: str, code: int) -> None:
    result = await sandbox.run(f"kill -{signal} $$; sleep 5")
    assert (result.exit_code, result.timed_out) == (code, False)


async def test_interactive_programs_fail_instead_of_waiting(sandbox: Sandbox) -> None:
    result = await sandbox.run(
        "sudo -n true; ssh -o BatchMode=yes 127.0.0.1; git commit", timeout=10
    )
    assert not result.timed_out


async def test_twenty_at_once(sandbox: Sandbox) -> None:
    commands = [sandbox.run(f"sleep 0.2; echo {number}; exit {number}") for number in range(20)]
    results = await asyncio.gather(*commands)
    assert [int(result.stdout) for result in results] == list(range(20))
    assert [result.exit_code for result in results] == list(range(20))


async def test_background_server_lives_on(sandbox: Sandbox) -> None:
    await sandbox.write_file("index.html", b"hello from before")
    server = "python3 -m http.server 8123 --bind 127.0.0.1"
    started = await sandbox.run(f"{server} & echo started")
    assert started.stdout == b"started\n"  # although the server holds stdout
    fetch = (
        "import time, urllib.request as u\n"
        "for _ in range(100):\n"
        "    try: print(u.urlopen('http://127.0.0.1:8123/').read().decode()); break\n"
        "    except OSError: time.sleep(0.05)\n"
    )
    result = await sandbox.run("python3 -", stdin=fetch.encode(), timeout=20)
    assert result.stdout == b"hello from before\n"


async def test_background_noise_after_the_end_is_dropped(sandbox: Sandbox) -> None:
    result = await sandbox.run("yes & echo $! > pid; sleep 0.1; kill -9 $$", max_output=1000)
    assert result.exit_code == 137
    await sandbox.run("sleep 0.3")
    assert (await sandbox.run("kill -0 $(cat pid) && kill $(cat pid)")).exit_code == 0


async def test_python_of_the_caller(sandbox: Sandbox) -> None:
    import sys

    result = await sandbox.run("python -c 'import sys; print(sys.executable, sys.prefix)'")
    assert result.stdout.decode().split() == [sys.executable, sys.prefix]
    hypothesis = await sandbox.run("python -c 'import hypothesis; print(1)'")
    assert hypothesis.stdout == b"1\n"
