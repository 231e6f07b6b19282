"""What of the host a container sees: an allow-list, as arguments for bwrap."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ._python_files import (
    Hidden,
    hidden_below,
    hidden_of_system,
    ignores_system_packages,
    plain_pyvenv,
    shown_parts,
)
from ._types import PythonEnv, is_site_directory

__all__ = [
    "Mount",
    "PathRefused",
    "bwrap_arguments",
    "python_mounts",
    "system_mounts",
    "without_links",
]

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
_SHARED = ("bin", "include", "lib", "lib64")
_SYSTEM_ROOTS = ("/usr", "/usr/local")
MOST_LINKS = 40

Data = Callable[[bytes], int]
Source = Callable[[str], str]


class PathRefused(ValueError):
    """A path that would show more of the host than a Python environment."""


@dataclass(frozen=True)
class Mount:
    """
    One step of showing the host's files, to be done in order.

    `kind`: "bind" (the host's `path`, or `source` if there is one, read-only), "link" (to
    `source`), "text" (a file with `content`), "cover" (an empty directory, in which later steps
    show something), "hide-file" and "hide-directory" (`path` can't be read).
    """

    kind: Literal["bind", "link", "text", "cover", "hide-file", "hide-directory"]
    path: str
    source: str = ""
    content: bytes = b""


def bwrap_arguments(mounts: Iterable[Mount], data: Data, source: Source) -> list[str]:
    """
    The mounts for bwrap.

    Args:
        data: makes a descriptor from which bwrap reads the given bytes.
        source: says where the mounting process finds a path of the host.
    """
    arguments: list[str] = []
    covers: list[str] = []
    for mount in mounts:
        match mount.kind:
            case "bind":
                arguments += ["--ro-bind", source(mount.path), mount.path]
            case "link":
                arguments += ["--symlink", mount.source, mount.path]
            case "text":
                arguments += ["--ro-bind-data", str(data(mount.content)), mount.path]
            case "hide-file":  # a device can't be opened on any mount but that of /dev
                arguments += ["--ro-bind", "/dev/null", mount.path]
            case "cover" | "hide-directory":
                arguments += ["--tmpfs", mount.path]
                covers.append(mount.path)
    for path in covers:
        arguments += ["--remount-ro", path]
    return arguments


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


def without_links(mounts: Sequence[Mount]) -> list[Mount]:
    """The same for containers in which no links can be made: what they lead to, a second time."""
    links = {mount.path: os.path.realpath(mount.path) for mount in mounts if mount.kind == "link"}
    for around, inside in links.copy().items():  # links that are reached by links
        for link, target in links.copy().items():
            if link.startswith(f"{inside}/"):
                links[around + link[len(inside) :]] = target
    binds = [mount.path for mount in mounts if mount.kind == "bind"]
    made = [
        Mount("bind", link, target)
        for link, target in links.items()
        if target not in binds and _depth(target, binds) >= 0
    ]
    for mount in mounts:
        if mount.kind != "link":
            source = mount.path if mount.kind == "bind" else ""
            made.append(replace(mount, source=source))
            made += [
                replace(mount, source=source, path=link + mount.path[len(target) :])
                for link, target in links.items()
                if _depth(mount.path, [target]) >= 0
            ]
    return made


def python_mounts(python: PythonEnv, private: Path, *, own_system: bool = True) -> list[Mount]:
    """
    What a Python environment needs to run, read-only at its own absolute paths.

    Every symbolic link on the way is made again inside (pyenv's and uv's versions, virtual
    environments). Directories that hold more than an environment are left out, and so is what in
    an environment is not Python's or has the name of a secret.

    Args:
        private: the session's directory; nothing that contains it is shown.
        own_system: /usr in the container is that of this machine, as `system_mounts` shows it.

    Raises:
        PathRefused: the interpreter itself would not be there.
    """
    view = _View(private, own_system)
    view.unneeded = _unneeded(python)
    for prefix in filter(_is_environment, python.prefixes):
        view.show_prefix(prefix.rstrip("/") or "/")
    if not view.show(python.executable):
        raise PathRefused(python.executable)
    if not Path(python.executable).with_name("python").exists():  # Debian's own has none
        view.mounts.append(Mount("link", "/run/bin/python", python.executable))
    return view.mounts


def _is_environment(prefix: str) -> bool:
    libraries = Path(prefix, "lib")
    return is_site_directory(prefix) or (libraries.is_dir() and any(libraries.glob("python3*")))


def _unneeded(python: PythonEnv) -> frozenset[str]:
    """Packages of the Python that a virtual environment was made of, where it does not use them."""
    prefixes = [path for path in python.prefixes if not is_site_directory(path)]
    if not prefixes or not ignores_system_packages(f"{prefixes[0]}/pyvenv.cfg"):
        return frozenset()
    found = {
        str(packages.resolve())
        for prefix in prefixes[1:]
        for packages in Path(prefix, "lib").glob("python3*/site-packages")
    }
    used = {os.path.realpath(path) for path in python.prefixes if is_site_directory(path)}
    own = os.path.realpath(prefixes[0])
    return frozenset(path for path in found - used if not path.startswith(f"{own}/"))


def _home() -> Path:
    home = os.path.expanduser("~")  # noqa: PTH111 - the pathlib way fails for users without one
    return Path(home if home.startswith("/") else "/root")


class _View:
    def __init__(self, private: Path, own_system: bool) -> None:
        self.mounts: list[Mount] = []
        self._shown = [*_SYSTEM]
        self._covered: list[str] = []
        self._links: set[str] = set()
        self.unneeded: frozenset[str] = frozenset()
        home, inside = _home().resolve(), private.resolve()
        self._never_prefix = {*_NEVER, *map(str, (_home(), home, *home.parents))}
        self._never = {*self._never_prefix, *map(str, (inside, *inside.parents))}
        if own_system:
            for root in _SYSTEM_ROOTS:
                self._hide(root, hidden_of_system(root))
                for library in Path(root, "lib").glob("python3*"):
                    self._hide(str(library), hidden_below(str(library)))

    def show_prefix(self, prefix: str) -> None:
        """Of an environment, what is Python's."""
        real = os.path.realpath(prefix)
        shared = real in (f"{_home().resolve()}/.local", "/opt")  # of other programs as well
        if real in _SYSTEM_ROOTS or (real in self._never_prefix and not shared):
            return
        if is_site_directory(prefix):
            self.show(prefix)
            return
        if any(real.startswith(f"{root}/") for root in _SYSTEM):  # as if it were elsewhere
            self.mounts.append(Mount("cover", real))
            self._covered.append(real)
        for part in [f"{prefix}/{name}" for name in _SHARED] if shared else shown_parts(prefix):
            self.show(part)
        config = f"{real}/pyvenv.cfg"
        if Path(config).is_file() and not self._is_shown(config):
            self.mounts.append(Mount("text", config, content=plain_pyvenv(config)))

    def show(self, path: str) -> bool:
        """Make a path visible; False when it may not be or is not there."""
        todo = [part for part in path.split("/") if part]
        current, links = "/", 0
        while todo:
            following = posixpath.join(current, todo.pop(0))
            if self._is_shown(following):
                real = os.path.realpath(posixpath.join(following, *todo))
                if self._is_shown(real) or real != path:
                    return self._is_shown(real) or self.show(real)
                current = following  # farther down it is covered
                continue
            if not Path(following).is_symlink():
                current = following
                continue
            links += 1
            if links > MOST_LINKS:
                return False
            target = os.readlink(following)  # noqa: PTH115
            if following not in self._links:
                self._links.add(following)
                self.mounts.append(Mount("link", following, target))
            whole = posixpath.normpath(posixpath.join(current, target))
            todo = [part for part in whole.split("/") if part] + todo
            current = "/"
        return self._bind(current)

    def _is_shown(self, path: str) -> bool:
        return _depth(path, self._shown) > _depth(path, self._covered)

    def _bind(self, path: str) -> bool:
        if path in self._never or path.startswith(("/proc/", "/sys/", "/dev/")):
            return False
        if not Path(path).exists():
            return False
        self.mounts.append(Mount("bind", path))
        self._shown.append(path)
        self._hide(path, [Hidden(p, True) for p in self.unneeded if p.startswith(f"{path}/")])
        self._hide(path, hidden_below(path, self.unneeded))
        return True

    def _hide(self, root: str, found: Iterable[Hidden]) -> None:
        for item in found:
            closed = _closed_above(item.path, root)
            path, is_directory = (closed, True) if closed else (item.path, item.is_directory)
            if not self._is_shown(path) or path in self._covered:
                continue  # nothing is there; or it is hidden already
            if item.content is not None and not is_directory:
                self.mounts.append(Mount("text", path, content=item.content))
            else:
                self.mounts.append(Mount("hide-directory" if is_directory else "hide-file", path))
            self._covered.append(path)


def _depth(path: str, roots: Iterable[str]) -> int:
    """Length of the longest of the roots at or below which the path lies; -1: of none."""
    inside = (root for root in roots if path == root or path.startswith(f"{root}/"))
    return max(map(len, inside), default=-1)


def _closed_above(path: str, root: str) -> str | None:
    """
    The first directory from `root` on that the container's user can't enter, when we are root.

    Nothing in it can be covered, and nobody there can read it; it is covered as a whole.
    """
    if os.geteuid() != 0:
        return None
    parent = root
    for part in path[len(root) + 1 :].split("/"):
        if not os.stat(parent).st_mode & stat.S_IXOTH:  # noqa: PTH116
            return parent
        parent = f"{parent}/{part}"
    return None
