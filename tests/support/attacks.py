"""
Attacks from inside a container, as a program of its own, so that any user can run it.

It uses the standard library only. Every check runs commands in a real container on behalf of the
user who runs the program and raises AssertionError when the attack works. Result: one JSON object
on stdout, from the name of each check to what went wrong, or null.

    python attacks.py DIRECTORY     # a directory of one's own; ATTACK_DECOY must be set
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from agent_magics.sandbox import ExecResult, Limits, Network, Sandbox, SandboxGone, open_sandbox

DECOY = os.environ.get("ATTACK_DECOY", "")
"""A secret of the host's: in the environment, in files, in a process."""

Check = Callable[["Stand"], Awaitable[None]]
CHECKS: list[Check] = []


class Stand:
    """One container and a host full of decoys around it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.home = Path(os.path.expanduser("~"))
        self.limits = Limits(
            memory=700 << 20,
            process_memory=400 << 20,
            processes=150,
            background=20,
            file_size=50 << 20,
            disk=150 << 20,
            shared_memory=32 << 20,
        )
        self.root = base / "session"
        self.box = open_sandbox(self.root, limits=self.limits)

    async def run(
        self, command: str, *, timeout: float = 15, stdin: bytes | None = None
    ) -> ExecResult:
        await self.box.start()
        return await self.box.run(command, timeout=timeout, stdin=stdin)

    async def output(self, command: str) -> str:
        result = await self.run(command)
        assert not result.timed_out, "timed out"
        return (result.stdout + result.stderr).decode("utf-8", "replace")

    async def python(self, code: str, *, timeout: float = 15) -> str:
        """What a Python program prints; it must run to its end."""
        result = await self.run("python -", stdin=(PRELUDE + code).encode(), timeout=timeout)
        assert result.exit_code == 0, f"the attack itself broke: {result}"
        return result.stdout.decode().strip()

    async def refused(self, code: str, *errors: str) -> None:
        """Each line of code must fail with one of the errors."""
        lines = [line for line in code.strip().splitlines() if line.strip()]
        program = "".join(f"attempt(lambda: {line.strip()})\n" for line in lines)
        answers = (await self.python(program)).splitlines()
        assert len(answers) == len(lines), answers
        for line, answer in zip(lines, answers, strict=True):
            assert answer in errors, f"{line.strip()}: {answer}, expected {' or '.join(errors)}"


PRELUDE = """
import ctypes, errno, fcntl, mmap, os, pty, resource, signal, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(f):
    try:
        print("SUCCEEDED", repr(f()))
    except OSError as e:
        print(errno.errorcode.get(e.errno, e.errno))
    except ValueError as e:
        print("ValueError")
def call(number, *args):
    r = libc.syscall(number, *args)
    if r < 0:
        raise OSError(ctypes.get_errno(), "")
    return r
def check(r):
    if r < 0:
        raise OSError(ctypes.get_errno(), "")
    return r
