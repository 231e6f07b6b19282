"""
The placeholders of command templates.

    $ARGUMENTS     all arguments as they were given; may be empty
    $1, $2, ...    by position; the highest one takes all that is left
    $path          by name: small letters, digits and _
    $$             a dollar sign

Words without a name go to the positions; in a template that has only names they go to the names,
in order, and the last one takes what is left. Arguments for a template without placeholders are
added at its end. Everything else stays as it is, `$HOME` and `{braces}` included. Values are put
in as text, once: what looks like a placeholder in a value is not one.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ._errors import BadRequest, CommandArguments

__all__ = ["Arguments", "check_arguments", "expand", "placeholders"]

Arguments = str | Sequence[Any] | Mapping[str, Any]
"""One line as a person types it, values by position, or values by name."""

_PLACEHOLDER = re.compile(r"\$(\$|ARGUMENTS\b|[1-9][0-9]?(?![0-9])|[a-z][a-z0-9_]*)")
_LONGEST_QUOTED = 100_000
"""Characters; looking for quotes is slow and holds up the engine."""
_NAMED = re.compile(r"([a-z][a-z0-9_]*)=(.*)", re.DOTALL)


def placeholders(template: str) -> list[str]:
    """The placeholders of a template without their `$`, each once, in order."""
    found = (match[1] for match in _PLACEHOLDER.finditer(template))
    return list(dict.fromkeys(name for name in found if name != "$"))


def expand(name: str, template: str, arguments: Arguments) -> str:
    """
    The template of the command `name` with its arguments put in.

    Raises CommandArguments when some are missing, or have names that the template doesn't know.
    """
    wanted = placeholders(template)
    named, positional, line = _sort(arguments, wanted)
    if isinstance(arguments, Mapping) and wanted and "ARGUMENTS" not in wanted:
        _check_names(name, named, wanted)
    by_position = _by_position(positional, _positions(named, wanted))
    values = {**by_position, **named, "ARGUMENTS": line, "$": "$"}
    if missing := [f"${key}" for key in wanted if key not in values]:
        raise CommandArguments(
            f"The command {name} needs more arguments: {', '.join(missing)}.",
            command=name,
            missing=missing,
        )
    text = _PLACEHOLDER.sub(lambda match: values[match[1]], template)
    return f"{text}\n\n{line}" if line.strip() and not wanted else text


def _sort(arguments: Arguments, wanted: Sequence[str]) -> tuple[dict[str, str], list[str], str]:
    """Arguments by name, by position, and all of them as one line."""
    if isinstance(arguments, Mapping):
        named = {key: _text(value) for key, value in arguments.items() if value is not None}
        return named, [], " ".join(f"{key}={shlex.quote(value)}" for key, value in named.items())
    if not isinstance(arguments, str):
        words = [_text(value) for value in arguments]
        return {}, words, " ".join(words)
    found, words = {}, []
    for word in _words(arguments) if set(wanted) - {"ARGUMENTS"} else ():
        match = _NAMED.fullmatch(word)
        if match and match[1] in wanted:
            found[match[1]] = match[2]
        else:
            words.append(word)
    return found, words, arguments


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(line: str) -> list[str]:
    """The words of a line, quotes taken off; a line with an open quote is split at blanks."""
    if len(line) > _LONGEST_QUOTED:
        return line.split()
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _by_position(words: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """Words for `keys` in order; the last one takes all that is left."""
    values = dict(zip(keys[:-1], words, strict=False))
    if keys and len(words) >= len(keys):
        values[keys[-1]] = " ".join(words[len(keys) - 1 :])
    return values


def _positions(named: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    """The placeholders that words without a name are for."""
    last = max((int(key) for key in wanted if key.isdecimal()), default=0)
    if last or "ARGUMENTS" in wanted:
        return [str(i) for i in range(1, last + 1)]
    return [key for key in wanted if key not in named]


def _check_names(name: str, named: Mapping[str, str], wanted: Sequence[str]) -> None:
    unknown = [key for key in named if key not in wanted]
    if unknown:
        raise CommandArguments(
            f"The command {name} has no argument {', '.join(unknown)}; it takes "
            f"{', '.join(wanted)}.",
            command=name,
            unknown=unknown,
        )


def check_arguments(value: Any) -> Arguments:
    """The `arguments` of a request. Raises BadRequest."""
    if value is None:
        return ""
    if not isinstance(value, str | list | dict):
        raise BadRequest("arguments: must be a string, a list or an object")
    return value
