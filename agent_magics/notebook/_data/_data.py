"""
Objects of the notebook, packed for the agent: files for the container, and a text that tells the
model what they are.

Tables and arrays travel whole, as files in `/workspace/data`; the model itself sees their shape,
types and a few rows. Figures and images are also shown to the model. Functions and classes are
sent as their source. Nothing is imported that the notebook has not imported already.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from .._frontend import current_shell
from .._text import fenced
from ._paths import matching_files
from ._pictures import figure_facts, is_plotly, plotly_json, png_of
from ._tabular import Folder, PackedTable, is_table, packed_table, size_in_memory, stored

if TYPE_CHECKING:
    from ...client import FileInput, TurnInput

__all__ = [
    "FOLDER",
    "Packed",
    "chosen",
    "pack",
    "sent_note",
    "too_large",
    "too_large_to_pack",
    "with_data",
]

FOLDER = "/workspace/data"
_LARGE = 20 << 20
"""Bytes that leave the kernel without a question."""
_HUGE = 256 << 20
"""Bytes in memory beyond which nothing is even packed without a question."""
_INLINE = 20_000
"""Characters of a text that stand in the prompt itself."""
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass
class Packed:
    """
    What becomes of one object: `files` by path in the container, `text` for the model, and
    `images` that it is shown.
    """

    name: str
    text: str
    files: dict[str, bytes | Path] = field(default_factory=dict)
    images: list[FileInput] = field(default_factory=list)
    note: str = ""
    """What the user has to know of it."""
    folder: Folder | None = None
    """Holds what is too large for the memory."""

    def discard(self) -> None:
        """It is sent: free its memory and its files."""
        self.files.clear()
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None

    @property
    def size(self) -> int:
        """Bytes that leave the kernel, the text left out."""
        sizes = (v.stat().st_size if isinstance(v, Path) else len(v) for v in self.files.values())
        return sum(sizes)


def chosen(names: Iterable[str], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """
    What `names` mean: variables of `namespace`, else files and patterns such as `data/*.csv`.

    Raises `UsageError` for what is neither.
    """
    found: dict[str, Any] = {}
    for name in names:
        if name in namespace:
            found[name] = namespace[name]
        else:
            found |= {path.name: path for path in _files(name)}
    return found


def with_data(prompt: TurnInput, packed: Sequence[Packed]) -> TurnInput:
    """The prompt, unchanged, followed by what the model has to know of the data."""
    from ...client import CommandCall, TextInput

    if not packed:
        return prompt
    if isinstance(prompt, CommandCall):
        raise UsageError("a command takes no data: put it into the container with %agent_put")
    parts: list[Any] = [prompt] if isinstance(prompt, str) else []
    if not parts:
        parts += prompt["parts"] if isinstance(prompt, Mapping) else prompt
    text = "\n\n".join(["Attached from the notebook:", *(item.text for item in packed)])
    return [*parts, TextInput(text), *(image for item in packed for image in item.images)]


def too_large(packed: Iterable[Packed]) -> str:
    """What to ask before so much leaves the kernel; empty if it is not much."""
    items = list(packed)
    if sum(item.size for item in items) <= _LARGE:
        return ""
    return f"this would send {_sizes(items)} to the container: add --large if that is meant"


def too_large_to_pack(data: Mapping[str, Any]) -> str:
    """The same, before a file is made of anything: what tables and arrays have in memory."""
    from ...widgets import size_text

    sizes = {name: _in_memory(value) for name, value in data.items()}
    if sum(sizes.values()) <= _HUGE:
        return ""
    listed = ", ".join(f"{name} ({size_text(size)})" for name, size in sizes.items() if size)
    return f"in memory, {listed}: too much to be sent unasked; add --large if that is meant"


def sent_note(packed: Sequence[Packed]) -> str:
    """What leaves the kernel, in a line for the user."""
    return f"Sent along: {_sizes(packed)}"


def _sizes(packed: Iterable[Packed]) -> str:
    from ...widgets import size_text

    return ", ".join(f"{item.name} ({size_text(item.size or len(item.text))})" for item in packed)


def _in_memory(value: Any) -> int:
    if is_table(value):
        return size_in_memory(value)
    if isinstance(value, Path):
        return value.stat().st_size if value.is_file() else 0
    return int(value.nbytes) if type(value).__module__.partition(".")[0] == "numpy" else 0


def pack(name: str, value: Any) -> Packed:
    """Raises `UsageError` for an object that can't be sent."""
    if is_table(value):
        return _with_file(name, packed_table(name, value))
    if isinstance(value, Path):
        return _file(name, value)
    if isinstance(value, str):
        return _text(name, value)
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return _source(name, value)
    for convert in (_array, _figure, _json):
        packed = convert(name, value)
        if packed is not None:
            return packed
    kind = type(value).__name__
    raise UsageError(
        f"{name} is a {kind}, which can't be sent: tables, arrays, figures, pictures, text, JSON, "
        "functions, classes and files can"
    )


def _with_file(name: str, made: PackedTable) -> Packed:
    path = f"{FOLDER}/{name}{made.suffix}"
    text = f"{name}, in the file {path}: {made.text}"
    return Packed(name, text, {path: made.content}, folder=made.folder)


