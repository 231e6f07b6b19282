"""What a structured reply has to look like, and the JSON in the text of a reply."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from IPython.core.error import UsageError

__all__ = ["NotFitting", "Shape", "fitting_value", "shape_of"]

_START = re.compile(r"[{\[]")
_MOST_STARTS = 200
"""Places in a reply at which JSON is looked for."""
_MOST_PROBLEMS = 10


class NotFitting(ValueError):
    """The value does not fit; the message has a line for each problem."""


@dataclass(frozen=True)
class Shape:
    """
    `schema` is the JSON Schema for the model, `convert` makes the user's object of plain JSON.

    `convert` raises `NotFitting`.
    """

    schema: Mapping[str, Any]
    convert: Callable[[Any], Any]


def shape_of(model: Any) -> Shape:
    """
    The shape that `model` describes: a JSON Schema as a mapping, or anything that pydantic takes:
    a model, a dataclass, a TypedDict, `list[Model]`.

    Raises `UsageError` for something else, and for a schema that is none.
    """
    return _of_schema(model) if isinstance(model, Mapping) else _of_type(model)


def fitting_value(text: str, shape: Shape) -> Any:
    """
    The value of the JSON in a reply: the whole of it, a fenced block, or a piece between words.

    The first that fits counts. Raises `NotFitting`.
    """
    problem = NotFitting("There is no JSON in the reply.")
    for number, found in enumerate(_found_json(text)):
        try:
            return shape.convert(found)
        except NotFitting as error:
            problem = error if number == 0 else problem
    raise problem


def _of_schema(schema: Mapping[str, Any]) -> Shape:
    jsonschema, referencing = import_module("jsonschema"), import_module("referencing")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        json.dumps(schema)
    except (jsonschema.SchemaError, TypeError, ValueError) as error:
        reason = getattr(error, "message", str(error))
        raise UsageError(f"--json: this is no JSON Schema: {reason}") from None
    # An empty registry: a `$ref` to an address elsewhere is an error, nothing is fetched.
    validator = kind(schema, registry=referencing.Registry())

    def convert(value: Any) -> Any:
        try:
            errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
        except referencing.exceptions.Unresolvable as error:
            raise UsageError(f"--json: the schema refers to what is not in it: {error}") from None
        if errors:
            _refuse([f"{error.json_path}: {error.message}" for error in errors])
        return value

    return Shape(schema, convert)


def _of_type(model: Any) -> Shape:
    pydantic = import_module("pydantic")
    try:
        adapter = pydantic.TypeAdapter(model)
        schema = adapter.json_schema()
    except (pydantic.errors.PydanticUserError, NameError, TypeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(
            "--json takes a pydantic model, a dataclass, a TypedDict or a JSON Schema as a dict, "
            f"not {type(model).__name__}: {reason}"
        ) from None

    def convert(value: Any) -> Any:
        try:
            return adapter.validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            _refuse([f"{_place(e['loc'])}: {e['msg']}" for e in error.errors()])

    return Shape(schema, convert)


def _place(location: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _refuse(problems: list[str]) -> NoReturn:
    more = len(problems) - _MOST_PROBLEMS
    shown = [problem[:500] for problem in problems[:_MOST_PROBLEMS]]
    raise NotFitting("\n".join([*shown, *([f"and {more} more"] if more > 0 else [])]))


def _found_json(text: str) -> Iterator[Any]:
    """All JSON that may be meant, the likeliest first."""
    for whole in _pieces(text):
        try:
            yield json.loads(whole, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            continue
    yield from _embedded(text)


def _pieces(text: str) -> Iterator[str]:
    """The whole text, then its fenced blocks from the last to the first."""
    from markdown_it import MarkdownIt

    yield text
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    for fence in reversed(fences):
        if fence.info.strip().lower() in ("", "json", "json5", "jsonc"):
            yield fence.content


def _embedded(text: str) -> Iterator[Any]:
    """Objects and lists between words, the outermost ones, in order."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    position, tries = 0, 0
    while tries < _MOST_STARTS and (match := _START.search(text, position)):
        tries += 1
        try:
            value, position = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError):
            position = match.end()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
