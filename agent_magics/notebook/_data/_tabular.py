"""Tables of pandas, polars and pyarrow: whole as a file, and in short for the model."""

from __future__ import annotations

import io
import shutil
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from IPython.core.error import UsageError

__all__ = ["Folder", "PackedTable", "is_table", "packed_table", "size_in_memory", "stored"]

_ROWS = 5
_MOST_COLUMNS = 100
_MOST_SAMPLE = 4000
_IN_MEMORY = 32 << 20
"""Bytes of a table in the kernel up to which its file is made in memory."""
_TABLES = {
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "LazyFrame", "Series"),
    "pyarrow": ("RecordBatch", "Table"),
}


class Folder:
    """A directory that goes with the last one who holds it, at the latest with the kernel."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="agent-magics-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def cleanup(self) -> None:
        """Remove it now."""
        self._remove()


@dataclass(frozen=True, slots=True)
class PackedTable:
    """
    A file with this suffix, and what the model is told of it.

    `content` is in memory, or in a file in `folder`, which lasts as long as somebody holds it.
    """

    suffix: str
    content: bytes | Path
    text: str
    folder: Folder | None = None


def is_table(value: Any) -> bool:
    """Whether `value` is a table, or a column of one; subclasses count."""
    return _kind(value) is not None


def size_in_memory(value: Any) -> int:
    """Bytes that a table has in the kernel, roughly; 0 for what is not held in memory."""
    found = _kind(value)
    if found is None or found[1] == "LazyFrame":
        return 0
    home, kind = found
    if home == "pandas":
        usage = value.memory_usage(index=True, deep=False)
        return int(usage if kind == "Series" else usage.sum())
    return int(value.estimated_size() if home == "polars" else value.nbytes)


def stored(
    size: int, suffix: str, write: Callable[[Any], object]
) -> tuple[bytes | Path, Folder | None]:
    """
    What `write(target)` writes for something of `size` bytes: in memory when that is little, else
    in a file of its own folder. Raises what `write` raises.
    """
    if size <= _IN_MEMORY:
        buffer = io.BytesIO()
        write(buffer)
        return buffer.getvalue(), None
    folder = Folder()
    path = folder.path / f"data{suffix}"
    write(path)
    return path, folder


def _kind(value: Any) -> tuple[str, str] | None:
    for base in type(value).__mro__:
        home = base.__module__.partition(".")[0]
        if base.__name__ in _TABLES.get(home, ()):
            return home, base.__name__
    return None


def packed_table(name: str, value: Any) -> PackedTable:
    """Raises `UsageError` for a table that no file can hold."""
    found = _kind(value)
    assert found is not None
    home, kind = found
    if kind == "LazyFrame":
        raise UsageError(f"{name} is a LazyFrame: send {name}.collect(), or a part of it")
    if kind == "Series":
        value = value.to_frame()
    if home == "pandas":
        return _pandas(value)
    try:
        return _polars(value) if home == "polars" else _arrow(value)
    except Exception as error:  # of either library, for columns of types that Parquet has not
        raise UsageError(f"{name} can't be written as Parquet: {error}") from None


def _pandas(frame: Any) -> PackedTable:
    has_index = type(frame.index).__name__ != "RangeIndex"
    columns = [
        (str(label), str(frame.dtypes.iloc[number]), int(frame.iloc[:, number].isna().sum()))
        for number, label in enumerate(frame.columns)  # by numbers: labels may come twice
    ]
    sample = frame.head(_ROWS).to_csv(index=has_index)
    size, suffix = size_in_memory(frame), ".parquet"
    try:
        content, folder = stored(size, suffix, frame.to_parquet)
    # No pyarrow; mixed columns; labels that come twice; types that Parquet has not.
    except (ImportError, NotImplementedError, OverflowError, TypeError, ValueError):
        suffix = ".csv"
        content, folder = stored(
            size,
            suffix,
            lambda target: frame.to_csv(target, index=has_index, errors="surrogatepass"),
        )
    text = _told("pandas DataFrame", len(frame), columns, sample)
    if has_index:
        names = ", ".join(str(label) for label in frame.index.names if label is not None)
        text += f"\nIts index{f' ({names})' if names else ''} is kept in the file."
    return PackedTable(suffix, content, text, folder)


def _polars(frame: Any) -> PackedTable:
    missing = frame.null_count().row(0) if frame.width else ()
    columns = [
        (label, str(dtype), int(count))
        for (label, dtype), count in zip(frame.schema.items(), missing, strict=True)
    ]
    content, folder = stored(size_in_memory(frame), ".parquet", frame.write_parquet)
    text = _told("polars DataFrame", frame.height, columns, str(frame.head(_ROWS)))
    return PackedTable(".parquet", content, text, folder)


def _arrow(table: Any) -> PackedTable:
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    if not isinstance(table, pyarrow.Table):
        table = pyarrow.Table.from_batches([table])
    columns = [
        (label, str(kind), int(table.column(number).null_count))
        for number, (label, kind) in enumerate(
            zip(table.schema.names, table.schema.types, strict=True)
        )
    ]
    content, folder = stored(
        size_in_memory(table), ".parquet", lambda target: parquet.write_table(table, target)
    )
    sample = "\n".join(str(row) for row in table.slice(0, _ROWS).to_pylist())
    text = _told("pyarrow Table", table.num_rows, columns, sample)
    return PackedTable(".parquet", content, text, folder)


def _told(kind: str, rows: int, columns: list[tuple[str, str, int]], sample: str) -> str:
    lines = [
        f"- {label}: {dtype}" + (f", {missing} missing" if missing else "")
        for label, dtype, missing in columns[:_MOST_COLUMNS]
    ]
    if len(columns) > _MOST_COLUMNS:
        lines.append(f"- ... and {len(columns) - _MOST_COLUMNS} more columns")
    shown = sample if len(sample) <= _MOST_SAMPLE else f"{sample[:_MOST_SAMPLE]}\n[cut]"
    head = f"a {kind}, {rows} rows, {len(columns)} columns"
    fence = "````"
    rows_shown = f"The first rows:\n{fence}text\n{shown.rstrip()}\n{fence}"
    return "\n".join([f"{head}:", *lines, rows_shown])
