"""
The system call filter of the container, as classic BPF.

Namespaces do not cover everything: these calls reach kernel interfaces that are global or were
rich in holes, or would make namespaces inside the container. Everything else is allowed.
"""

from __future__ import annotations

import platform
import struct

__all__ = ["seccomp_filter"]

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data; arguments follow at 16, 24, …
_ARGUMENT = (16, 24)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

# name: (x86_64, aarch64)
_REFUSED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
}
# "not there" makes programs take their older way. clone3 has its flags in memory, where a filter
# can't look; memory files are memory that no watchdog can attribute to a process.
_ABSENT = {
    "clone3": (435, 435),
    "io_setup": (206, 0),  # its contexts are counted for the machine, not for the user
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
_CLONE = (56, 220)
_UNSHARE = (272, 97)
_IOCTL = (16, 29)
_SOCKET = (41, 198)

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; NEWTIME only with unshare
_NEW_NAMESPACE = 0x7E020000
_NEW_TIME = 0x00000080
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; AF_VSOCK reaches the host

Instruction = tuple[int, int, int, int]


def seccomp_filter() -> bytes | None:
    """The filter for this machine's processor, for bwrap's --seccomp; None: there is none."""
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        return None
    column = 0 if machine == "x86_64" else 1
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        _refuse(EPERM),  # the 32-bit calls of the same processor
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_JUMP_GREATER, 0, 1, _X32_BIT), _refuse(ENOSYS)]
    for table, error in ((_REFUSED, EPERM), (_ABSENT, ENOSYS)):
        for numbers in table.values():
            program += [(_JUMP_EQUAL, 0, 1, numbers[column]), _refuse(error)]
    program += _when(_CLONE[column], _refuse_bits(_ARGUMENT[0], _NEW_NAMESPACE))
    program += _when(_UNSHARE[column], _refuse_bits(_ARGUMENT[0], _NEW_NAMESPACE | _NEW_TIME))
    program += _when(_IOCTL[column], _refuse_values(_ARGUMENT[1], _TERMINAL_INJECTION))
    program += _when(_SOCKET[column], _accept_values(_ARGUMENT[0], _FAMILIES))
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """Do `body`, which ends in a return, for one system call."""
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _refuse_bits(offset: int, bits: int) -> list[Instruction]:
    return [
        (_LOAD, 0, 0, offset),
        (_JUMP_BITS, 0, 1, bits),
        _refuse(EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _refuse_values(offset: int, values: tuple[int, ...]) -> list[Instruction]:
    return _match(offset, values, found=_refuse(EPERM), other=(_RETURN, 0, 0, _ALLOW))


def _accept_values(offset: int, values: tuple[int, ...]) -> list[Instruction]:
    return _match(offset, values, found=(_RETURN, 0, 0, _ALLOW), other=_refuse(EAFNOSUPPORT))


def _match(
    offset: int, values: tuple[int, ...], *, found: Instruction, other: Instruction
) -> list[Instruction]:
    """Compare the low half of an argument; the kernel itself takes these arguments as 32 bit."""

    tests = [(_JUMP_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [(_LOAD, 0, 0, offset), *tests, other, found]
