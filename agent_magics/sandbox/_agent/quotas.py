"""What the kernel counts per user: bounded before the first command, for the container as a whole.

A container of an ordinary user takes from the same accounts as that user's editor and Jupyter.
"""

# plain os.path: importing pathlib would add a third to the start-up time
# ruff: noqa: PTH123

from __future__ import annotations

import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
CAP_SETPCAP, CAP_SYS_RESOURCE = 8, 24
CAPABILITY_VERSION_3 = 0x20080522


def bound(config: dict[str, Any]) -> bool:
    """
    Set the limits of `quotas`, then give up the privileges that it took.

    Whether those of the user namespace hold. The others are inherited by all processes, and count
    for the whole namespace where the kernel counts them so (Linux 5.14).
    """
    quotas = config.get("quotas")
    if quotas is None:
        return False
    for name, value in quotas["rlimits"].items():
        set_limit(name, value)
    folder = quotas.get("folder")
    if folder is None:
        return False
    failed = [name for name, value in quotas["user"].items() if not _write(folder, name, value)]
    give_up_privileges()
    return not failed


def set_limit(name: str, value: int) -> None:
    """A resource limit, hard and soft; never above the one that is there."""
    number = getattr(resource, "RLIMIT_" + name.upper(), None)
    if number is not None:
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))


def set_limits(limits: Mapping[str, int]) -> None:
    """Those of a command, which leaves no core behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in limits.items():
        set_limit(name, value)


def _write(folder: str, name: str, value: int) -> bool:
    try:
        with open(f"{folder}/{name}", "w") as file:
            file.write(str(value))
    except FileNotFoundError:
        return True  # this kernel has no such thing
    except OSError:
        return False
    return True


def give_up_privileges() -> None:
    """No capability is left in any set. Ends the process where that fails."""
    import ctypes

    libc = ctypes.CDLL(None)
    for capability in (CAP_SYS_RESOURCE, CAP_SETPCAP):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        os.write(2, b"the container's privileges could not be given up\n")
        os._exit(98)