X86 = os.uname().machine == "x86_64"
"""


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


# --- secrets


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
async def files_of_the_home(stand: Stand) -> None:
    secret = stand.home / ".ssh/id_decoy"
    assert DECOY in secret.read_text()
    shown = await stand.output(f"cat {secret}; ls -la {stand.home} {stand.home}/.ssh")
    assert "No such file" in shown and DECOY not in shown and "victim" not in shown


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


@check
async def tmp_of_the_host(stand: Stand) -> None:
    assert list(Path("/tmp").iterdir())
    assert (
        await stand.output("ls -A /tmp /var/tmp/ /dev/shm | grep -v -e cache -e ':$'")
    ).strip() == ""


@check
async def account_files(stand: Stand) -> None:
    await stand.refused(
        "open('/etc/shadow')\nopen('/etc/sudoers')\nopen('/etc/machine-id')", "ENOENT"
    )
    users = (await stand.output("cut -d: -f1 /etc/passwd")).split()
    assert users == ["root", "agent", "nobody"]


@check
async def kernel_memory_and_symbols(stand: Stand) -> None:
    shown = await stand.python(
        "for p in ('kcore','kallsyms','keys','key-users','kmsg','timer_list','vmallocinfo'):\n"
        "    try: print(p, len(open('/proc/'+p,'rb').read(100)))\n"
        "    except OSError as e: print(p, 0)\n"
    )
    assert all(line.endswith(" 0") for line in shown.splitlines()), shown


# --- writing where nothing may be written


@check
async def system_directories(stand: Stand) -> None:
    places = f"/usr /etc /bin / /run /dev /var {Path(sys.executable).parent} {sys.prefix}"
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
async def everything_below_proc_sys(stand: Stand) -> None:
    shown = await stand.python(
        "n = 0\n"
        "for top, _, files in os.walk('/proc/sys'):\n"
        "    for f in files:\n"
        "        n += 1\n"
        "        try: os.close(os.open(os.path.join(top, f), os.O_WRONLY)); print('OPEN', top, f)\n"
        "        except OSError: pass\n"
        "print('tried', n > 100)\n"
    )
    assert shown == "tried True"


@check
async def core_pattern(stand: Stand) -> None:
    await stand.refused(
        "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/x')", "EROFS", "EACCES"
    )


@check
async def global_files_of_proc(stand: Stand) -> None:
    shown = await stand.python(
        "for top, dirs, files in os.walk('/proc'):\n"
        "    skip = ('self', 'thread-self', 'sys')\n"
        "    dirs[:] = [d for d in dirs if not d.isdigit() and d not in skip]\n"
        "    for f in files:\n"
        "        p = os.path.join(top, f)\n"
        "        if os.path.islink(p) or os.stat(p).st_rdev == os.makedev(1, 3): continue\n"
        "        try: os.close(os.open(p, os.O_WRONLY | os.O_NONBLOCK)); print('OPEN', p)\n"
        "        except OSError: pass\n"
    )
    assert shown == ""


@check
async def mounts(stand: Stand) -> None:
    rows = [line.split() for line in (await stand.output("cat /proc/self/mountinfo")).splitlines()]
    writable = {row[4] for row in rows if "rw" in row[5].split(",")}
    assert writable <= {
        *("/workspace", "/tmp", "/proc", "/dev/shm", "/dev/pts"),
        *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"),
    }, writable
    assert all("nosuid" in row[5] for row in rows), rows
    assert not any(row[4].startswith("/sys") for row in rows)


@check
async def mount_calls(stand: Stand) -> None:
    await stand.refused(
        """
        check(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))
        check(libc.mount(None, b'/usr', None, 4096 | 32, None))
        check(libc.umount2(b'/proc/sys', 2))
        check(libc.pivot_root(b'/workspace', b'/workspace'))
        call(428, -100, b'/usr', 1)
        call(430, b'tmpfs', 0)
        os.chroot('/workspace')
        """,
        "EPERM",
    )


@check
async def new_namespaces(stand: Stand) -> None:
    flags = ("0x10000000", "0x00020000", "0x40000000", "0x20000000", "0x80")
    code = "\n".join(f"check(libc.unshare({flag}))" for flag in flags)
    code += "\ncall(56 if X86 else 220, 0x10000000 | 17, 0, 0, 0, 0)"
    code += "\ncheck(libc.setns(os.open('/proc/1/status', 0), 0))"
    await stand.refused(code, "EPERM")
    await stand.refused("call(435, 0, 0)", "ENOSYS")


# --- privileges and devices


@check
async def no_privileges(stand: Stand) -> None:
    shown = await stand.output("grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status")
    fields = dict(line.split(":") for line in shown.splitlines())
    values = {name: int(value.strip(), 16) for name, value in fields.items()}
    assert values.pop("NoNewPrivs") == 1 and values.pop("Seccomp") == 2
    assert values and not any(values.values()), values


@check
async def becoming_another(stand: Stand) -> None:
    code = "os.setuid(0)\nos.setgid(0)\nos.setgroups([0])\nos.chown('/workspace', 0, 0)"
    await stand.refused(code, "EPERM", "EINVAL")


@check
async def a_different_user_outside(stand: Stand) -> None:
    await stand.run("touch mine")
    owner = (stand.root / "workspace/mine").stat().st_uid
    assert owner != 0
    assert owner == os.geteuid() or os.geteuid() == 0


@check
async def device_nodes(stand: Stand) -> None:
    await stand.refused(
        """
        os.mknod('/workspace/m', stat.S_IFCHR | 0o666, os.makedev(1, 1))
        os.mknod('/tmp/b', stat.S_IFBLK | 0o666, os.makedev(254, 0))
        """,
        "EPERM",
    )
    names = set((await stand.output("ls /dev")).split())
    assert names <= {
        *("console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm"),
        *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
    }, names


@check
async def hard_links_to_the_system(stand: Stand) -> None:
    await stand.refused("os.link('/usr/bin/env', '/workspace/env')", "EXDEV", "EPERM")


@check
async def setuid_files_stay_behind_closed_doors(stand: Stand) -> None:
    await stand.run("cp /bin/sh shell; chmod 4777 shell")
    for path in (stand.root, stand.root / "workspace", stand.root / "tmp"):
        assert path.stat().st_mode & 0o077 == 0


# --- network and other ways out


@check
async def loopback_of_the_host(stand: Stand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # from here it works
        await stand.refused(f"socket.create_connection(('127.0.0.1', {port}), 2)", "ECONNREFUSED")


@check
async def other_networks(stand: Stand) -> None:
    await stand.refused("socket.create_connection(('203.0.113.1', 80), 2)", "ENETUNREACH")
    await stand.refused("socket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53))", "ENETUNREACH")
    interfaces = await stand.python("print(sorted(n for _, n in socket.if_nameindex()))")
    assert interfaces == "['lo']"


@check
async def own_loopback_works(stand: Stand) -> None:
    shown = await stand.python(
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(s.getsockname()); print('connected')\n"
    )
    assert shown == "connected"


@check
async def abstract_sockets_of_the_host(stand: Stand) -> None:
    name = f"decoy-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("\0" + name)
        server.listen()
        client.connect("\0" + name)
        await stand.refused(f"socket.socket(1).connect('\\0' + {name!r})", "ECONNREFUSED")


@check
async def socket_families(stand: Stand) -> None:
    code = "\n".join(f"socket.socket({family}, 1)" for family in (40, 38, 29, 31, 44))
    await stand.refused(code, "EAFNOSUPPORT")
    await stand.refused("socket.socket(17, 3)", "EAFNOSUPPORT")
    await stand.refused("socket.socket(2, 3, 1)", "EPERM")


@check
async def forbidden_system_calls(stand: Stand) -> None:
    await stand.refused(
        """
        call(248 if X86 else 217, b'user', b'x', b'y', 1, -2)
        call(250 if X86 else 219, 0, -3, 0)
        call(249 if X86 else 218, b'user', b'x', 0, 0)
        call(321 if X86 else 280, 0, 0, 0)
        call(298 if X86 else 241, 0, 0, -1, -1, 0)
        call(323 if X86 else 282, 0)
        call(304 if X86 else 265, -100, 0, 0)
        call(103 if X86 else 116, 3, 0, 0)
        call(310 if X86 else 270, os.getpid(), 0, 0, 0, 0, 0)
        """,
        "EPERM",
    )


@check
async def absent_system_calls(stand: Stand) -> None:
    await stand.refused(
        """
        call(425, 8, ctypes.create_string_buffer(256))
        call(426, 0, 0, 0, 0, 0)
        call(319 if X86 else 279, b'x', 0)
        call(447, 0)
        """,
        "ENOSYS",
    )


@check
async def other_call_conventions(stand: Stand) -> None:
    if os.uname().machine != "x86_64":
        return
    code = (
        "m = mmap.mmap(-1, 4096, prot=7)\n"
        "m.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20 (getpid); int 0x80; ret
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
        "print(f())\n"
    )
    assert await stand.python(code) == "-1"
    await stand.refused("call(0x40000000 | 39)", "ENOSYS")


@check
async def terminal_injection(stand: Stand) -> None:
    await stand.refused("fcntl.ioctl(pty.openpty()[1], 0x5412, b'x')", "EPERM")
    await stand.refused("open('/dev/tty')", "ENXIO")


@check
async def namespaces_are_its_own(stand: Stand) -> None:
    kinds = ("pid", "net", "ipc", "uts", "user", "mnt")
    inside = (
        await stand.output("readlink " + " ".join(f"/proc/self/ns/{k}" for k in kinds))
    ).split()
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert len(inside) == len(outside)
    assert not set(inside) & set(outside)


# --- the agent program and the host's processes


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
async def forged_frames_on_stdout(stand: Stand) -> None:
    forged = (
        "import os, struct\n"
        "for kind in range(256):\n"
        "    for n in range(8): os.write(1, struct.pack('>BII', kind, n, 2) + b'{}')\n"
        "os._exit(5)\n"
    )
    result = await stand.run("python -", stdin=forged.encode())
    assert result.exit_code == 5 and len(result.stdout) == 256 * 8 * 11
    assert stand.box.alive


# --- limits


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


# --- files as the host reads and writes them


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
async def links_swapped_in_time(stand: Stand) -> None:
    await stand.box.start()
    swap = (
        "os.makedirs('real/.ssh')\n"
        "open('real/.ssh/id_decoy', 'w').write('harmless')\n"
        f"os.symlink({str(stand.home)!r}, 'evil')\n"
        "end = time.time() + 1.5\n"
        "while time.time() < end: check(libc.renameat2(-100, b'real', -100, b'evil', 2))\n"
    )
    swapper = asyncio.create_task(stand.run("python -", stdin=(PRELUDE + swap).encode()))
    good = 0
    while not swapper.done():
        with contextlib.suppress(OSError):
            content = await stand.box.read_file("real/.ssh/id_decoy")
            assert DECOY.encode() not in content
            good += content == b"harmless"
        with contextlib.suppress(OSError):
            await stand.box.write_file("real/victim", b"overwritten")
    assert (await swapper).exit_code == 0
    assert good > 10
    assert (stand.home / "victim").read_text() == "untouched"


@check
async def removing_through_links(stand: Stand) -> None:
    box = open_sandbox(stand.base / "doomed")
    await box.start()
    await box.run(f"ln -s {stand.home} home; mkdir -p a/b; ln -s {stand.home} a/b/home; chmod 0 a")
    await box.destroy()
    assert not (stand.base / "doomed").exists()
    assert (stand.home / "victim").read_text() == "untouched"


# --- the way to the network


@contextlib.asynccontextmanager
async def networked(stand: Stand) -> AsyncIterator[tuple[Sandbox, list[str]]]:
    """Another container, which may reach whatever is public; and what it asked for."""
    asked: list[str] = []

    async def permit(host: str, port: int) -> str:
        asked.append(host)
        return ""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host.endswith(".rebound.example") else [host]

    box = open_sandbox(stand.base / "networked", network=Network(permit, resolve=resolve))
    await box.start()
    try:
        yield box, asked
    finally:
        await box.destroy()


@contextlib.contextmanager
def service_of_the_host() -> Iterator[tuple[int, list[object]]]:
    """Something that listens on all addresses of this machine; its port and who came."""
    came: list[object] = []
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        listener.setblocking(False)

        def look() -> None:
            with contextlib.suppress(BlockingIOError):
                connection, address = listener.accept()
                connection.close()
                came.append(address)

        yield listener.getsockname()[1], came
        look()


@check
async def host_through_the_proxy(stand: Stand) -> None:
    spellings = (
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0", "::1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "0.0.0.0"),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "LOCALHOST.", "a.localhost"),
        *("x.rebound.example", "127.0.0.1%00.example.org", "a@127.0.0.1", "127.0.0.1#.example"),
        *("169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "100.100.100.200", own_address()),
    )
    with service_of_the_host() as (port, came):
        program = (
            "for host in sys.argv[2:]:\n"
            "  for line in (f'CONNECT {host}:{sys.argv[1]}', f'GET http://{host}:{sys.argv[1]}/'):\n"
            "    with socket.create_connection(('127.0.0.1', 3128), 10) as s:\n"
            "      s.sendall(f'{line} HTTP/1.1\\r\\n\\r\\n'.encode())\n"
            "      print(line, s.recv(100).split(b' ')[1].decode())\n"
        )
        async with networked(stand) as (box, _):
            words = " ".join(f"'{word}'" for word in (str(port), *spellings))
            done = await box.run(f"python - {words}", stdin=(PRELUDE + program).encode())
    answers = done.stdout.decode().splitlines()
    assert len(answers) == 2 * len(spellings), done
    assert all(line.endswith((" 403", " 400")) for line in answers), answers
    assert came == []


def own_address() -> str:
    """The address by which this machine is known to others, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@check
