"""Using up what there is: processes, memory, disk, time, names."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path

from agent_magics.sandbox import SandboxGone

from .stand import PRELUDE, Stand, check

FORKS = """
n = 0
try:
    while n < 3000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        n += 1
except OSError as e:
    print(errno.errorcode[e.errno], n < 151)
"""


@check
async def fork_bomb(stand: Stand) -> None:
    assert await stand.python(FORKS + "os.kill(-os.getpgrp(), 0)\n") == "EAGAIN True"
    assert (await stand.run("echo on")).stdout == b"on\n"


@check
async def fork_bomb_of_bash(stand: Stand) -> None:
    most = 0

    async def count() -> None:
        nonlocal most
        uid = (stand.root / "workspace").stat().st_uid
        while True:
            owned = [p for p in Path("/proc").iterdir() if p.name.isdigit() and owner(p) == uid]
            most = max(most, len(owned))
            await asyncio.sleep(0.1)

    counter = asyncio.create_task(count())
    try:
        result = await stand.run(":(){ :|:& };:; sleep 30", timeout=1)
        assert result.duration < 25
    except SandboxGone:
        pass  # ended as a whole: the last resort
    counter.cancel()
    assert most < 300, most
    assert (await stand.run("echo on", timeout=30)).stdout == b"on\n"


def owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1


@check
async def leftovers_of_a_command(stand: Stand) -> None:
    await stand.run("for i in $(seq 60); do sleep 63 & done")
    deadline = time.monotonic() + 30
    while (await stand.output("pgrep -xc sleep")).strip() != "0":
        assert time.monotonic() < deadline, "still there"
    await stand.run("for i in $(seq 5); do sleep 64 & done; sleep 0.3")
    assert (await stand.output("pgrep -xc sleep; pkill -x sleep")).strip() == "5"


@check
async def size_of_a_file(stand: Stand) -> None:
    shown = await stand.output("head -c 60000000 /dev/zero > big; stat -c %s big; rm big")
    assert str(50 << 20) in shown


@check
async def size_of_shared_memory(stand: Stand) -> None:
    shown = await stand.output(
        "head -c 40000000 /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x; rm /dev/shm/x"
    )
    assert "No space left" in shown and str(32 << 20) in shown


@check
async def memory_of_a_process(stand: Stand) -> None:
    result = await stand.run("python -c 'x = bytearray(600 << 20)'")
    assert result.exit_code == 1 and b"MemoryError" in result.stderr


@check
async def memory_of_many_processes(stand: Stand) -> None:
    code = "import time; x = bytearray(b'x') * (300 << 20); time.sleep(20)"
    other = asyncio.create_task(stand.run("sleep 3; echo unhurt"))
    result = await stand.run(f'for i in 1 2 3 4; do python -c "{code}" & done; wait', timeout=18)
    assert result.killed_by == "memory", result
    assert (await other).stdout == b"unhurt\n"


@check
async def shared_memory_without_a_file(stand: Stand) -> None:
    code = "m = mmap.mmap(-1, 900 << 20)\nfor i in range(0, len(m), 4096): m[i] = 1\ntime.sleep(20)"
    result = await stand.run("python -", stdin=(PRELUDE + code).encode(), timeout=18)
    assert result.killed_by == "memory", result


SYSTEM_V = """
libc.shmat.restype = ctypes.c_void_p
for _ in range(9):
    p = libc.shmat(check(libc.shmget(0, 100 << 20, 0o1600)), None, 0)
    ctypes.memset(p, 1, 100 << 20)
    DETACH
