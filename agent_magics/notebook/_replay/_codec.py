"""The wire's dataclasses as plain JSON and back, by their type hints."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ... import wire

__all__ = ["Damaged", "decoded", "encoded"]


class Damaged(ValueError):
    """The JSON is not what the type needs; the message says where."""


def encoded(value: Any) -> Any:
    """`value` as JSON; fields of dataclasses that have their default are left out."""
    if dataclasses.is_dataclass(value):
        found = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if field.name == "type" or not _is_default(field, item):
                found[field.name] = encoded(item)
        return found
    if isinstance(value, Mapping):
        return {str(key): encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    return value


def decoded(kind: Any, data: Any, where: str = "") -> Any:
    """The value of type `kind` that `encoded` made `data` of. Raises `Damaged`."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), data, where)
    if origin is tuple:
        _check(isinstance(data, list), where, "a list")
        item = get_args(kind)[0]
        return tuple(decoded(item, entry, f"{where}[{i}]") for i, entry in enumerate(data))
    if origin is Literal:
        _check(data in get_args(kind), where, " or ".join(map(repr, get_args(kind))))
        return data
    if dataclasses.is_dataclass(kind):
        return _object(kind, data, where)
    if origin is not None and issubclass(origin, Mapping):
        _check(isinstance(data, dict), where, "an object")
        return data
    if kind is Any:
        return data
    if kind is float:
        _check(isinstance(data, int | float) and not isinstance(data, bool), where, "a number")
        return data
    if kind is type(None):
        _check(data is None, where, "null")
        return data
    _check(type(data) is kind, where, {str: "a text", int: "a whole number"}.get(kind, "a boolean"))
    return data


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, vars(wire) | {"Mapping": Mapping, "Any": Any, "Literal": Literal})


def _object(kind: Any, data: Any, where: str) -> Any:
    _check(isinstance(data, dict), where, "an object")
    hints = _hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        place = f"{where}.{field.name}" if where else field.name
        if field.name in data:
            values[field.name] = decoded(hints[field.name], data[field.name], place)
        else:
            missing = dataclasses.MISSING
            optional = field.default is not missing or field.default_factory is not missing
            _check(optional, place, "there")
    return kind(**values)


def _one_of(kinds: Sequence[Any], data: Any, where: str) -> Any:
    """The member of a union: by the object's `type`, or the first one that fits."""
    if isinstance(data, dict) and "type" in data:
        named = [k for k in kinds if dataclasses.is_dataclass(k) and _type_of(k) == data["type"]]
        if named:
            return _object(named[0], data, where)
    problem = Damaged(f"{where}: no such type")
    for kind in kinds:
        try:
            return decoded(kind, data, where)
        except Damaged as error:
            problem = error
    raise problem


def _type_of(kind: Any) -> str | None:
    """What the field `type` of this dataclass always says; None when it may be anything."""
    hint = _hints(kind).get("type")
    return str(get_args(hint)[0]) if get_origin(hint) is Literal else None


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(type(value) is type(field.default) and value == field.default)
    factory = field.default_factory
    return factory is not dataclasses.MISSING and bool(value == factory())


def _check(good: bool, where: str, wanted: str) -> None:
    if not good:
        raise Damaged(f"{where or 'the entry'} is not {wanted}")
