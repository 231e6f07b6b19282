"""Replies as JSON: the numbers of an analysis, in the form that a prompt's JSON Schema asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["json_reply", "wanted_schema", "without_schema"]

_WANTED = re.compile(
    r"[^\n]*\bJSON Schema\b[^\n]{0,40}\n(`{3,})json\n(.*?)\n\1[^\S\n]*(?:\n|\Z)", re.DOTALL
)
_HIGHEST = re.compile(r"high|heav|large|most|max|top|best|big|first", re.IGNORECASE)
_LOWEST = re.compile(r"low|light|small|least|min|bottom|worst|last", re.IGNORECASE)
_DEEPEST = 8


def wanted_schema(prompt: str) -> Mapping[str, Any] | None:
    """The schema in a prompt that asks for JSON; None without one."""
    match = _WANTED.search(prompt)
    if match is None:
        return None
    try:
        schema = json.loads(match[2])
    except (ValueError, RecursionError):
        return None
    return schema if isinstance(schema, dict) else None


def without_schema(prompt: str) -> str:
    """The prompt itself, without the wish for JSON: its words are no names of columns."""
    return _WANTED.sub("", prompt)


def json_reply(schema: Mapping[str, Any], groups: list[dict[str, Any]]) -> str:
    """
    The groups of an analysis as a block of JSON, or a sentence that says what can't be filled in.

    What a field is for is told by its type and its name: in an object of a list a text is the
    group's name, a whole number its rows, another number its value.
    """
    try:
        value = _filled(schema, schema, groups, 0)
    except _UnknownField as error:
        return f"I can't give this as JSON: I don't know what `{error}` is. A real model would."
    return f"```json\n{json.dumps(value, ensure_ascii=False, indent=2)}\n```"


class _UnknownField(Exception):
    """The script has nothing for this field of the schema."""


def _filled(
    schema: Mapping[str, Any], root: Mapping[str, Any], groups: list[dict[str, Any]], depth: int
) -> Any:
    """The value for a schema that stands for the whole analysis."""
    schema = _resolved(schema, root, depth)
    if schema.get("type") == "array":
        return [_row(schema.get("items", {}), root, group, depth + 1) for group in groups]
    found = {}
    for name, field in _fields(schema).items():
        field = _resolved(field, root, depth + 1)
        kind = field.get("type")
        if kind == "array":
            found[name] = _filled(field, root, groups, depth + 1)
        elif kind == "string" and groups and (_HIGHEST.search(name) or _LOWEST.search(name)):
            found[name] = groups[0 if _HIGHEST.search(name) else -1]["group"]
        elif kind == "integer":
            found[name] = sum(group["rows"] for group in groups)
        elif name in schema.get("required", ()):
            raise _UnknownField(name)
    return found


def _row(
    schema: Mapping[str, Any], root: Mapping[str, Any], group: Mapping[str, Any], depth: int
) -> Any:
    """The value for a schema that stands for one group."""
    schema = _resolved(schema, root, depth)
    kinds = {"string": group["group"], "integer": group["rows"], "number": group["value"]}
    if schema.get("type") in kinds:
        return kinds[schema["type"]]
    found = {}
    for name, field in _fields(schema).items():
        kind = _resolved(field, root, depth + 1).get("type")
        if kind in kinds:
            found[name] = kinds.pop(kind)
        elif name in schema.get("required", ()):
            raise _UnknownField(name)
    return found


def _fields(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = schema.get("properties")
    if not isinstance(fields, dict):
        raise _UnknownField(str(schema.get("title") or schema.get("type") or "this schema"))
    return fields


def _resolved(schema: Any, root: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """The schema itself, or the definition in `root` that it refers to."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise _UnknownField("the schema")
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return _resolved(found, root, depth + 1)