async def host_around_the_proxy(stand: Stand) -> None:
    with service_of_the_host() as (port, came):
        program = (
            "for host in ('127.0.0.1', '127.0.0.2', sys.argv[2], '192.0.2.1'):\n"
            "  attempt(lambda: socket.create_connection((host, int(sys.argv[1])), 5))\n"
        )
        async with networked(stand) as (box, asked):
            done = await box.run(
                f"python - {port} {own_address()}", stdin=(PRELUDE + program).encode()
            )
    assert set(done.stdout.decode().split()) <= {"ECONNREFUSED", "ENETUNREACH"}, done
    assert came == [] and asked == []


@check
async def bytes_that_are_no_requests(stand: Stand) -> None:
    program = (
        "kinds = [b'', b'\\0' * 70000, b'\\n' * 70000, b'GET ' + b'a' * 70000, os.urandom(5000),\n"
        "         b'\\x16\\x03\\x01' * 99, b'\\x05\\x01\\0', b'PRI * HTTP/2.0\\r\\n\\r\\n']\n"
        "kept = []\n"
        "for n in range(200):\n"
        "    s = socket.create_connection(('127.0.0.1', 3128), 10)\n"
        "    try: s.sendall(kinds[n % len(kinds)])\n"
        "    except OSError: pass\n"
        "    s.close() if n % 5 else kept.append(s)\n"
        "for s in kept: s.close()\n"
        "with socket.create_connection(('127.0.0.1', 3128), 10) as s:\n"
        "    s.sendall(b'CONNECT 127.0.0.1:1 HTTP/1.1\\r\\n\\r\\n')\n"
        "    print(s.recv(12).decode())\n"
    )
    async with networked(stand) as (box, asked):
        done = await box.run("python -", stdin=(PRELUDE + program).encode(), timeout=30)
    assert done.stdout == b"HTTP/1.1 403\n", done
    assert asked == []


