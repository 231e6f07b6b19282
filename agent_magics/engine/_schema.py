"""JSON Schema of the wire's types, for the document that describes the API."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

__all__ = ["Schema", "Schemas"]

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    Any: {},
    None: {"type": "null"},
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    int: {"type": "integer"},
    str: {"type": "string"},
}


class Schemas:
    """Schemas of types; those of TypedDicts are collected in `components` and referred to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, annotation: Any) -> Schema:
        """
        The JSON Schema (2020-12) of a type of the wire.

        Raises `TypeError` for a type that JSON doesn't have.
        """
        if is_typeddict(annotation):
            return self._reference(annotation)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is NotRequired:
            return self.of(arguments[0])
        if origin is Annotated:
            return {**self.of(arguments[0]), **arguments[1]}
        if annotation in _PLAIN:
            return dict(_PLAIN[annotation])
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(argument) for argument in arguments]}
        if origin in (list, Sequence):
            return {"type": "array", "items": self.of(arguments[0])}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        raise TypeError(f"JSON has no {annotation!r}")

    def _reference(self, shape: Any) -> Schema:
        name = shape.__name__
        if name not in self.components:
            self.components[name] = {}  # it may refer to itself
            hints = get_type_hints(shape, include_extras=True)
            schema: Schema = {
                "type": "object",
                "properties": {key: self.of(hint) for key, hint in hints.items()},
                # `__required_keys__` knows nothing of annotations that are still text.
                "required": [
                    key
                    for key, hint in hints.items()
                    if shape.__total__ and get_origin(hint) is not NotRequired
                ],
            }
            if text := _docstring(shape):
                schema["description"] = text
            self.components[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}


def _docstring(shape: Any) -> str:
    # TypedDicts without one have dict's.
    text = shape.__doc__ or ""
    return "" if text == dict.__doc__ else inspect.cleandoc(text)