"""


@check
async def system_v_shared_memory(stand: Stand) -> None:
    code = PRELUDE + SYSTEM_V.replace("DETACH", "pass") + "time.sleep(20)"
    result = await stand.run("python -", stdin=code.encode(), timeout=18)
    assert result.killed_by == "memory", result


@check
async def system_v_shared_memory_of_nobody(stand: Stand) -> None:
    code = PRELUDE + SYSTEM_V.replace("DETACH", "libc.shmdt(ctypes.c_void_p(p))")
    measure = "awk 'NR > 1 { sum += $15 } END { print sum + 0 }' /proc/sysvipc/shm"
    await stand.run("python -", stdin=code.encode())
    await stand.run("sleep 0.5")
    assert int(await stand.output(measure)) < 700 << 20
    # and what is left is not held against others
    big = "import time; x = bytearray(b'x') * (300 << 20); time.sleep(0.5); print('fine')"
    assert await stand.output(f'python -c "{big}"') == "fine\n"


@check
async def disk_of_the_session(stand: Stand) -> None:
    command = "for i in $(seq 40); do head -c 20000000 /dev/urandom > f$i; done; sleep 5"
    result = await stand.run(command, timeout=30)
    assert result.killed_by == "disk", result
    assert (await stand.run("rm -f f*; echo cleaned")).stdout == b"cleaned\n"


@check
async def output_without_end(stand: Stand) -> None:
    result = await stand.run("yes", timeout=0.5)
    assert result.timed_out and result.truncated and len(result.stdout) < 1 << 21
    result = await stand.run("head -c 100000000 /dev/zero | tee /dev/stderr")
    assert result.truncated and len(result.stdout) + len(result.stderr) < 3 << 20


@check
async def open_files(stand: Stand) -> None:
    shown = await stand.python(
        "held = []\n"
        "try:\n"
        "    while len(held) < 100_000: held.append(os.open('/dev/null', 0))\n"
        "except OSError as e: print(errno.errorcode[e.errno], len(held) < 4100)\n"
    )
    assert shown == "EMFILE True"


@check
async def threads(stand: Stand) -> None:
    shown = await stand.python(
        "import threading\n"
        "threading.stack_size(65536)\n"
        "stop = threading.Event()\n"
        "n = 0\n"
        "try:\n"
        "    while n < 3000: threading.Thread(target=stop.wait).start(); n += 1\n"
        "except RuntimeError: print('refused', n < 151)\n"
        "stop.set()\n"
    )
    assert shown == "refused True"


@check
async def time_of_the_processor(stand: Stand) -> None:
    async with stand.another(cpu_seconds=1) as box:
        result = await box.run("while :; do :; done", timeout=30)
    assert result.exit_code in (128 + 24, 128 + 9) and not result.timed_out, result  # SIGXCPU


@check
async def sleeping_for_ever(stand: Stand) -> None:
    for command in ("sleep infinity", "mkfifo p; read < p", "kill -STOP $$"):
        result = await stand.run(f"rm -f p; {command}", timeout=0.3)
        assert result.timed_out and result.exit_code == 124, command
    assert await stand.output("rm -f p; pgrep -x sleep || echo none") == "none\n"


DEEP = """
import os
for n in range(1500):
    os.mkdir('d'); os.chdir('d')
open('bottom', 'w').close()
"""


@check
async def deep_directories(stand: Stand) -> None:
    """Far longer than any path may be; they are listed as far as they can be, and removed."""
    async with stand.another() as box:
        result = await box.run("python -", stdin=DEEP.encode())
        assert result.exit_code == 0, result
        assert len(await box.list_files(recursive=True)) > 10
        assert any(row.kind == "closed" for row in await box.tree.scan())
        assert (await box.run("echo on")).stdout == b"on\n"


@check
async def long_and_odd_names(stand: Stand) -> None:
    async with stand.another() as box:
        program = (
            "import os\n"
            "for n in range(300): open(b'\\xff' * 251 + b'%04d' % n, 'w').close()\n"
            "for c in range(1, 256):\n"
            "    if c not in b'./': open(bytes([c]), 'w').close()\n"
        )
        result = await box.run("python -", stdin=program.encode())
        assert result.exit_code == 0, result
        entries = await box.list_files()
        assert len(entries) == 300 + 253
        assert len(await box.tree.scan()) == 300 + 253
        assert await box.read_file(entries[-1].path) == b""


@check
async def crowds_of_files(stand: Stand) -> None:
    """The host takes as many as it asked for, and says that there are more."""
    async with stand.another() as box:
        program = "for n in range(2500): open(f'f{n}', 'w').close()\n"
        assert (await box.run("python -", stdin=program.encode())).exit_code == 0
        assert len(await box.list_files(limit=100)) == 100
        try:
            await box.tree.scan(limit=1000)
        except OSError as error:
            assert error.errno == errno.E2BIG
        else:
            raise AssertionError("a scan without end")


@check
async def sparse_files(stand: Stand) -> None:
    await stand.refused("os.truncate(open('sparse', 'w').name, 1 << 40)", "EFBIG")
    async with stand.another(file_size=None) as box:
        await box.run("truncate -s 1T sparse")
        try:
            await box.read_file("sparse")
        except OSError as error:
            assert error.errno == errno.EFBIG
        else:
            raise AssertionError("a terabyte was read")


@check
async def buffers_of_the_kernel(stand: Stand) -> None:
    """Memory that is no process': of pipes, queues of messages, signals, locked pages."""
    shown = await stand.python(
        "held = 0\n"
        "try:\n"
        "    for _ in range(1500):\n"
        "        out = os.pipe()[1]\n"
        "        os.set_blocking(out, False)\n"
        "        held += fcntl.fcntl(out, 1031, 1 << 20)\n"
        "except OSError: pass\n"
        "print(held <= 1 << 28)\n"
    )
    assert shown == "True"
    await stand.refused(
        "fcntl.fcntl(os.pipe()[1], 1031, 1 << 28)\ncheck(libc.mlockall(3)) or bytearray(1 << 26)",
        *("EPERM", "ENOMEM", "EAGAIN"),
    )


@check
async def arguments_and_variables(stand: Stand) -> None:
    await stand.refused("os.execv('/bin/true', ['x' * 131072] * 100)", "E2BIG")
    large = await stand.run("x=$(head -c 3000000 /dev/zero | tr '\\0' a); /bin/echo $x | wc -c")
    assert b"Argument list too long" in large.stderr
