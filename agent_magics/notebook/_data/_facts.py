"""What variables are, in a line each: types, sizes, columns, keys; of contents only numbers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from .._text import one_line
from ._tabular import is_table

__all__ = ["facts_of"]

_MOST = 20
_NAMES = 40
"""Columns and keys that are listed at most."""


def facts_of(names: Iterable[str], namespace: Mapping[str, Any]) -> str:
    """A line for each of these that is a variable; modules say only what they are."""
    known = [name for name in names if name in namespace][:_MOST]
    return "\n".join(f"{name}: {_fact(namespace[name])}" for name in known)


def _fact(value: Any) -> str:
    kind = type(value).__name__
    if inspect.ismodule(value):
        return f"the module {value.__name__}"
    if inspect.isroutine(value) or inspect.isclass(value):
        return _callable(value)
    if value is None or type(value) in (bool, int, float, complex):
        return f"{kind}, {one_line(repr(value), 60)}"
    try:
        return f"{kind}{_size(value)}"
    except Exception:  # properties and methods of the user's objects may raise anything
        return kind


def _callable(value: Any) -> str:
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        signature = "(...)"
    what = "class" if inspect.isclass(value) else "function"
    return one_line(f"{what} {getattr(value, '__name__', '?')}{signature}", 300)


def _size(value: Any) -> str:
    if is_table(value):
        return _table(value)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype"):
        return f", shape {value.shape}, dtype {value.dtype}"
    if isinstance(value, str | bytes):
        return f" of length {len(value)}"
    if isinstance(value, Mapping):
        return f" with {len(value)} entries, keys: {_listed([repr(key) for key in value])}"
    if isinstance(value, list | tuple | set | frozenset):
        kinds = dict.fromkeys(type(item).__name__ for item in list(value)[:1000])
        return f" with {len(value)} entries" + (f" of {_listed(kinds)}" if kinds else "")
    return ""


def _table(value: Any) -> str:
    schema = getattr(value, "schema", None)
    if schema is not None and hasattr(schema, "types"):  # pyarrow's
        columns = zip(schema.names, schema.types, strict=True)
        return f", {value.num_rows} rows, columns: {_columns(columns)}"
    if hasattr(value, "dtypes") and hasattr(value, "columns"):
        columns = zip(value.columns, value.dtypes, strict=True)
        return f", {len(value)} rows, columns: {_columns(columns)}"
    return f", {len(value)} rows, dtype {value.dtype}"


def _columns(columns: Iterable[tuple[Any, Any]]) -> str:
    return _listed([f"{label} ({kind})" for label, kind in columns])


def _listed(words: Iterable[str]) -> str:
    found = [one_line(word, 80) for word in words]
    more = len(found) - _NAMES
    return ", ".join(found[:_NAMES]) + (f" and {more} more" if more > 0 else "")
