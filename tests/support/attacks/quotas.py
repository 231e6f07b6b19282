"""
Taking what the kernel counts per user, so that nothing is left for the user outside.

The container runs as the user who runs these checks, or, where that is root, as one of its own. In
each check it takes what it gets and holds it while the user outside does what an editor does.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent_magics.sandbox import ExecResult

from .stand import PRELUDE, Stand, check

libc = ctypes.CDLL(None, use_errno=True)

READY = "ready"


@asynccontextmanager
async def holding(
    stand: Stand, code: str, times: int = 1, *, may_end: bool = False
) -> AsyncIterator[list[int]]:
    """
    What so many programs in the container could take: while they hold it, the body runs.

    `take(f)` in the code calls f until it fails and counts. With `may_end` nothing is what programs
    took that were killed first.
    """
    await stand.box.start()
    said: dict[int, bytearray] = {number: bytearray() for number in range(times)}
    ready = asyncio.Event()

    def run(number: int) -> asyncio.Task[ExecResult]:
        def hear(_: str, data: bytes) -> None:
            said[number] += data
            if all(READY.encode() in text for text in said.values()):
                ready.set()

        program = PRELUDE + TAKE + code + HOLD
        return asyncio.create_task(
            stand.box.run("exec python3 -S -", stdin=program.encode(), timeout=110, on_output=hear)
        )

    tasks = [run(number) for number in range(times)]
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({waiting, *tasks}, timeout=110, return_when=asyncio.FIRST_COMPLETED)
        ended = [task.result() for task in tasks if task.done()]
        if may_end and ended and all(result.exit_code == 137 for result in ended):
            yield [0]
            return
        assert ready.is_set(), f"the attack itself broke: {ended} {said}"
        yield [int(text.split()[0]) for text in said.values()]
    finally:
        waiting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


TAKE = """
held = []
def take(f, most=1 << 20):
    n = 0
    try:
        while n < most:
            held.append(check(f()) if f.__name__ != "quiet" else f())
            n += 1
    except OSError:
        pass
    return n
"""
HOLD = f"""
print({READY!r}, flush=True)
time.sleep(600)
"""


def outside(what: str, act: Callable[[], object]) -> None:
    """The user does it beside the container, without root's exemptions where it has none."""
    try:
        act()
    except OSError as error:
        raise AssertionError(f"nothing is left: {what}: {error}") from None


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@check
async def inotify_instances(stand: Stand) -> None:
    async with holding(
        stand, "print(take(lambda: libc.inotify_init1(0)), flush=True)\n", 4
    ) as took:
        assert 16 <= sum(took) <= 64, took

        def watch() -> None:
            fds = [_checked(libc.inotify_init1(0)) for _ in range(8)]
            for fd in fds:
                os.close(fd)

        outside("inotify instances", watch)


@check
async def inotify_watches(stand: Stand) -> None:
    most = int(Path("/proc/sys/user/max_inotify_watches").read_text())
    code = (
        "fd = libc.inotify_init1(0)\n"
        "os.makedirs('/tmp/w', exist_ok=True); n = 0\n"
        "while n < 8000:\n"
        "    path = f'/tmp/w/{n}'.encode(); open(path, 'w').close()\n"
        "    if libc.inotify_add_watch(fd, path, 2) < 0: break\n"
        "    n += 1\n"
        "print(open('/run/quotas/max_inotify_watches').read().strip(), flush=True)\n"
    )
    async with holding(stand, code) as took:
        assert 0 < took[0] <= max(1024, most // 4), took
    await stand.run("rm -rf /tmp/w")


@check
async def other_groups_of_watches(stand: Stand) -> None:
    code = "print(take(lambda: libc.syscall(300 if X86 else 262, 0x200, 0)), flush=True)\n"
    async with holding(stand, code) as took:
        assert took[0] <= 32, took


@check
async def queued_signals(stand: Stand) -> None:
    code = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(35, 60))\n"
        "print(take(lambda: libc.sigqueue(os.getpid(), 40, None)), flush=True)\n"
    )
    async with holding(stand, code, 3) as took:
        assert sum(took) <= 3 * 1024, took

        def queue() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [41])
            me = ctypes.c_ulong(threading.get_ident())  # other threads do not block it
            failed = [libc.pthread_sigqueue(me, 41, None) for _ in range(16)]
            while signal.sigtimedwait([41], 0) is not None:
                pass
            if any(failed):
                raise OSError(max(failed), os.strerror(max(failed)))

        outside("queued signals", queue)


