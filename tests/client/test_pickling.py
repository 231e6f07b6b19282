"""Every error and every dataclass that users hold can be pickled, copied and shown."""

from __future__ import annotations

import copy
import dataclasses
import enum
import importlib
import inspect
import pickle
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_magics import client, wire
from agent_magics.client import AgentError, ApiError, CommandFailed

PUBLIC = {
    kind
    for package in (client, wire)
    for name in package.__all__
    if inspect.isclass(kind := getattr(package, name))
}
ERRORS = sorted((k for k in PUBLIC if issubclass(k, BaseException)), key=lambda k: k.__name__)
DATA = sorted((k for k in PUBLIC if dataclasses.is_dataclass(k)), key=lambda k: k.__name__)
_SIMPLE: dict[Any, Any] = {
    Path: Path("/x"),
    str: "ü",
    int: 7,
    float: 2.5,
    bool: True,
    bytes: b"x\0",
    Any: "any",
}


def value(hint: Any) -> Any:
    """Something of that type, not empty where it can be avoided."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return value(next(arg for arg in args if arg is not type(None)))
    if origin is typing.Literal:
        return args[0]
    if origin is Callable:
        return len
    if origin is tuple:
        return tuple(value(arg) for arg in args if arg is not ...)
    if origin is not None and issubclass(origin, Mapping):
        return {value(args[0]): value(args[1])}
    if origin is not None and issubclass(origin, Sequence):
        return [value(args[0])]
    if hint is wire.SessionMetrics:  # a tree
        return made(hint, children=())
    if dataclasses.is_dataclass(hint):
        return made(hint)
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return next(iter(hint))
    if typing.is_typeddict(hint) or hint in (dict, Mapping):
        return {"key": [1, {"deep": None}]}
    raise AssertionError(f"no value for {hint}")


def made(kind: Any, **given: Any) -> Any:
    module = importlib.import_module(kind.__module__)
    hints = typing.get_type_hints(kind, vars(wire) | vars(client) | vars(module))
    fields = (field for field in dataclasses.fields(kind) if field.init)
    values = {f.name: value(hints[f.name]) for f in fields if f.name not in given}
    return kind(**values, **given)


def error(kind: Any) -> Any:
    if kind is CommandFailed:
        return kind("It failed.", made(wire.SendResult))
    if issubclass(kind, ApiError):
        return kind("No.", status=409, name="NoError", data={"paths": ["a"], "nextStep": "Wait."})
    return kind("No.")


def copies(thing: Any) -> list[Any]:
    pickled = [
        pickle.loads(pickle.dumps(thing, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ]
    return [*pickled, copy.copy(thing), copy.deepcopy(thing)]


def test_the_tables_are_not_empty() -> None:
    assert len(ERRORS) > 25 and len(DATA) > 40


@pytest.mark.parametrize("kind", DATA, ids=lambda kind: kind.__name__)
def test_dataclasses(kind: Any) -> None:
    thing = made(kind)
    for other in copies(thing):
        assert type(other) is kind and other == thing and repr(other) == repr(thing)
    assert repr(thing).startswith(f"{kind.__name__}(")


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors(kind: Any) -> None:
    assert issubclass(kind, AgentError)
    thing = error(kind)
    thing.add_note("seen")
    for other in copies(thing):
        assert type(other) is kind and other is not thing
        assert (str(other), repr(other), other.args) == (str(thing), repr(thing), thing.args)
        assert vars(other) == vars(thing)
        assert other.__notes__ == ["seen"]


def test_every_error_of_the_tree_is_among_them() -> None:
    def below(kind: type[AgentError]) -> set[type[AgentError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(AgentError) if kind.__module__.startswith("agent_magics")}
    assert ours <= set(ERRORS)
