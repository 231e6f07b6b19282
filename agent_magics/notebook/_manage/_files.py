"""What the magics do that move files between this computer and the session's container."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ...wire import FileEntry
from .._data._paths import matching_files
from .._turn._wait import patiently
from ._tables import artifacts_table, files_table
from ._workbench import Workbench

if TYPE_CHECKING:
    from ...client import SessionHandle

__all__ = ["agent_artifacts", "agent_files", "agent_get", "agent_put"]


def agent_files(options: Namespace) -> Any:
    bench = Workbench()

    def files() -> list[FileEntry]:
        session = bench.session_or_new(options.session)
        return session.list_files(options.path, options.recursive)

    return files_table(patiently(files), options.path)


def agent_get(options: Namespace) -> Path:
    session = Workbench().session(options.session)
    name = PurePosixPath(options.path).name
    return _save(lambda target: session.get_file_to(options.path, target), name, options)


def agent_put(options: Namespace) -> Any:
    sources = [path for pattern in options.files for path in _sources(pattern)]
    bench = Workbench()

    def upload() -> list[FileEntry]:
        return list(_upload(bench.session_or_new(options.session), sources, options.to))

    return files_table(patiently(upload), options.to)


def agent_artifacts(options: Namespace) -> Any:
    session = Workbench().session(options.session)
    if not options.key:
        return artifacts_table(patiently(session.list_artifacts))
    name = PurePosixPath(options.key).name
    return _save(
        lambda target: target.write_bytes(session.get_artifact_buffer(options.key)), name, options
    )


def _save(fetch: Callable[[Path], object], name: str, options: Namespace) -> Path:
    """Have a file on this computer written, which is only replaced with `--force`."""
    path = Path(options.target).expanduser()
    if path.is_dir() or options.target.endswith("/"):
        path = path / name
    if path.exists() and not options.force:
        raise UsageError(f"{path} is there already: --force overwrites it, or name another TARGET")

    def save() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(path)
        return path

    return patiently(save)


def _sources(pattern: str) -> list[Path]:
    found = matching_files(pattern)
    if not found:
        is_folder = Path(pattern).expanduser().is_dir()
        why = "it is a directory: name its files" if is_folder else "no such file"
        raise UsageError(f"%agent_put: {pattern}: {why}")
    return found


def _upload(session: SessionHandle, sources: list[Path], folder: str) -> Iterator[FileEntry]:
    for source in sources:
        target = str(PurePosixPath("/workspace", folder) / source.name)
        session.put_file(target, source)
        stat = source.stat()
        yield FileEntry(target, "file", stat.st_size, int(stat.st_mtime * 1000))
