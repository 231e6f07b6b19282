"""
Programs of this machine that we run, found where nobody else can have put them.

PATH may hold the working directory (an empty or relative entry) and directories that others can
write; `shutil.which` would run what lies there.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Search", "find_program", "safe_path"]

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_MOST_LINKS = 40


@dataclass(frozen=True)
class Search:
    """
    What was found on PATH. `path` is absolute, None: nothing that may be run; `refused` says of
    each that was passed over why, as "/tmp/bwrap: others can write /tmp".

    `protected`: this user could not have put it there either, unless that is root.
    """

    path: Path | None
    protected: bool
    refused: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was passed over, as a sentence; empty if nothing was."""
        return f"Not used: {'; '.join(self.refused)}." if self.refused else ""


def find_program(name: str, path: str | None = None) -> Search:
    """
    The first program of this name on PATH that no other user can replace.

    Not considered: relative and empty entries, the working directory, directories and files that
    others can write or that belong to another user than root and us; the same for what links lead
    to and for the directories above.

    Args:
        name: of the program, without a slash.
        path: instead of the environment's PATH.
    """
    refused: list[str] = []
    for entry in _entries(path):
        program = Path(entry or ".", name)
        if not (program.is_file() and os.access(program, os.X_OK)):
            continue
        reason = _entry_fault(entry) or _fault(program)
        if reason is None:
            return Search(program, _is_protected(program), tuple(refused))
        refused.append(f"{program if entry else './' + name}: {reason}")
    return Search(None, False, tuple(dict.fromkeys(refused)))


def safe_path(path: str | None = None) -> str:
    """PATH without the entries that `find_program` passes over, for the programs that we run."""
    entries = _entries(path)
    safe = [
        e for e in entries if not _entry_fault(e) and not (Path(e).is_dir() and _fault(Path(e)))
    ]
    return os.pathsep.join(safe) or _DEFAULT_PATH


def _entries(path: str | None) -> list[str]:
    text = os.environ.get("PATH", _DEFAULT_PATH) if path is None else path
    return text.split(os.pathsep)


def _entry_fault(entry: str) -> str | None:
    if not entry.startswith("/"):
        return f"the entry {entry!r} of PATH is not an absolute path"
    try:
        here = os.stat(".")  # noqa: PTH116
        if here.st_ino != Path("/").stat().st_ino and os.path.samestat(here, Path(entry).stat()):
            return "it is the working directory"
    except OSError:
        pass
    return None


def _fault(path: Path) -> str | None:
    """Why others may have made this file or directory, or can exchange it."""
    try:
        for place in _ways(path):
            found = place.stat()
            if not _is_ours(found.st_uid):
                return f"{place} belongs to another user"
            if _others_write(place, found) and not (
                _is_crossing(found) and place not in _last(path)
            ):
                return f"others can write {place}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return None


def _ways(path: Path) -> Iterator[Path]:
    """The file, the directories above it, and the same of what it leads to."""
    ways, link = [path, path.resolve(strict=True)], path
    for _ in range(_MOST_LINKS):
        if not link.is_symlink():
            break
        link = link.parent / link.readlink()
        ways.append(link)
    for way in dict.fromkeys(ways):
        yield from (way, *way.parents)


def _last(path: Path) -> set[Path]:
    """Where a new file of that name could be put."""
    real = path.resolve()
    if path.is_dir():
        return {path, real}
    return {path, real, path.parent, path.parent.resolve(), real.parent}


def _is_crossing(found: os.stat_result) -> bool:
    """A directory like /tmp, in which nobody can rename what is another's."""
    return bool(found.st_mode & stat.S_ISVTX)


def _is_ours(uid: int) -> bool:
    return uid in (0, os.geteuid()) or uid == _nobody()


def _others_write(place: Path, found: os.stat_result) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    if not found.st_mode & stat.S_IWGRP:
        return False
    return _has_access_list(place) or not _is_own_group(found.st_gid)


def _has_access_list(place: Path) -> bool:
    """Then the group's rights are the most that anybody in the list has."""
    try:
        return bool(os.getxattr(place, "system.posix_acl_access"))
    except OSError:
        return False


def _is_own_group(gid: int) -> bool:
    """Nobody but root and us is in the group."""
    if gid == 0 or gid == _nobody():
        return True
    try:
        me, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(gid)
        if not set(group.gr_mem) <= {"root", me}:
            return False
        if gid == os.getegid() and group.gr_name == me:
            return True
        return all(user.pw_gid != gid or user.pw_name in ("root", me) for user in pwd.getpwall())
    except KeyError:
        return False


def _is_protected(program: Path) -> bool:
    return all(place.stat().st_uid in (0, _nobody()) for place in _ways(program))


@functools.lru_cache
def _nobody() -> int | None:
    """
    The number that stands for all users who are not known in our user namespace, root among them.

    None where there is no such namespace: then it is a user like others.
    """
    try:
        rows = Path("/proc/self/uid_map").read_text("ascii").split()
        if rows == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return None
