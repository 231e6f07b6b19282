"""Reading and checking what a request carries. Every complaint is a BadRequest that says where."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from ._errors import BadRequest, TooLarge

__all__ = [
    "LARGEST_BODY",
    "Body",
    "query_flag",
    "query_int",
    "read_body",
    "read_json",
    "stream_body",
]

LARGEST_BODY = 64 << 20
"""Bytes of a request's body, JSON or file."""


async def read_body(request: Request, limit: int = LARGEST_BODY) -> bytes:
    """The body's bytes. Raises TooLarge as soon as that is known."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
    except ClientDisconnect:
        raise BadRequest("The request's body was cut off.") from None
    return b"".join(chunks)


async def stream_body(request: Request, limit: int | None) -> AsyncIterator[bytes]:
    """The body as it comes, whatever its size up to `limit`. Raises TooLarge."""
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    if limit is not None and size > limit:
        raise _too_large(limit)
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if limit is not None and size > limit:
                raise _too_large(limit)
            yield chunk
    except ClientDisconnect:
        raise BadRequest("The request's body was cut off.") from None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request's body is larger than {limit} bytes.", limit=limit)


async def read_json(request: Request, *, optional: bool = False) -> Body:
    """The body as a JSON object; with `optional` an empty body is an empty object."""
    data = await read_body(request)
    if optional and not data.strip():
        return Body({})
    try:
        return Body(json.loads(data, parse_constant=_no_constant))
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Body:
    """A JSON object with typed access. Unknown keys are ignored; null counts as absent."""

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, dict):
            raise BadRequest(f"{where or 'The body'}: must be a JSON object")
        self.data: dict[str, Any] = value
        self._where = where

    def error(self, key: str, complaint: str) -> BadRequest:
        """The complaint about a key, to be raised."""
        return BadRequest(f"{self._path(key)}: {complaint}")

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def text(self, key: str, *, pattern: re.Pattern[str] | None = None) -> str:
        """A required string, matched in full by `pattern`."""
        value = self.data.get(key)
        if not isinstance(value, str):
            raise self.error(key, "must be a string" if self.has(key) else "is missing")
        if pattern is not None and not pattern.fullmatch(value):
            raise self.error(key, f"must match {pattern.pattern}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(key, "has lone surrogates, which no encoding can carry") from None
        return value

    def optional_text(self, key: str, *, pattern: re.Pattern[str] | None = None) -> str | None:
        return self.text(key, pattern=pattern) if self.has(key) else None

    def choice(self, key: str, *choices: str) -> str:
        value = self.text(key)
        if value not in choices:
            raise self.error(key, f"must be one of {', '.join(choices)}")
        return value

    def flag(self, key: str) -> bool:
        value = self.data.get(key, False)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def number(self, key: str, *, least: float, most: float) -> float | None:
        """An optional number within bounds."""
        value = self.data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "must be a number")
        if not least <= value <= most:
            raise self.error(key, f"must be between {least:g} and {most:g}")
        return value

    def model_name(self) -> str:
        """`provider/model-id`, of an object with `providerID` and `modelID`."""
        return f"{self.text('providerID')}/{self.text('modelID')}"

    def items(self, key: str, *, most: int = 1000) -> list[Any]:
        """A list; absent is empty."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(key, "must be a list")
        if len(value) > most:
            raise self.error(key, f"has more than {most} items")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings; absent is empty."""
        return [Body({"item": v}, f"{self._path(key)}[]").text("item") for v in self.items(key)]

    def object(self, key: str) -> Body | None:
        value = self.data.get(key)
        return None if value is None else Body(value, self._path(key))

    def text_map(self, key: str) -> dict[str, str]:
        """An object of strings; absent is empty."""
        inner = self.object(key)
        return {} if inner is None else {name: inner.text(name) for name in inner.data}

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


def query_flag(query: Mapping[str, str], key: str) -> bool:
    value = query.get(key, "").lower()
    if value not in ("", "0", "1", "false", "true"):
        raise BadRequest(f"{key}: must be true or false")
    return value in ("1", "true")


def query_int(query: Mapping[str, str], key: str) -> int | None:
    """An optional non-negative number of at most 18 digits (what the store can hold)."""
    value = query.get(key)
    if not value:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= 18):
        raise BadRequest(f"{key}: must be a whole number")
    return int(value)
