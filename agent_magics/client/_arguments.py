"""
Names of arguments: a wrong one gets an error that says the right one.

People who come from the TypeScript client write `onText` and `timeoutMs`; Python's own `TypeError`
does not help them, and is no `AgentError`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FunctionType
from typing import Any, Literal, TypeVar, get_args

from ._errors import UnknownArgument

__all__ = ["PermissionChoice", "check_names", "names_checked", "permission_rules", "with_options"]

PermissionAction = Literal["allow", "ask", "deny"]
PermissionChoice = PermissionAction | Sequence[Mapping[str, str]]

C = TypeVar("C", bound=type)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def check_names(where: str, given: Collection[str], known: Collection[str]) -> None:
    """Raises `UnknownArgument` for the first of `given` that is not among `known`."""
    for name in given:
        if name not in known:
            raise UnknownArgument(f"{where} has no argument {name!r}{_advice(name, known)}")


def _advice(name: str, known: Collection[str]) -> str:
    snake = _HUMP.sub("_", name).replace("-", "_").lower()
    if close := [snake] if snake in known else difflib.get_close_matches(snake, known, 1):
        return f"; it is {close[0]!r} here."
    there = ", ".join(sorted(known)) or "none"
    return f"; there are {there}." if known else "; it takes no arguments by name."


def names_checked(cls: C) -> C:
    """Class decorator: the public methods raise `UnknownArgument` for a wrong name."""
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if isinstance(method, FunctionType) and (name == "__init__" or not name.startswith("_")):
            where = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}()"
            setattr(cls, name, _checked(method, where))
    return cls


def _checked(method: Callable[..., Any], where: str) -> Callable[..., Any]:
    _, *parameters = inspect.signature(method).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return method  # it checks them by itself
    known = frozenset(parameter.name for parameter in parameters)

    @functools.wraps(method)
    def checked(*arguments: Any, **named: Any) -> Any:
        if not named.keys() <= known:
            check_names(where, named, known)
        return method(*arguments, **named)

    return checked


M = TypeVar("M", bound=Callable[..., Any])


def with_options(method: M) -> M:
    """The first argument may be a mapping that holds all of them: `f({"title": "Mine"})`."""

    @functools.wraps(method)
    def taking(self: Any, *arguments: Any, **named: Any) -> Any:
        if arguments and isinstance(arguments[0], Mapping):
            options, *rest = arguments
            _, *parameters = inspect.signature(method).parameters
            where = f"{type(self).__name__}.{method.__name__}()"
            check_names(where, [str(name) for name in options], parameters)
            if twice := sorted(options.keys() & named.keys()):
                raise UnknownArgument(f"{where} got {twice[0]!r} twice.")
            return method(self, *rest, **options, **named)
        return method(self, *arguments, **named)

    return taking  # type: ignore[return-value]


def permission_rules(permission: PermissionChoice) -> list[dict[str, str]]:
    """
    Rules as the server takes them; "allow", "ask" or "deny" is one rule for everything.

    Raises `UnknownArgument` for another word.
    """
    if isinstance(permission, str):
        if permission not in get_args(PermissionAction):
            raise UnknownArgument(
                f'permission is "allow", "ask", "deny" or a list of rules, not {permission!r}.'
            )
        return [{"permission": "*", "pattern": "*", "action": permission}]
    return [dict(rule) for rule in permission]
