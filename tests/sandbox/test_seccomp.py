"""The system call filter, by running its program as the kernel does."""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Callable

import pytest

from agent_magics.sandbox import Sandbox
from agent_magics.sandbox._seccomp import seccomp_filter
from agent_magics.sandbox._syscalls import ABSENT, ALLOWED, CHECKED, REFUSED

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW = 0
I386, ARM, X32 = 0x40000003, 0x40000028, 0x40000000

Decide = Callable[..., int]


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setattr(platform, "machine", lambda: name)
    return name


@pytest.fixture
def decide(machine: str) -> Decide:
    """The error of a call, 0 when it is allowed."""
    program = seccomp_filter()
    assert program is not None
    instructions = list(struct.iter_unpack("<HBBI", program))
    assert len(instructions) < 4096

    def decide(number: int, *arguments: int, arch: int = ARCHITECTURES[machine]) -> int:
        padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
        data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
        accumulator, at = 0, 0
        while True:
            code, true, false, value = instructions[at]
            at += 1
            if code == 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            elif code == 0x05:
                at += value
            elif code == 0x06:
                return ALLOW if value == 0x7FFF0000 else value & 0xFFFF
            else:
                holds = {
                    0x15: accumulator == value,
                    0x35: accumulator >= value,
                    0x45: bool(accumulator & value),
                }[code]
                at += true if holds else false

    return decide


def column(machine: str) -> int:
    return list(ARCHITECTURES).index(machine)


def test_every_number(decide: Decide, machine: str) -> None:
    expected = {}
    for table, error in ((ALLOWED, ALLOW), (REFUSED, errno.EPERM), (ABSENT, errno.ENOSYS)):
        for numbers in table.values():
            expected[numbers[column(machine)]] = error
    checked = {numbers[column(machine)] for numbers in CHECKED.values()}
    for number in (*range(1000), 2**20, 2**30 - 1, 2**31, 2**32 - 1):
        if number not in checked:
            assert decide(number) == expected.get(number, errno.ENOSYS), number
            assert decide(number, *[2**64 - 1] * 6) == expected.get(number, errno.ENOSYS), number


def test_no_number_stands_twice(machine: str) -> None:
    tables = (ALLOWED, REFUSED, ABSENT, CHECKED)
    numbers = [found for table in tables for n in table.values() if (found := n[column(machine)])]
    assert len(numbers) == len(set(numbers))


def test_other_conventions(decide: Decide, machine: str) -> None:
    for number in range(500):
        for arch in {I386, ARM, 0, *ARCHITECTURES.values()} - {ARCHITECTURES[machine]}:
            assert decide(number, arch=arch) == errno.EPERM
        assert decide(X32 | number) == errno.ENOSYS


def test_new_namespaces(decide: Decide, machine: str) -> None:
    clone = CHECKED["clone"][column(machine)]
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(clone, flag | 17) == errno.EPERM
    assert decide(clone, 0x3D0F00) == ALLOW  # a thread
    assert decide(clone, 17) == ALLOW and decide(clone, 0x1200011) == ALLOW  # a process


def test_arguments(decide: Decide, machine: str) -> None:
    socket, ioctl, personality = (
        CHECKED[name][column(machine)] for name in ("socket", "ioctl", "personality")
    )
    allowed = [family for family in range(64) if decide(socket, family) == ALLOW]
    assert allowed == [1, 2, 10, 16] and decide(socket, 40) == errno.EAFNOSUPPORT
    assert decide(socket, (1 << 32) | 40) == errno.EAFNOSUPPORT
    assert decide(ioctl, 0, 0x5412) == decide(ioctl, 0, 0x541C) == errno.EPERM
    assert decide(ioctl, 0, (1 << 32) | 0x5412) == errno.EPERM
    assert decide(ioctl, 0, 0x5401) == decide(ioctl, 0, 0x5413) == ALLOW
    good = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
    assert [decide(personality, value) for value in good] == [ALLOW] * 5
    assert {decide(personality, 1 << bit) for bit in range(18, 32)} == {errno.EPERM}


def test_no_other_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert seccomp_filter() is None


PROGRAM = """
import asyncio, ctypes, mmap, multiprocessing, os, select, signal, socket, sqlite3, subprocess
import tempfile, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def square(x):
    return x * x

def main():
    assert list(ThreadPoolExecutor(4).map(square, range(9)))[-1] == 64
    for kind in ("fork", "spawn", "forkserver"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(kind)) as pool:
            assert list(pool.map(square, range(5)))[-1] == 16
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, [3]) == [9]
    shared = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    shared.close(), shared.unlink()
    multiprocessing.Semaphore().acquire()

    async def tasks():
        process = await asyncio.create_subprocess_exec("true")
        server = await asyncio.start_unix_server(lambda r, w: w.close(), "s")
        reader, writer = await asyncio.open_unix_connection("s")
        writer.close(), server.close()
        return await process.wait()

    assert asyncio.run(tasks()) == 0
    with open("f", "w+b") as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[:3] = b"abc"
            memory.flush()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.copy_file_range(file.fileno(), os.open("g", os.O_CREAT | os.O_RDWR), 100)
        os.fsync(file.fileno())
    base = sqlite3.connect("d")
    base.execute("pragma journal_mode=wal"), base.execute("create table t(x)"), base.commit()
    os.eventfd(0), os.pidfd_open(os.getpid()), select.epoll(), select.poll(), os.getrandom(4)
    os.sched_getaffinity(0), os.sched_yield(), os.getxattr, os.sync(), os.nice(0)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.inotify_init1(0) > 0 and libc.timerfd_create(1, 0) > 0
    assert libc.signalfd(-1, ctypes.create_string_buffer(128), 0) > 0
    signal.setitimer(signal.ITIMER_REAL, 100, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    left, right = socket.socketpair()
    socket.send_fds(left, [b"x"], [0]), socket.recv_fds(right, 1, 1)
    with tempfile.TemporaryFile() as file:
        os.sendfile(right.fileno(), file.fileno(), 0, 1)
    print("all of it")

if __name__ == "__main__":
    import multiprocessing.shared_memory
    main()
"""


@pytest.mark.container
async def test_what_programs_use(sandbox: Sandbox) -> None:
    await sandbox.write_file("program.py", PROGRAM.encode())
    result = await sandbox.run("python program.py", timeout=60)
    assert result.stdout == b"all of it\n", result.stderr.decode()
    script = (
        "git init -q r && cd r && git commit -q --allow-empty -m x && git gc -q && git fsck && "
        "tar cf a.tar . && find . -newer a.tar; ls -l | sort > s; cp -a s t; mv t u; sleep 0.01; "
        "timeout 5 true; nice true; nohup true; flock s true; stat s >/dev/null; echo done"
    )
    result = await sandbox.run(
        script,
        env={f"GIT_{w}_{n}": "a" for w in ("AUTHOR", "COMMITTER") for n in ("NAME", "EMAIL")},
    )
    assert result.stdout.endswith(b"done\n"), result.stderr.decode()
    assert b"Operation not permitted" not in result.stderr, result.stderr.decode()
