"""A small image out of what this machine has: bash, the usual programs, a Python. No registry."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PROGRAMS = (
    *("bash", "sh", "cat", "chmod", "cmp", "env", "grep", "head", "id", "ln", "ls", "mkdir"),
    *("mkfifo", "mv", "nohup", "rm", "rmdir", "seq", "setsid", "sleep", "stat", "tail", "touch"),
    *("truncate", "tty", "uname", "wc", "yes"),
)
LEFT_OUT = frozenset(
    {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "dist-packages"}
    | {"test", "tests", "tkinter", "turtledemo", "pydoc_data", "asyncio", "unittest"}
)
EMPTY = ("dev", "etc", "proc", "run", "sys", "tmp", "workspace")


def write_image(path: Path) -> None:
    """Write the image's files as a tar, of about 50 MB, for `podman import`."""
    with tarfile.open(path, "w") as archive:
        _Image(archive).fill()


class _Image:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._there: set[str] = set()
        self._base = sys.base_prefix

    def fill(self) -> None:
        for name in EMPTY:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            self._archive.addfile(folder)
        for name in PROGRAMS:
            found = shutil.which(name, path="/usr/bin:/bin")
            assert found is not None, f"this machine has no {name}"
            self._program(found, f"/bin/{name}")
        self._python()
        self._text("etc/passwd", "root:x:0:0::/:/bin/sh\n")

    def _python(self) -> None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._program(f"{self._base}/bin/{version}", "/usr/local/bin/python3")
        library = f"{self._base}/lib/{version}"
        for folder, folders, files in os.walk(library):
            folders[:] = [f for f in folders if f not in LEFT_OUT and not f.startswith("config-")]
            inside = f"/usr/local/lib/{version}{folder.removeprefix(library)}"
            for name in files:
                if name.endswith(".so"):
                    self._program(f"{folder}/{name}", f"{inside}/{name}")
                elif name.endswith(".py"):
                    self._file(f"{folder}/{name}", f"{inside}/{name}")

    def _program(self, source: str, path: str) -> None:
        """A file with the libraries it is linked to."""
        self._file(source, path)
        linked = subprocess.run(["ldd", source], capture_output=True, text=True, check=False)
        for line in linked.stdout.splitlines():
            for library in [word for word in line.split() if word.startswith("/")][:1]:
                own = library.startswith(f"{self._base}/") and self._base not in ("/usr", "/")
                self._file(library, f"/usr/lib/{Path(library).name}" if own else library)

    def _file(self, source: str, path: str) -> None:
        if path not in self._there:
            self._there.add(path)
            real = os.path.realpath(source)
            entry = self._archive.gettarinfo(real, path.lstrip("/"))
            entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", os.path.getsize(real)
            entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, "", ""
            with open(real, "rb") as file:
                self._archive.addfile(entry, file)

    def _text(self, path: str, text: str) -> None:
        entry = tarfile.TarInfo(path)
        entry.size = len(text)
        self._archive.addfile(entry, io.BytesIO(text.encode()))
