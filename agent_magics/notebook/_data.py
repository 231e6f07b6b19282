"""
Objects of the notebook, packed for the agent: files for the container, and a text that tells the
model what they are.

Tables and arrays travel whole, as files in `/workspace/data`; the model itself sees their shape,
types and a few rows. Figures and images are also shown to the model. Functions and classes are
sent as their source. Nothing is imported that the notebook has not imported already.
"""

from __future__ import annotations

import inspect
import io
import json
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ._paths import matching_files
from ._tabular import is_table, packed_table
from ._text import fenced

if TYPE_CHECKING:
    from ..client import FileInput, TurnInput

__all__ = ["FOLDER", "Packed", "chosen", "pack", "too_large", "with_data"]

FOLDER = "/workspace/data"
_LARGE = 20 << 20
"""Bytes that leave the kernel without a question."""
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
    from ..client import CommandCall, TextInput

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
    from ..widgets import size_text

    items = list(packed)
    if sum(item.size for item in items) <= _LARGE:
        return ""
    sizes = ", ".join(f"{item.name} ({size_text(item.size)})" for item in items)
    return f"this would send {sizes} to the container: add --large if that is meant"


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


def _with_file(name: str, made: tuple[str, bytes, str]) -> Packed:
    suffix, data, text = made
    path = f"{FOLDER}/{name}{suffix}"
    return Packed(name, f"{name}, in the file {path}: {text}", {path: data})


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
        raise UsageError(f"the source of {name} is not known") from None
    return Packed(name, f"{name}, defined as:\n{fenced(source, 'python')}")


def _array(name: str, value: Any) -> Packed | None:
    if type(value).__module__.partition(".")[0] != "numpy" or not hasattr(value, "dtype"):
        return None
    import numpy

    array = numpy.asarray(value)
    if array.dtype.hasobject:
        raise UsageError(f"{name} is an array of Python objects: make it one of numbers or text")
    buffer = io.BytesIO()
    numpy.save(buffer, array, allow_pickle=False)
    shown = numpy.array2string(array, threshold=50, edgeitems=3)
    head = f"a NumPy array (numpy.load), shape {array.shape}, dtype {array.dtype}"
    text = f"{head}:\n{fenced(shown)}"
    return _with_file(name, (".npy", buffer.getvalue(), text))


def _figure(name: str, value: Any) -> Packed | None:
    data = _png(name, value)
    if data is None:
        return None
    path = f"{FOLDER}/{name}.png"
    image = _image(data, f"{name}.png", "image/png")
    return Packed(name, f"{name}, a picture, also in the file {path}.", {path: data}, [image])


def _png(name: str, value: Any) -> bytes | None:
    home = type(value).__module__.partition(".")[0]
    buffer = io.BytesIO()
    if home == "PIL" and hasattr(value, "save"):
        value.save(buffer, format="PNG")
        return buffer.getvalue()
    if home == "plotly" and hasattr(value, "to_image"):
        try:
            found: bytes = value.to_image(format="png")
        except (ImportError, ValueError, RuntimeError):
            message = f"{name}: a plotly figure needs the package kaleido to become a picture"
            raise UsageError(message) from None
        return found
    figure = getattr(value, "figure", value)  # of axes
    if home in ("matplotlib", "seaborn") and hasattr(figure, "savefig"):
        figure.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()
    return None


def _image(data: bytes, filename: str, mime: str) -> FileInput:
    from ..client import FileInput

    return FileInput(data, mime, filename)


def _json(name: str, value: Any) -> Packed | None:
    try:
        text = json.dumps(value, ensure_ascii=False, indent=1)
    except (TypeError, ValueError):
        return None
    kind = type(value).__name__
    if len(text) <= _INLINE:
        return Packed(name, f"{name}, a {kind}, as JSON:\n{fenced(text, 'json')}")
    path = f"{FOLDER}/{name}.json"
    length = f" with {len(value)} entries" if hasattr(value, "__len__") else ""
    start = f"It begins:\n{fenced(text[:1000], 'json')}"
    data = text.encode("utf-8", "surrogatepass")
    return Packed(name, f"{name}, a {kind}{length}, in the file {path}. {start}", {path: data})


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