@check
async def signals_queued_for_the_supervisor(stand: Stand) -> None:
    """It stands still, so that what is sent to it stays in its queue; or it dies of it."""
    code = (
        "boss = os.getppid()\n"
        "os.kill(boss, signal.SIGSTOP)\n"
        "print(take(lambda: libc.sigqueue(boss, 40, None), 5000), flush=True)\n"
    )
    async with holding(stand, code, may_end=True) as took:
        assert took[0] <= 1024, took


@check
async def timers(stand: Stand) -> None:
    code = (
        "t = ctypes.c_void_p()\n"
        "print(take(lambda: libc.timer_create(0, None, ctypes.byref(t))), flush=True)\n"
    )
    async with holding(stand, code) as took:
        assert took[0] <= 1024, took


@check
async def locked_memory(stand: Stand) -> None:
    code = (
        "def lock():\n"
        "    seg = check(libc.shmget(0, 1 << 18, 0o1600))\n"
        "    return check(libc.shmctl(seg, 11, None))\n"
        "print(take(lock, 100), flush=True)\n"
    )
    async with holding(stand, code) as took:
        assert took[0] <= 4, took


@check
async def queues_of_messages(stand: Stand) -> None:
    code = (
        "try: rt = ctypes.CDLL('librt.so.1', use_errno=True)\n"
        "except OSError: rt = libc\n"
        "make = lambda: rt.mq_open(f'/q{len(held)}'.encode(), 0o102, 0o600, None)\n"
        "print(take(make), flush=True)\n"
    )
    async with holding(stand, code) as took:
        assert took[0] <= 4, took


PASS = """
held_pairs = []
def quiet():
    a, b = socket.socketpair()
    held_pairs.append((a, b))
    fds = struct.pack('60i', *([0] * 60))
    a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
print(take(quiet) * 60, flush=True)
"""


@check
async def descriptors_in_flight(stand: Stand) -> None:
    async with holding(stand, PASS, 3) as took:
        assert sum(took) > 0

        def send() -> None:
            first, second = socket.socketpair()
            with first, second:
                socket.send_fds(first, [b"x"], [0, 1, 2])
                _, fds, _, _ = socket.recv_fds(second, 1, 3)
                for fd in fds:
                    os.close(fd)

        # as a program that was started with the usual 1024 open files
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        try:
            outside("descriptors in flight", send)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@check
async def contexts_of_asynchronous_io(stand: Stand) -> None:
    """They are counted for the whole machine."""
    await stand.refused(
        "call(206 if X86 else 0, 1000, ctypes.byref(ctypes.c_void_p()))", "ENOSYS", "EPERM"
    )


@check
async def open_files_of_all_processes(stand: Stand) -> None:
    code = (
        "for _ in range(100):\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(400): os.open('/dev/null', 0)\n"
        "        time.sleep(600); os._exit(0)\n"
        "time.sleep(600)\n"
    )
    async with stand.another(open_files=420) as box:
        result = await box.run("python3 -S -", stdin=(PRELUDE + code).encode(), timeout=110)
        if os.stat("/proc/self/fd").st_size:  # the kernel counts them
            assert result.killed_by == "open files", result
        # the user waits for something
        with select.epoll() as watch:
            outside("epoll", lambda: watch.register(os.pipe()[0]))


@check
async def names_on_the_disk(stand: Stand) -> None:
    code = "for n in range(150_000): open(f'f{n}', 'w').close()\ntime.sleep(600)\n"
    async with stand.another(disk=300 << 20) as box:
        result = await box.run("python3 -S -", stdin=(PRELUDE + code).encode(), timeout=110)
        assert result.killed_by == "files", result
        left = await box.run("find . -delete; ls | wc -l", timeout=60)
        assert left.stdout == b"0\n" and left.killed_by is None, left


@check
async def names_in_shared_memory(stand: Stand) -> None:
    code = "for n in range(40_000): open(f'/dev/shm/{n}', 'w').close()\ntime.sleep(600)\n"
    async with stand.another() as box:
        result = await box.run("python3 -S -", stdin=(PRELUDE + code).encode(), timeout=110)
        assert result.killed_by == "files", result
        left = await box.run("find /dev/shm -type f -delete; ls /dev/shm | wc -l", timeout=60)
        assert left.stdout == b"0\n", left


@check
async def limits_that_are_given_back(stand: Stand) -> None:
    """What bounded the container can't be turned by what runs in it."""
    await stand.refused(
        "open('/run/quotas/max_inotify_instances', 'w').write('1000')\n"
        "open('/proc/sys/user/max_inotify_instances', 'w').write('1000')\n"
        "resource.setrlimit(resource.RLIMIT_SIGPENDING, (9999, 9999))\n"
        "resource.setrlimit(resource.RLIMIT_MSGQUEUE, (1 << 30, 1 << 30))\n",
        *("EACCES", "EPERM", "EROFS", "ValueError"),
    )
