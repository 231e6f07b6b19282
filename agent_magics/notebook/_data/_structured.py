"""`--json` and `ask_json()`: replies that are data, checked before anybody gets them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from .._core import ask
from .._errors import InvalidReply
from .._text import fenced
from ._shape import NotFitting, Shape, fitting_value, shape_of

if TYPE_CHECKING:
    from ...client import TurnInput
    from ...wire import SendResult

__all__ = ["Structured", "ask_json", "ask_structured", "named_shape"]

_ONCE = frozenset({"new", "title", "sandbox", "network", "notes", "data", "large"})
"""Options of the first question only: the others go on in its session."""


@dataclass(frozen=True, slots=True)
class Structured:
    """A reply as data: its `value`, and the turn that brought it."""

    value: Any
    result: SendResult


def ask_json(prompt: TurnInput, form: Any, /, *, retries: int = 2, **options: Any) -> Any:
    """
    Give the agent a task whose reply is data, and return that.

    `form` is a pydantic model, a dataclass, a TypedDict or another type that pydantic takes: the
    value is of that type. Or it is a JSON Schema as a mapping: the value is plain JSON. The schema
    goes along with the prompt. A reply that does not fit is asked for again, with what is wrong
    with it, at most `retries` times. `options` are those of `ask()`.

    Raises what `ask()` raises, and `InvalidReply` (a `TurnFailed`) when no reply fits.
    """
    return ask_structured(prompt, shape_of(form), retries, options).value


def ask_structured(
    prompt: TurnInput, shape: Shape, retries: int, options: Mapping[str, Any]
) -> Structured:
    """As `ask_json()`, with the turn along with the value."""
    if retries < 0:
        raise ValueError(f"retries is 0 or more, not {retries}")
    if options.get("replay") is not None:  # it answers once, and always the same
        retries = 0
        asked = prompt
    else:
        asked = _with_schema(prompt, shape)
    turn: dict[str, Any] = dict(options)
    for _ in range(1 + retries):
        result = ask(asked, **turn)
        try:
            return Structured(fitting_value(result.text, shape), result)
        except NotFitting as error:
            problems = str(error)
        asked = _again(problems)
        turn = {name: value for name, value in options.items() if name not in _ONCE}
    raise InvalidReply(problems, result=result)


def named_shape(name: str, variables: Mapping[str, Any]) -> Shape:
    """What the variable (`Model`, `models.Model`) describes. Raises `UsageError`."""
    first, *rest = name.split(".")
    if first not in variables:
        raise UsageError(f"--json {name}: there is no variable {first!r}")
    value = variables[first]
    for step in rest:
        if not hasattr(value, step):
            raise UsageError(f"--json {name}: {first} has no {step!r}")
        value = getattr(value, step)
    return shape_of(value)


def _with_schema(prompt: TurnInput, shape: Shape) -> TurnInput:
    from ...client import CommandCall, TextInput

    if isinstance(prompt, CommandCall):
        raise UsageError("--json goes with prompts, not with commands")
    parts: list[Any] = [prompt] if isinstance(prompt, str) else []
    if not parts:
        parts += prompt["parts"] if isinstance(prompt, Mapping) else prompt
    schema = fenced(json.dumps(shape.schema, ensure_ascii=False), "json")
    wish = (
        "When you are done, end with the answer as JSON in one fenced block. It is read by a "
        f"program and must match this JSON Schema:\n{schema}"
    )
    return [*parts, TextInput(wish)]


def _again(problems: str) -> str:
    return (
        "A program could not use the JSON of your last reply:\n"
        f"{fenced(problems)}\n"
        "Give the whole answer again as JSON in one fenced block, so that it matches the JSON "
        "Schema above, and nothing else."
    )
