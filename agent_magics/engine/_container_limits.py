"""
What a session's container may use: `[limits.container]` and the `limits` of a new session.

Sizes are written as "2 GB" or "512 MB" (1 GB = 1024 MB) or in bytes, times in seconds, counts as
they are; "unlimited" where there need not be a limit. A session may only lower what the
configuration allows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_magics.sandbox import Limits

if TYPE_CHECKING:
    from ._body import Body

__all__ = [
    "DEFAULT_IDLE",
    "IDLE",
    "ContainerLimitError",
    "limits_of_body",
    "limits_text",
    "lowered",
    "read_idle",
    "read_limits",
]

IDLE = "idle_minutes"
DEFAULT_IDLE = 3600.0
"""Seconds."""

MEGABYTE = 1 << 20
_UNLIMITED = "unlimited"
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(KB|MB|GB|TB)", re.IGNORECASE)
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_MOST = 1 << 50


@dataclass(frozen=True)
class _Kind:
    """`kind`: size, count or seconds. `least` is what a container needs to work at all."""

    kind: str
    least: int
    can_be_unlimited: bool = False


_KEYS = {
    "memory": _Kind("size", 64 * MEGABYTE, True),
    "process_memory": _Kind("size", 64 * MEGABYTE, True),
    "processes": _Kind("count", 16, True),
    "background": _Kind("count", 0),
    "file_size": _Kind("size", MEGABYTE, True),
    "disk": _Kind("size", 16 * MEGABYTE, True),
    "files": _Kind("count", 1000, True),
    "shared_memory": _Kind("size", MEGABYTE),
    "open_files": _Kind("count", 64),
    "cpu_seconds": _Kind("seconds", 1, True),
    "output": _Kind("size", 4096),
    "timeout": _Kind("seconds", 1),
    "longest_timeout": _Kind("seconds", 1),
}
_WHOLE_SECONDS = ("cpu_seconds",)


class ContainerLimitError(ValueError):
    """A limit that can't be used: `key` is its name, `complaint` what is wrong with it."""

    def __init__(self, key: str, complaint: str) -> None:
        super().__init__(f"{key}: {complaint}")
        self.key = key
        self.complaint = complaint


def read_limits(table: Mapping[str, Any], base: Limits | None = None) -> Limits:
    """
    `base` with the values of `table`, which may be higher or lower.

    Raises ContainerLimitError for unknown keys and values that make no sense.
    """
    values = {key: _value(key, value) for key, value in table.items()}
    limits = replace(base or Limits(), **values)
    if limits.timeout <= limits.longest_timeout:
        return limits
    if "timeout" in table and "longest_timeout" in table:
        raise ContainerLimitError("timeout", "must not be above longest_timeout.")
    if "timeout" in table:
        return replace(limits, longest_timeout=limits.timeout)
    return replace(limits, timeout=limits.longest_timeout)


def read_idle(value: Any) -> float | None:
    """Seconds for the `idle_minutes` of the configuration. Raises ContainerLimitError."""
    if value is None:
        return DEFAULT_IDLE
    if value == _UNLIMITED:
        return None
    minutes = _number(value, fractions=True)
    if minutes is None or not 0 < minutes <= _MOST:
        raise ContainerLimitError(IDLE, f'must be a number above 0, or "{_UNLIMITED}".')
    return minutes * 60.0


def lowered(base: Limits, values: Mapping[str, Any]) -> Limits:
    """`base` with those of `values` that are lower: what a session asked for, as far as it may."""
    found = read_limits({key: value for key, value in values.items() if key in _KEYS}, base)
    lower = {key: _lower(getattr(base, key), getattr(found, key)) for key in _KEYS}
    return replace(base, **lower)


def limits_of_body(body: Body, base: Limits) -> dict[str, int | float]:
    """The `limits` of a request for a session, checked. Raises BadRequest."""
    inner = body.object("limits")
    if inner is None:
        return {}
    values: dict[str, int | float] = {}
    for key in inner.data:
        if not inner.has(key):
            continue
        try:
            value, most = _value(key, inner.data[key]), getattr(base, key, None)
        except ContainerLimitError as error:
            raise inner.error(error.key, error.complaint) from None
        if value is None or (most is not None and value > most):
            shown = _shown(key, most)
            raise inner.error(key, f"may only be lowered; this server allows {shown}")
        values[key] = value
    return values


def limits_text(limits: Limits) -> str:
    """All of them for people, in one line."""
    values = asdict(limits) | {"files": limits.most_files}
    shown = (f"{key} {_shown(key, value)}" for key, value in values.items())
    return ", ".join(shown)


def _value(key: str, value: Any) -> Any:
    known = _KEYS.get(key)
    if known is None:
        raise ContainerLimitError(key, f"unknown key; known are {', '.join(_KEYS)}.")
    if isinstance(value, str) and value.strip().lower() == _UNLIMITED and known.can_be_unlimited:
        return None
    number = _size(value) if known.kind == "size" else _number(value, known.kind == "seconds")
    if number is None or not known.least <= number <= _MOST:
        raise ContainerLimitError(key, f"must be {_wanted(key, known)}.")
    return math.ceil(number) if key in _WHOLE_SECONDS else number


def _size(value: Any) -> int | None:
    if not isinstance(value, str):
        return value if type(value) is int else None
    match = _SIZE.fullmatch(value.strip())
    return match and round(float(match[1]) * _UNITS[match[2].upper()])


def _number(value: Any, fractions: bool) -> int | float | None:
    kinds = (int, float) if fractions else (int,)
    return value if type(value) in kinds else None


def _wanted(key: str, known: _Kind) -> str:
    least = _shown(key, known.least)
    wanted = {
        "size": f'a size such as "2 GB" or a number of bytes, at least {least}',
        "count": f"a whole number, at least {least}",
        "seconds": f"a number of seconds, at least {known.least}",
    }[known.kind]
    return wanted + (f', or "{_UNLIMITED}"' if known.can_be_unlimited else "")


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return _UNLIMITED
    kind = _KEYS[key].kind
    if kind != "size":
        return f"{value:g} s" if kind == "seconds" else f"{value}"
    for unit in ("TB", "GB", "MB"):
        if value >= _UNITS[unit]:
            return f"{value / _UNITS[unit]:.4g} {unit}"
    return f"{value / 1024:.4g} KB"


def _lower(first: Any, second: Any) -> Any:
    return min((v for v in (first, second) if v is not None), default=None)
