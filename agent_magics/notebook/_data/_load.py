"""Files of the container as Python objects: `--get /workspace/x.parquet:df`."""

from __future__ import annotations

import argparse
import io
import json
import keyword
from collections.abc import Callable
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

from IPython.core.error import UsageError

from .._text import one_line

__all__ = ["Wish", "load", "parse_wish"]

Wish = tuple[str, str]
"""A path in the container, and the variable that gets its content."""


def parse_wish(text: str) -> Wish:
    """
    `path:variable`; without a variable it is named after the file.

    Raises `argparse.ArgumentTypeError`.
    """
    path, colon, name = text.rpartition(":")
    if not colon:
        path, name = text, PurePosixPath(text).stem.replace("-", "_").replace(" ", "_")
    if not path or not name.isidentifier() or keyword.iskeyword(name):
        raise argparse.ArgumentTypeError(f"{text!r} is not like /workspace/x.csv:name")
    return path, name


def load(path: str, data: bytes) -> Any:
    """
    The content of a file by its suffix: tables as DataFrames where pandas or polars is installed,
    JSON, NumPy arrays, pictures as IPython's `Image`, text as `str`, anything else as `bytes`.

    Nothing is unpickled. Raises `UsageError` when the content is not what the suffix says.
    """
    read = _READERS.get(PurePosixPath(path).suffix.lower(), _text_or_bytes)
    try:
        return read(data)
    except ImportError as error:
        raise UsageError(f"--get {path}: {error}") from None
    except Exception as error:  # of any of these libraries
        raise UsageError(
            f"--get {path}: its content can't be read: {one_line(str(error))}"
        ) from None


def _tables() -> Any:
    try:
        return import_module("pandas")
    except ImportError:
        return import_module("polars")


def _csv(data: bytes, separator: str = ",") -> Any:
    library = _tables()
    option = {"sep" if library.__name__ == "pandas" else "separator": separator}
    return library.read_csv(io.BytesIO(data), **option)


def _numpy(data: bytes) -> Any:
    import numpy

    return numpy.load(io.BytesIO(data), allow_pickle=False)


def _image(data: bytes) -> Any:
    from IPython.display import Image

    return Image(data)


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


_READERS: dict[str, Callable[[bytes], Any]] = {
    ".csv": _csv,
    ".gif": _image,
    ".jpeg": _image,
    ".jpg": _image,
    ".json": json.loads,
    ".npy": _numpy,
    ".npz": _numpy,
    ".parquet": lambda data: _tables().read_parquet(io.BytesIO(data)),
    ".png": _image,
    ".tsv": lambda data: _csv(data, "\t"),
}
