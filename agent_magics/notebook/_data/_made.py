"""
Files that a turn made, shown below it: tables, Markdown, pictures.

Nothing of them is active: HTML is made anew, Markdown goes the way of the agent's own text, a
picture is what its first bytes say. Pictures that the transcript shows are not shown twice.
"""

from __future__ import annotations

import base64
import csv
import io
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...wire import FilePart, SendResult, ToolPart

if TYPE_CHECKING:
    from ...client import SessionHandle

__all__ = ["MadeFile", "made_files", "may_have_made", "show_made_files"]

_MOST_FILES = 8
_LARGEST = {"text": 1 << 20, "image": 5 << 20}
_ROWS = 10
_COLUMNS = 30
_CELL = 200
_SHOWN = 100_000
"""Characters of Markdown and HTML."""
_CHANGING = frozenset({"bash", "write", "edit", "batch", "task", "artifact"})
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_CAPTION = "font-size:.9em;opacity:.75;margin:6px 0 2px"
_BOX = "border-left:3px solid rgba(127,127,127,.35);padding:2px 12px;overflow-x:auto"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file below /workspace; `data` is None when it is too large or can't be read: see `why`."""

    path: str
    size: int
    data: bytes | None = None
    why: str = ""


def may_have_made(result: SendResult) -> bool:
    """Whether the turn used a tool that changes files."""
    return any(isinstance(part, ToolPart) and part.tool in _CHANGING for part in result.parts)


def made_files(session: SessionHandle, message_id: str, result: SendResult) -> list[MadeFile]:
    """
    What the turn of this message added or changed, of kinds that can be shown.

    Blocks on the network. Raises the client's errors.
    """
    known = {part.path for part in result.parts if isinstance(part, FilePart)}
    paths = [
        f"/workspace/{diff.path}"
        for diff in session.get_diff(message_id)
        if diff.status != "deleted" and _renderer(diff.path) and not _is_hidden(diff.path)
    ]
    wanted = [path for path in paths if path not in known]
    sizes = _sizes(session, wanted[:_MOST_FILES])
    files = [_fetched(session, path, size) for path, size in sizes.items()]
    if len(wanted) > _MOST_FILES:
        files.append(MadeFile("", 0, why=f"and {len(wanted) - _MOST_FILES} more files"))
    return files


def show_made_files(files: Sequence[MadeFile]) -> None:
    """Display them, each on its own. Nothing is shown outside of a notebook but their names."""
    from IPython.display import display

    for file in files:
        display(_bundle(file), raw=True)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _sizes(session: SessionHandle, paths: Sequence[str]) -> dict[str, int]:
    """The files that are there, with their bytes."""
    from ...client import AgentError

    sizes: dict[str, int] = {}
    for folder in dict.fromkeys(posixpath.dirname(path) for path in paths):
        try:
            entries = session.list_files(folder)
        except AgentError:  # a folder that is gone again
            continue
        sizes |= {entry.path: entry.size for entry in entries if entry.kind == "file"}
    return {path: sizes[path] for path in paths if path in sizes}


def _fetched(session: SessionHandle, path: str, size: int) -> MadeFile:
    from ...client import AgentError
    from ...widgets import size_text

    kind = "image" if _renderer(path) is _image else "text"
    if size > _LARGEST[kind]:
        return MadeFile(path, size, why=f"{size_text(size)}, too large to be shown here")
    try:
        return MadeFile(path, size, session.get_file_buffer(path))
    except AgentError as error:
        return MadeFile(path, size, why=str(error))


def _bundle(file: MadeFile) -> dict[str, Any]:
    from ...widgets import page, page_text, visible

    if not file.path:
        return _note(file.why)
    name = visible(file.path.removeprefix("/workspace/"))
    render = _renderer(file.path)
    if file.data is None or render is None:
        return _note(f"{name}: {visible(file.why)}")
    try:
        html, text = render(file.data)
    except _Unreadable as error:
        return _note(f"{name} is not shown: {error}")
    caption = f'<div style="{_CAPTION}">{page_text(name)}</div>'
    return {
        "text/html": page(f'{caption}<div style="{_BOX}">{html}</div>'),
        "text/plain": f"{name}\n{text}",
    }


def _note(text: str) -> dict[str, Any]:
    from ...widgets import page, page_text

    return {"text/html": page(page_text(text), _CAPTION), "text/plain": text}


class _Unreadable(Exception):
    """The content is not what the name says."""


Rendered = tuple[str, str]
"""As safe HTML and as plain text."""


def _image(data: bytes) -> Rendered:
    kind = next((kind for magic, kind in _SIGNATURES if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise _Unreadable("its bytes are no picture of a known kind")
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<img src="{source}" alt="" style="max-width:100%">', "[picture]"


def _markdown(data: bytes) -> Rendered:
    from ...widgets import readable, render_markdown

    text = _decoded(data)
    shown = text[:_SHOWN]
    cut = "<p>[cut here]</p>" if len(text) > _SHOWN else ""
    return render_markdown(shown) + cut, readable(shown)


def _html(data: bytes) -> Rendered:
    from ...widgets import readable
    from ._safe_html import safe_html

    text = _decoded(data)
    html, cut = safe_html(text, _SHOWN)
    return html + ("<p>[cut here]</p>" if cut else ""), readable(text[:2000])


def _csv(data: bytes) -> Rendered:
    """The head of a table, and how many lines follow."""
    from ...widgets import page_text, readable

    text = _decoded(data)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [row[:_COLUMNS] for row in _first(reader, _ROWS + 1)]
    except csv.Error as error:
        raise _Unreadable(f"it is no CSV: {error}") from None
    if not rows:
        return "<p>(empty)</p>", "(empty)"
    head, *body = [[_shortened(readable(cell)) for cell in row] for row in rows]
    more = _lines_after(text, len(rows))
    lines = ["".join(f"<th>{page_text(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{page_text(cell)}</td>" for cell in row) for row in body]
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    note = f"<p>… and about {more} more rows</p>" if more else ""
    plain = "\n".join("  ".join(row) for row in (head, *body))
    return f"<table>{table}</table>{note}", plain + (f"\n… and about {more} more rows" * bool(more))


def _first(reader: Any, count: int) -> Iterator[list[str]]:
    for row in reader:
        if row:
            yield row
            count -= 1
        if not count:
            return


def _lines_after(text: str, count: int) -> int:
    return max(text.rstrip("\n").count("\n") + 1 - count, 0)


def _shortened(cell: str) -> str:
    return cell if len(cell) <= _CELL else f"{cell[: _CELL - 1]}…"


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Unreadable("it is no text in UTF-8") from None


_RENDERERS: dict[str, Callable[[bytes], Rendered]] = {
    ".csv": _csv,
    ".gif": _image,
    ".htm": _html,
    ".html": _html,
    ".jpeg": _image,
    ".jpg": _image,
    ".md": _markdown,
    ".png": _image,
    ".tsv": _csv,
    ".webp": _image,
}


def _renderer(path: str) -> Callable[[bytes], Rendered] | None:
    return _RENDERERS.get(posixpath.splitext(path)[1].lower())
