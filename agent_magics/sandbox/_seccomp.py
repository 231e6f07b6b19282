"""
The system call filter of the container, as classic BPF: an allow-list.

Namespaces do not cover everything: calls reach kernel interfaces that are global or were rich in
holes, or would make namespaces inside the container. What is allowed stands in `_syscalls`.
"""

from __future__ import annotations

import functools
import platform
import struct
from collections.abc import Sequence

from ._syscalls import ABSENT, ALLOWED, CHECKED, REFUSED

__all__ = ["seccomp_filter"]

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

_LOAD, _JUMP, _RETURN = 0x20, 0x05, 0x06
_JUMP_EQUAL, _JUMP_NOT_BELOW, _JUMP_BITS = 0x15, 0x35, 0x45
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data; arguments follow at 16, 24, …
_ARGUMENT = (16, 24)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; NEWTIME only with unshare
_NEW_NAMESPACE = 0x7E020000
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; AF_VSOCK reaches the host
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bit, names of 2.6, and to ask

Instruction = tuple[int, int, int, int]
_ALLOWED: Instruction = (_RETURN, 0, 0, _ALLOW)


def seccomp_filter() -> bytes | None:
    """The filter for this machine's processor, for bwrap's --seccomp; None: there is none."""
    machine = platform.machine()
    return _filter(machine) if machine in _AUDIT_ARCH else None


@functools.lru_cache
def _filter(machine: str) -> bytes:
    column = 0 if machine == "x86_64" else 1
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        _refuse(EPERM),  # the 32-bit calls of the same processor
        (_LOAD, 0, 0, _NUMBER),
        *_search(_segments(column)),  # those of x32 lie above all others
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _segments(column: int) -> list[tuple[int, list[Instruction]]]:
    """From which number on what is done, up to the next."""
    actions: dict[int, list[Instruction]] = {}
    for table, action in (
        *((ALLOWED, [_ALLOWED]), (REFUSED, [_refuse(EPERM)]), (ABSENT, [_refuse(ENOSYS)])),
        *(({name: CHECKED[name]}, body) for name, body in _checks().items()),
    ):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                actions[number] = action
    segments = [(0, [_refuse(ENOSYS)])]
    for number in range(max(actions) + 2):
        action = actions.get(number, [_refuse(ENOSYS)])
        if action != segments[-1][1]:
            segments.append((number, action))
    return segments


def _checks() -> dict[str, list[Instruction]]:
    return {
        "clone": _refuse_bits(_ARGUMENT[0], _NEW_NAMESPACE),
        "ioctl": _match(_ARGUMENT[1], _TERMINAL_INJECTION, found=_refuse(EPERM), other=_ALLOWED),
        "personality": _match(_ARGUMENT[0], _PERSONALITIES, found=_ALLOWED, other=_refuse(EPERM)),
        "socket": _match(_ARGUMENT[0], _FAMILIES, found=_ALLOWED, other=_refuse(EAFNOSUPPORT)),
    }


def _search(segments: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A decision tree over the number of the call, which is loaded."""
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    below, above = _search(segments[:middle]), _search(segments[middle:])
    # a conditional jump reaches 255 instructions only
    jump = [(_JUMP_NOT_BELOW, 0, 1, segments[middle][0]), (_JUMP, 0, 0, len(below))]
    return [*jump, *below, *above]


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)


def _refuse_bits(offset: int, bits: int) -> list[Instruction]:
    return [
        (_LOAD, 0, 0, offset),
        (_JUMP_BITS, 0, 1, bits),
        _refuse(EPERM),
        _ALLOWED,
    ]


def _match(
    offset: int, values: tuple[int, ...], *, found: Instruction, other: Instruction
) -> list[Instruction]:
    """Compare the low half of an argument; the kernel itself takes these arguments as 32 bit."""

    tests = [(_JUMP_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [(_LOAD, 0, 0, offset), *tests, other, found]