def _files(pattern: str) -> list[Path]:
    found = matching_files(pattern)
    if not found:
        raise UsageError(f"{pattern!r} is neither a variable of the notebook nor a file")
    return found


def _file(name: str, path: Path) -> Packed:
    if not path.is_file():
        raise UsageError(f"{name}: {path} is no file")
    target = f"{FOLDER}/{path.name}"
    size = path.stat().st_size
    packed = Packed(name, f"{name}, the file {target} ({size} bytes).", {target: path})
    mime = mimetypes.guess_type(path.name)[0]
    if mime in _IMAGES:
        packed.images.append(_image(path.read_bytes(), path.name, mime))
    elif size <= _INLINE and (text := _decoded(path.read_bytes())) is not None:
        packed.text += f" Its content:\n{fenced(text)}"
    return packed


def _text(name: str, value: str) -> Packed:
    if len(value) <= _INLINE:
        return Packed(name, f"{name}, a text:\n{fenced(value)}")
    path = f"{FOLDER}/{name}.txt"
    start = f"It begins:\n{fenced(value[:1000])}"
    text = f"{name}, a text of {len(value)} characters, in the file {path}. {start}"
    return Packed(name, text, {path: value.encode("utf-8", "surrogatepass")})


def _source(name: str, value: Any) -> Packed:
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):
        source = _class_in_cells(value)
        if not source:
            raise UsageError(f"the source of {name} is not known") from None
    return Packed(name, f"{name}, defined as:\n{fenced(source, 'python')}")


def _class_in_cells(value: Any) -> str:
    """
    The latest definition of a class in the cells that were run, empty without one.

    Of classes in notebooks Python itself does not know where they were defined.
    """
    shell = current_shell()
    if not inspect.isclass(value) or shell is None:
        return ""
    for cell in reversed(shell.user_ns.get("In", ())):
        if value.__name__ not in cell:
            continue
        try:
            tree = ast.parse(cell)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in reversed(tree.body):
            if isinstance(node, ast.ClassDef) and node.name == value.__name__:
                first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
                return "\n".join(cell.split("\n")[first - 1 : node.end_lineno])
    return ""


def _array(name: str, value: Any) -> Packed | None:
    if type(value).__module__.partition(".")[0] != "numpy" or not hasattr(value, "dtype"):
        return None
    import numpy

    if isinstance(value, numpy.ma.MaskedArray):
        raise UsageError(f"{name} is a masked array: send {name}.filled(...) with a value of yours")
    array = numpy.asarray(value)
    if array.dtype.hasobject:
        raise UsageError(f"{name} is an array of Python objects: make it one of numbers or text")
    content, folder = stored(
        array.nbytes, ".npy", lambda target: numpy.save(target, array, allow_pickle=False)
    )
    shown = numpy.array2string(array, threshold=50, edgeitems=3)
    head = f"a NumPy array (numpy.load), shape {array.shape}, dtype {array.dtype}"
    return _with_file(name, PackedTable(".npy", content, f"{head}:\n{fenced(shown)}", folder))


def _figure(name: str, value: Any) -> Packed | None:
    data = png_of(value)
    if data is None:
        return _plotly(name, value) if is_plotly(value) else None
    path = f"{FOLDER}/{name}.png"
    image = _image(data, f"{name}.png", "image/png")
    return Packed(name, f"{name}, a picture, also in the file {path}.", {path: data}, [image])


def _plotly(name: str, value: Any) -> Packed:
    """No picture can be made here: its data, and the words that stand in it."""
    text = plotly_json(value)
    path = f"{FOLDER}/{name}.json"
    told = f"{name}, a plotly figure without a picture, in the file {path} (plotly.io.read_json)"
    note = f"{name} is sent as data, not as a picture: that needs the package kaleido and Chrome"
    packed = Packed(name, f"{told}:\n{fenced(figure_facts(text))}", note=note)
    packed.files[path] = text.encode("utf-8", "surrogatepass")
    return packed


def _image(data: bytes, filename: str, mime: str) -> FileInput:
    from ...client import FileInput

    return FileInput(data, mime, filename)


def _json(name: str, value: Any) -> Packed | None:
    try:
        text = json.dumps(value, ensure_ascii=False, indent=1, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return None
    kind = type(value).__name__
    if len(text) <= _INLINE:
        return Packed(name, f"{name}, a {kind}, as JSON:\n{fenced(text, 'json')}")
    path = f"{FOLDER}/{name}.json"
    length = f" with {len(value)} entries" if hasattr(value, "__len__") else ""
    start = f"It begins:\n{fenced(text[:1000], 'json')}"
    data = text.encode("utf-8", "surrogatepass")
    return Packed(name, f"{name}, a {kind}{length}, in the file {path}. {start}", {path: data})


def _plain(value: Any) -> Any:
    """What JSON has in place of numbers of NumPy, times, paths and objects with fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    for method in ("isoformat", "tolist", "model_dump"):
        if not isinstance(value, type) and callable(found := getattr(value, method, None)):
            return found()
    if isinstance(value, Path):
        return str(value)
    raise TypeError


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