@check
async def the_proxy_can_not_be_replaced(stand: Stand) -> None:
    program = (
        "def listen(reuse):\n"
        "    s = socket.socket()\n"
        "    s.setsockopt(socket.SOL_SOCKET, reuse, 1)\n"
        "    s.bind(('127.0.0.1', 3128))\n"
        "    s.listen()\n"
        "attempt(lambda: listen(socket.SO_REUSEADDR))\n"
        "attempt(lambda: listen(socket.SO_REUSEPORT))\n"
    )
    async with networked(stand) as (box, _):
        await box.run("kill -9 -1")
        done = await box.run("python -", stdin=(PRELUDE + program).encode())
    assert done.stdout.split() == [b"EADDRINUSE"] * 2, done


# --- the program


async def run_checks(base: Path) -> dict[str, str | None]:
    stand = Stand(base)
    results: dict[str, str | None] = {}
    try:
        for function in CHECKS:
            try:
                await asyncio.wait_for(function(stand), 40)
                results[function.__name__] = None
            except Exception:
                results[function.__name__] = traceback.format_exc(limit=-3)
    finally:
        await stand.box.destroy()
    return results


def make_decoys() -> subprocess.Popen[bytes]:
    home = Path(os.path.expanduser("~"))
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh/id_decoy").write_text(DECOY)
    (home / "victim").write_text("untouched")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)", DECOY]
    return subprocess.Popen(sleep)


def main() -> None:
    assert DECOY, "ATTACK_DECOY is not set"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # ends with the test that started it
    process = make_decoys()
    try:
        print(json.dumps(asyncio.run(run_checks(Path(sys.argv[1])))))
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
