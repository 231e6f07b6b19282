"""Processes of the host, the agent program's, and what a command may make of its own."""

from __future__ import annotations

import contextlib
import os

from agent_magics.sandbox import SandboxGone

from .stand import PRELUDE, Stand, check


@check
async def processes_of_the_host(stand: Stand) -> None:
    pids = [int(p) for p in (await stand.output("ls /proc | grep -E '^[0-9]+$'")).split()]
    assert len(pids) < 20
    await stand.refused(f"os.kill({os.getpid() + 100_000}, 0)", "ESRCH")


@check
async def the_agent_program(stand: Stand) -> None:
    await stand.refused(
        """
        open('/proc/1/mem', 'rb')
        os.listdir('/proc/1/fd')
        os.readlink('/proc/1/exe')
        os.listdir('/proc/1/root')
        open(f'/proc/{os.getppid()}/mem', 'rb')
        check(libc.ptrace(16, 1, 0, 0))
        check(libc.ptrace(0x4206, 1, 0, 0))
        call(438, os.pidfd_open(1), 0, 0)
        """,
        "EACCES",
        "EPERM",
    )


@check
async def its_supervisor(stand: Stand) -> None:
    shown = await stand.output("ls -l /proc/$PPID/fd; cat /proc/$PPID/mem; cat /proc/$PPID/environ")
    assert shown.count("Permission denied") >= 3 and "pipe:" not in shown


@check
async def descriptors_are_not_inherited(stand: Stand) -> None:
    assert (await stand.output("ls /proc/$$/fd; true")).split() == ["0", "1", "2"]


@check
async def signals_to_the_agent_program(stand: Stand) -> None:
    shown = await stand.output(
        "for s in KILL TERM STOP SEGV INT; do kill -$s 1; done; sleep 0.1; echo on"
    )
    assert shown == "on\n" and stand.box.alive


@check
async def killing_everything(stand: Stand) -> None:
    with contextlib.suppress(SandboxGone):
        await stand.run("kill -9 -1; echo survived", timeout=30)
    assert (await stand.run("echo again")).stdout == b"again\n"


@check
async def killing_its_supervisor(stand: Stand) -> None:
    result = await stand.run("(setsid sleep 61 &); kill -9 $PPID; sleep 62", timeout=30)
    assert not result.timed_out
    assert (await stand.output("pgrep -x sleep || echo none")) == "none\n"


@check
async def stopping_its_supervisor(stand: Stand) -> None:
    result = await stand.run("kill -STOP $PPID; echo x; sleep 60", timeout=0.5)
    assert result.timed_out and result.duration < 30
    assert (await stand.output("pgrep -x sleep || echo none")) == "none\n"


@check
async def raising_limits(stand: Stand) -> None:
    names = ("NPROC", "DATA", "FSIZE", "NOFILE")
    code = "\n".join(
        f"resource.setrlimit(resource.RLIMIT_{name}, (resource.RLIM_INFINITY,) * 2)"
        for name in names
    )
    await stand.refused(code, "ValueError", "EPERM")
    await stand.refused(
        """
        os.nice(-5)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        time.clock_settime(time.CLOCK_REALTIME, 0)
        socket.sethostname('x')
        """,
        "EPERM",
        "EACCES",
    )


@check
async def memory_of_other_processes(stand: Stand) -> None:
    """The agent program's and a supervisor's, by every call that reads or writes it."""
    await stand.refused(
        """
        call(310 if X86 else 270, 1, 0, 0, 0, 0, 0)
        call(311 if X86 else 271, os.getppid(), 0, 0, 0, 0, 0)
        open('/proc/1/mem', 'wb')
        open('/proc/1/maps').read()
        open('/proc/1/clear_refs', 'w').write('1')
        os.readlink('/proc/1/cwd')
        """,
        *("EPERM", "EACCES"),
    )


@check
async def descriptors_of_other_processes(stand: Stand) -> None:
    """Its line to the host is the one thing that the agent program has."""
    shown = await stand.run(
        "python - $PPID",
        stdin=(
            PRELUDE + "for pid in (1, int(sys.argv[1])):\n"
            "    for fd in range(3):\n"
            "        attempt(lambda: call(438, os.pidfd_open(pid), fd, 0))\n"
            "        attempt(lambda: os.open(f'/proc/{pid}/fd/{fd}', os.O_WRONLY))\n"
        ).encode(),
    )
    assert set(shown.stdout.split()) <= {b"EPERM", b"EACCES"}, shown
    assert len(shown.stdout.split()) == 12


@check
async def attaching_to_the_agent_program(stand: Stand) -> None:
    code = "\n".join(f"check(libc.ptrace({request}, 1, 0, 0))" for request in (16, 0x4206))
    await stand.refused(code, "EPERM", "EACCES")
    assert stand.box.alive


@check
async def dumps_of_memory(stand: Stand) -> None:
    await stand.refused(
        "resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))", "ValueError", "EPERM"
    )
    shown = await stand.output("bash -c 'kill -SEGV $$'; ls; rm -f core*")
    assert "core" not in shown.replace("core dumped", ""), shown


@check
async def out_of_sight_of_a_timeout(stand: Stand) -> None:
    """Forked twice, in a session of its own, a reaper of its own, deaf to signals: ended."""
    program = (
        "libc.prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
        "for number in range(1, 32):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except OSError: pass\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: os.execvp('sleep', ['sleep', '77'])\n"
        "    time.sleep(78)\n"
        "time.sleep(79)\n"
    )
    result = await stand.run("python -", stdin=(PRELUDE + program).encode(), timeout=0.7)
    assert result.timed_out
    assert await stand.output("pgrep -x 'sleep' || echo none") == "none\n"


@check
async def being_spared_when_memory_ends(stand: Stand) -> None:
    await stand.refused(
        "os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')\n"
        "os.write(os.open('/proc/1/oom_score_adj', os.O_WRONLY), b'1000')\n",
        *("EACCES", "EPERM"),
    )
    assert int(await stand.output("cat /proc/self/oom_score_adj")) >= 800


@check
async def running_before_others(stand: Stand) -> None:
    await stand.refused(
        """
        os.setpriority(os.PRIO_PROCESS, 0, -1)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        call(314 if X86 else 274, 0, (ctypes.c_uint64 * 6)(48 | 6 << 32, 0, 0, 9**7, 9**8, 9**8), 0)
        call(251 if X86 else 30, 1, 0, 1 << 13)
        """,
        *("EPERM", "EACCES"),
    )
