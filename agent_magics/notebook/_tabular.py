"""Tables of pandas, polars and pyarrow: whole as a file, and in short for the model."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from IPython.core.error import UsageError

__all__ = ["is_table", "packed_table"]

_ROWS = 5
_MOST_COLUMNS = 100
_MOST_SAMPLE = 4000
_TABLES = {
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "LazyFrame", "Series"),
    "pyarrow": ("RecordBatch", "Table"),
}


def is_table(value: Any) -> bool:
    """Whether `value` is a table, or a column of one; subclasses count."""
    return _kind(value) is not None


def _kind(value: Any) -> tuple[str, str] | None:
    for base in type(value).__mro__:
        home = base.__module__.partition(".")[0]
        if base.__name__ in _TABLES.get(home, ()):
            return home, base.__name__
    return None


def packed_table(name: str, value: Any) -> tuple[str, bytes, str]:
    """The suffix and the bytes of a file, and what the model is told of it."""
    found = _kind(value)
    assert found is not None
    home, kind = found
    if kind == "LazyFrame":
        raise UsageError(f"{name} is a LazyFrame: send {name}.collect(), or a part of it")
    if kind == "Series":
        value = value.to_frame()
    if home == "pandas":
        return _pandas(value)
    if home == "polars":
        return _polars(value)
    return _arrow(value)


def _pandas(frame: Any) -> tuple[str, bytes, str]:
    has_index = type(frame.index).__name__ != "RangeIndex"
    columns = [
        (str(label), str(dtype), int(missing))
        for label, dtype, missing in zip(
            frame.columns, frame.dtypes, frame.isna().sum(), strict=True
        )
    ]
    sample = frame.head(_ROWS).to_csv(index=has_index)
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer)
        suffix, data = ".parquet", buffer.getvalue()
    except (ImportError, TypeError, ValueError, OverflowError):  # no pyarrow; mixed columns
        suffix, data = ".csv", frame.to_csv(index=has_index).encode("utf-8", "surrogatepass")
    text = _told("pandas DataFrame", len(frame), columns, sample)
    if has_index:
        names = ", ".join(str(label) for label in frame.index.names if label is not None)
        text += f"\nIts index{f' ({names})' if names else ''} is kept in the file."
    return suffix, data, text


def _polars(frame: Any) -> tuple[str, bytes, str]:
    missing = frame.null_count().row(0) if frame.width else ()
    columns = [
        (label, str(dtype), int(count))
        for (label, dtype), count in zip(frame.schema.items(), missing, strict=True)
    ]
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    sample = str(frame.head(_ROWS))
    return ".parquet", buffer.getvalue(), _told("polars DataFrame", frame.height, columns, sample)


def _arrow(table: Any) -> tuple[str, bytes, str]:
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    if not isinstance(table, pyarrow.Table):
        table = pyarrow.Table.from_batches([table])
    columns = [
        (label, str(kind), int(table.column(number).null_count))
        for number, (label, kind) in enumerate(
            zip(table.schema.names, table.schema.types, strict=True)
        )
    ]
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    sample = "\n".join(str(row) for row in table.slice(0, _ROWS).to_pylist())
    return ".parquet", buffer.getvalue(), _told("pyarrow Table", table.num_rows, columns, sample)


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
