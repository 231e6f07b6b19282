"""
Variables in prompts.

A prompt is text for a model: code, JSON and LaTeX full of braces must arrive unchanged. So
`{name}` is replaced only where `name` is a variable of the notebook:

- `{df}`, `{cfg.rate}`, `{rows[0]}`, `{cfg["key"]}`: replaced by `str(value)`
- `{{df}}`: the text `{df}`; each further pair of braces counts in the same way (`{{{df}}}` is
  the value in braces), as in f-strings
- braces around anything else, `{{` and `}}` included, are left as they are
- so are names whose attribute or item does not exist, and names of modules, functions and
  classes, whose text would tell the model nothing

Values are inserted as they are, and never looked into again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Expansion", "expand"]

_TRAILER = r"""\.[^\W\d]\w*|\[-?\d+\]|\["[^"\\\n]*"\]|\['[^'\\\n]*'\]"""
# Possessive, and tried at the start of a run only: a megabyte of braces takes linear time.
_FIELD = re.compile(rf"(?<!\{{)(\{{++)([^\W\d]\w*+)((?:{_TRAILER})*+)(\}}++)")
_STEP = re.compile(_TRAILER)


@dataclass(frozen=True, slots=True)
class Expansion:
    """
    The expanded `text`.

    `used` are the expressions that were replaced, `unresolved` those that begin with a variable
    of the notebook and yet have no value to insert; they stand in the text unchanged.
    """

    text: str
    used: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()


def expand(prompt: str, namespace: Mapping[str, Any]) -> Expansion:
    """Replace the fields of `prompt` that name variables in `namespace`."""
    used: list[str] = []
    unresolved: list[str] = []

    def replace(match: re.Match[str]) -> str:
        opening, name, trailers, closing = match.groups()
        if name not in namespace:
            return match[0]
        pairs = min(len(opening), len(closing))
        outer = opening[pairs:], closing[pairs:]
        kept = pairs // 2
        inner = name + trailers
        if pairs % 2:
            value = _text_of(namespace[name], trailers)
            if value is None:
                unresolved.append(inner)
                return match[0]
            used.append(inner)
            inner = value
        return outer[0] + "{" * kept + inner + "}" * kept + outer[1]

    text = _FIELD.sub(replace, prompt)
    return Expansion(text, tuple(used), tuple(unresolved))


def _text_of(value: Any, trailers: str) -> str | None:
    """`str()` of the value that `trailers` lead to, `None` when there is nothing to insert."""
    try:
        for step in _STEP.findall(trailers):
            value = _step(value, step)
        if not trailers and _says_nothing(value):
            return None
        return str(value)
    except Exception:  # properties and __str__ of the user's objects may raise anything
        return None


def _step(value: Any, step: str) -> Any:
    if step.startswith("."):
        return getattr(value, step[1:])
    key = step[1:-1]
    return value[key[1:-1] if key[0] in "\"'" else int(key)]


def _says_nothing(value: Any) -> bool:
    return inspect.ismodule(value) or inspect.isroutine(value) or inspect.isclass(value)
