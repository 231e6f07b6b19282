"""The kernel's interfaces: privileges, namespaces, mounts, devices, /proc, system calls."""

from __future__ import annotations

import os

from agent_magics.sandbox._syscalls import ABSENT, ALLOWED, CHECKED, REFUSED

from .stand import Stand, check


@check
async def kernel_memory_and_symbols(stand: Stand) -> None:
    shown = await stand.python(
        "for p in ('kcore','kallsyms','keys','key-users','kmsg','timer_list','vmallocinfo'):\n"
        "    try: print(p, len(open('/proc/'+p,'rb').read(100)))\n"
        "    except OSError as e: print(p, 0)\n"
    )
    assert all(line.endswith(" 0") for line in shown.splitlines()), shown


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
    # The files of /run/quotas refuse everybody: `limits_that_are_given_back`.
    assert writable <= {
        *("/run/quotas", "/workspace", "/tmp", "/proc", "/dev/shm", "/dev/pts"),
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


@check
async def namespaces_are_its_own(stand: Stand) -> None:
    kinds = ("pid", "net", "ipc", "uts", "user", "mnt")
    inside = (
        await stand.output("readlink " + " ".join(f"/proc/self/ns/{k}" for k in kinds))
    ).split()
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert len(inside) == len(outside)
    assert not set(inside) & set(outside)


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
async def keyrings(stand: Stand) -> None:
    await stand.refused(
        """
        call(248 if X86 else 217, b'user', b'x', b'y', 1, -2)
        call(250 if X86 else 219, 0, -3, 0)
        call(249 if X86 else 218, b'user', b'x', 0, 0)
        """,
        "EPERM",
    )


@check
async def programs_in_the_kernel(stand: Stand) -> None:
    await stand.refused("call(321 if X86 else 280, 0, 0, 0)", "EPERM")  # bpf
    await stand.refused(
        "call(321 if X86 else 280, 5, ctypes.create_string_buffer(128), 128)", "EPERM"
    )


@check
async def counters_of_the_processor(stand: Stand) -> None:
    await stand.refused("call(298 if X86 else 241, 0, 0, -1, -1, 0)", "EPERM")  # perf_event_open


@check
async def page_faults(stand: Stand) -> None:
    await stand.refused("call(323 if X86 else 282, 0)\ncall(323 if X86 else 282, 1)", "EPERM")
    await stand.refused("open('/dev/userfaultfd', 'rb')", "ENOENT")


@check
async def rings_of_input_and_output(stand: Stand) -> None:
    await stand.refused(
        """
        call(425, 8, ctypes.create_string_buffer(256))
        call(426, 0, 0, 0, 0, 0)
        call(427, 0, 0, 0, 0)
        """,
        "ENOSYS",
    )


@check
async def files_in_memory(stand: Stand) -> None:
    await stand.refused("call(319 if X86 else 279, b'x', 0)\ncall(447, 0)", "ENOSYS")


@check
async def files_by_handle(stand: Stand) -> None:
    await stand.refused("call(304 if X86 else 265, -100, 0, 0)", "EPERM")


@check
async def log_of_the_kernel(stand: Stand) -> None:
    await stand.refused(
        "call(103 if X86 else 116, 3, 0, 0)\ncall(103 if X86 else 116, 5, 0, 0)", "EPERM"
    )
    await stand.refused("open('/dev/kmsg', 'rb')", "ENOENT")


@check
async def modules(stand: Stand) -> None:
    await stand.refused(
        """
        call(175 if X86 else 105, b'x', 1, b'')
        call(313 if X86 else 273, 0, b'', 0)
        call(176 if X86 else 106, b'x', 0)
        call(246 if X86 else 104, 0, 0, 0, 0)
        """,
        *("EPERM", "ENOSYS"),
    )
    path = "/proc/sys/kernel/modprobe"
    await stand.refused(f"os.open({path!r}, os.O_WRONLY)", "EROFS", "EACCES", "ENOENT")


@check
async def restarting_the_machine(stand: Stand) -> None:
    """With arguments that even a real restart would refuse; and by the key of an operator."""
    await stand.refused("call(169 if X86 else 142, 0, 0, 0, 0)", "EPERM")
    await stand.refused("os.open('/proc/sysrq-trigger', os.O_WRONLY)", "EROFS", "EACCES", "ENOENT")


@check
async def the_clock(stand: Stand) -> None:
    await stand.refused(
        """
        time.clock_settime(time.CLOCK_REALTIME, time.time())
        call(164 if X86 else 170, (ctypes.c_long * 2)(10**9, 0), 0)
        """,
        "EPERM",
    )


@check
async def names_of_the_machine(stand: Stand) -> None:
    await stand.refused("socket.sethostname('x')\ncheck(libc.setdomainname(b'x', 1))", "EPERM")
    assert await stand.output("hostname") == "agent\n"
    assert os.uname().nodename == "agent" or os.uname().nodename not in await stand.output(
        "uname -a"
    )


@check
async def swap_accounts_and_quotas(stand: Stand) -> None:
    await stand.refused(
        """
        call(167 if X86 else 224, b'/workspace/swap', 0)
        call(168 if X86 else 225, b'/workspace/swap')
        call(163 if X86 else 89, b'/workspace/accounts')
        call(179 if X86 else 60, 0x800001 << 8, b'/', 0, 0)
        """,
        "EPERM",
    )


@check
async def watching_all_files(stand: Stand) -> None:
    """fanotify sees what everybody opens."""
    await stand.refused("call(300 if X86 else 262, 4, 0)", "EPERM")


@check
async def ports_of_the_processor(stand: Stand) -> None:
    if os.uname().machine == "x86_64":
        await stand.refused("call(172, 3)\ncall(173, 0, 1, 1)", "EPERM", "ENOSYS")
    await stand.refused("open('/dev/port', 'rb')\nopen('/dev/mem', 'rb')", "ENOENT")


@check
async def the_root_of_pid_1(stand: Stand) -> None:
    await stand.refused(
        "os.listdir('/proc/1/root')\nos.chdir('/proc/1/cwd')\nos.open('/proc/1/ns/mnt', 0)",
        "EACCES",
        "EPERM",
    )


@check
async def devices_and_groups_of_the_machine(stand: Stand) -> None:
    await stand.refused(
        "os.listdir('/sys')\nos.listdir('/sys/fs/cgroup')\nos.listdir('/sys/kernel/debug')",
        "ENOENT",
    )


@check
async def taking_off_the_filter(stand: Stand) -> None:
    await stand.refused(
        "check(libc.prctl(22, 0, 0, 0, 0))\n"  # PR_SET_SECCOMP
        "check(libc.prctl(38, 0, 0, 0, 0))\n"  # PR_SET_NO_NEW_PRIVS
        "check(libc.prctl(24, 0, 0, 0, 0))\n"  # PR_CAPBSET_DROP
        "check(libc.prctl(28, 0, 0, 0, 0))\n",  # PR_SET_SECUREBITS
        *("EINVAL", "EPERM"),
    )


@check
async def raising_capabilities(stand: Stand) -> None:
    """All of them; and one for programs that are run later."""
    await stand.refused(
        "call(126 if X86 else 91, (ctypes.c_uint32 * 2)(0x20080522, 0), "
        "(ctypes.c_uint32 * 6)(*[0xffffffff] * 6))\n"
        "check(libc.prctl(47, 2, 21, 0, 0))\n",
        "EPERM",
    )


@check
async def programs_of_root(stand: Stand) -> None:
    """Those with the set-user-ID bit that the system brings along."""
    shown = await stand.output(
        "for f in $(find /usr/bin /usr/sbin -perm -4000 2>/dev/null); do"
        " [ -r $f ] && cp $f own && chmod 4755 own && ./own --version < /dev/null; done > /dev/null"
        " 2>&1; su -c id < /dev/null; cp $(which id) own; chmod 6755 own; ./own; rm own"
    )
    assert "uid=1000(agent) gid=1000(agent)" in shown and "(root)" not in shown, shown


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
async def every_call_that_is_not_allowed(stand: Stand) -> None:
    """By all numbers there are or may be: the kernel never gets to see them."""
    column = 0 if os.uname().machine == "x86_64" else 1
    known = {numbers[column] for table in (ALLOWED, CHECKED) for numbers in table.values()}
    refused = {numbers[column] for numbers in REFUSED.values()}
    if column == 0:
        known.add(336)  # of the kernel's own probes: no filter gets to see it
    others = [n for n in (*range(600), 1000, 4000, 2**20, 2**30 - 1) if n not in known]
    shown = await stand.python(
        f"for number in {others}:\n"
        "    ctypes.set_errno(0)\n"
        "    print(number, libc.syscall(number, 0, 0, 0, 0, 0, 0), ctypes.get_errno())\n"
    )
    expected = [f"{number} -1 {1 if number in refused else 38}" for number in others]
    assert set(shown.splitlines()) == set(expected), set(shown.splitlines()) ^ set(expected)
    assert len(others) > 300 and len(refused) > 50
    assert {numbers[column] for numbers in ABSENT.values()} <= set(others)


@check
async def calls_that_are_allowed_arrive(stand: Stand) -> None:
    """Else the attacks above would prove nothing; none of them is missing in this kernel only."""
    column = 0 if os.uname().machine == "x86_64" else 1
    left_out = {
        *("clone", "exit", "exit_group", "fork", "vfork", "kill", "pause", "rt_sigreturn"),
        *("rt_sigsuspend", "sync", "tgkill", "tkill", "uretprobe"),
        *("futex", "get_thread_area", "set_thread_area"),  # "not there" with these arguments
    }
    later = {numbers[column] for numbers in ALLOWED.values() if (numbers[column] or 0) > 430}
    calls = sorted(
        numbers[column]
        for name, numbers in ALLOWED.items()
        if name not in left_out and numbers[column] is not None
    )
    shown = await stand.python(
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n"
        f"for number in {calls}:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        signal.alarm(5)\n"
        "        libc.syscall(number, -1, -1, -1, -1, -1, -1)\n"
        "        os._exit(ctypes.get_errno() if ctypes.get_errno() == 38 else 0)\n"
        "    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 38: print(number)\n",
        timeout=50,
    )
    assert {int(number) for number in shown.split()} <= later, shown


@check
async def personalities(stand: Stand) -> None:
    """Switching off the random places of memory, reading what is executed, old layouts."""
    values = ("0x40000", "0x400000", "0x200000", "0x100000", "0x20000000000", "0x4")
    code = "\n".join(f"call(135 if X86 else 92, {value})" for value in values)
    code = code.replace("0x20000000000", "0x2000000")
    await stand.refused(code, "EPERM")


@check
async def queues_of_input_and_output(stand: Stand) -> None:
    """Their number is counted for the whole machine."""
    await stand.refused("call(206 if X86 else 0, 128, ctypes.byref(ctypes.c_long(0)))", "ENOSYS")
