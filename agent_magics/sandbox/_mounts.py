"""What of the host a container sees: an allow-list, as arguments for bwrap."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from pathlib import Path

from ._types import PythonEnv, is_site_directory

__all__ = ["PathRefused", "python_mounts", "system_mounts"]

INSIDE_UID = 1000

_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "inputrc",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "matplotlibrc",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "perl",
    "pki",
    "protocols",
    "python3",
    "services",
    "ssl",
    "terminfo",
    "timezone",
)
_ETC_TEXTS = {
    "group": f"root:x:0:\nagent:x:{INSIDE_UID}:\nnogroup:x:65534:\n",
    "hostname": "agent\n",
    "hosts": "127.0.0.1 localhost agent\n::1 localhost\n",
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    f"agent:x:{INSIDE_UID}:{INSIDE_UID}:agent:/workspace:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
}
# bwrap makes /proc/sys read-only only where access() calls the directory writable. For the first
# user of the machine without capabilities it does not, yet the files in it are.
_PROC_READ_ONLY = (
    *("acpi", "asound", "bus", "driver", "dynamic_debug", "fs", "irq", "mtrr", "scsi"),
    *("sys", "sysrq-trigger"),
)
_PROC_EMPTY = (
    *("kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags"),
    *("latency_stats", "pressure/cpu", "pressure/io", "pressure/memory", "sched_debug"),
    *("timer_list", "vmallocinfo"),
)

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
_NEVER = frozenset(
    {
        *(
            "/",
            "/boot",
            "/dev",
            "/etc",
            "/home",
            "/media",
            "/mnt",
            "/opt",
            "/proc",
            "/root",
            "/run",
        ),
        *("/srv", "/sys", "/tmp", "/var", "/var/lib", "/var/tmp", "/workspace"),
    }
)
_PARTS = ("bin", "include", "lib", "lib64", "pyvenv.cfg")
MOST_LINKS = 40

Data = Callable[[bytes], int]
Source = Callable[[str], str]


class PathRefused(ValueError):
    """A path that would show more of the host than a Python environment."""


def system_mounts(data: Data, shared_memory: int | None) -> list[str]:
    """
    The system's programs and libraries, a few files of /etc, own /proc, /dev and /run.

    Args:
        data: makes a descriptor from which bwrap reads the given bytes.
        shared_memory: size of /dev/shm in bytes; None where this bwrap can't limit it.
    """
    arguments: list[str] = []
    for path in _SYSTEM:
        if Path(path).is_symlink():
            arguments += ["--symlink", os.readlink(path), path]  # noqa: PTH115
        elif Path(path).is_dir():
            arguments += ["--ro-bind", path, path]
    arguments += ["--dir", "/etc"]
    for name in _ETC:
        source = Path("/etc", name)
        if source.exists():
            arguments += ["--ro-bind", str(source.resolve()), str(source)]
    for name, text in _ETC_TEXTS.items():
        arguments += ["--ro-bind-data", str(data(text.encode())), f"/etc/{name}"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for name in _PROC_READ_ONLY:
        if Path("/proc", name).exists():
            arguments += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in _PROC_EMPTY:
        if Path("/proc", name).is_file():
            arguments += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    if shared_memory is not None:
        arguments += ["--size", str(shared_memory)]
    arguments += ["--tmpfs", "/dev/shm"]
    return [*arguments, "--dir", "/run", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]


def python_mounts(python: PythonEnv, private: Path, source: Source) -> list[str]:
    """
    A Python environment, read-only at its own absolute paths.

    Every symbolic link on the way is made again inside (pyenv's and uv's versions, virtual
    environments). Directories that hold more than an environment are left out.

    Args:
        private: the session's directory; nothing that contains it is shown.
        source: says where the mounting process finds a path of the host.

    Raises:
        PathRefused: the interpreter itself would not be there.
    """
    mounts = _Mounts(private, source)
    for prefix in filter(_is_environment, python.prefixes):
        for path in _parts(prefix):
            mounts.show(path)
    if not mounts.show(python.executable):
        raise PathRefused(python.executable)
    if not Path(python.executable).with_name("python").exists():  # Debian's own has none
        mounts.arguments += ["--symlink", python.executable, "/run/bin/python"]
    return mounts.arguments


def _is_environment(prefix: str) -> bool:
    libraries = Path(prefix, "lib")
    return is_site_directory(prefix) or (libraries.is_dir() and any(libraries.glob("python3*")))


def _home() -> Path:
    home = os.path.expanduser("~")  # noqa: PTH111 - the pathlib way fails for users without one
    return Path(home if home.startswith("/") else "/root")


def _parts(prefix: str) -> list[str]:
    """The prefix, or, where other things lie in it as well, what in it is Python's."""
    if prefix.rstrip("/") in (f"{_home()}/.local", "/usr/local", "/opt"):
        return [f"{prefix}/{name}" for name in _PARTS]
    return [prefix]


class _Mounts:
    def __init__(self, private: Path, source: Source) -> None:
        self.arguments: list[str] = []
        self._shown = [*_SYSTEM]
        self._links: set[str] = set()
        self._source = source
        home = _home().resolve()
        inside = private.resolve()
        around = [_home(), home, *home.parents, inside, *inside.parents]
        self._never = {*_NEVER, *map(str, around)}

    def show(self, path: str) -> bool:
        """Make a path visible; False when it may not be or is not there."""
        todo = [part for part in path.split("/") if part]
        current, links = "/", 0
        while todo:
            following = posixpath.join(current, todo.pop(0))
            if self._is_shown(following):
                real = os.path.realpath(posixpath.join(following, *todo))
                return self._is_shown(real) or (real != path and self.show(real))
            if not Path(following).is_symlink():
                current = following
                continue
            links += 1
            if links > MOST_LINKS:
                return False
            target = os.readlink(following)  # noqa: PTH115
            self._link(target, following)
            whole = posixpath.normpath(posixpath.join(current, target))
            todo = [part for part in whole.split("/") if part] + todo
            current = "/"
        return self._bind(current)

    def _is_shown(self, path: str) -> bool:
        return any(path == root or path.startswith(f"{root}/") for root in self._shown)

    def _link(self, target: str, path: str) -> None:
        if path not in self._links:
            self._links.add(path)
            self.arguments += ["--symlink", target, path]

    def _bind(self, path: str) -> bool:
        if path in self._never or path.startswith(("/proc/", "/sys/", "/dev/")):
            return False
        if not Path(path).exists():
            return False
        self.arguments += ["--ro-bind", self._source(path), path]
        self._shown.append(path)
        return True
