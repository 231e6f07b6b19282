"""`[timeouts]` of the configuration file: how long a model server may be silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import Reader

__all__ = ["TimeoutsConfig", "read_timeouts"]


@dataclass(frozen=True)
class TimeoutsConfig:
    """
    Seconds that a model server may let a request wait.

    `connect`: for a connection. `first_byte`: from the request to the first byte of the reply; the
    default is the 10 minutes of OpenAI's and Anthropic's own clients, because a model on a slow
    machine reads a long prompt for minutes. `between_bytes`: between two bytes of a reply that has
    begun. `content`: in which only keep-alives, pings and empty deltas come.

    `key` is the table of the configuration file that sets them, for messages.
    """

    connect: float = 15.0
    first_byte: float = 600.0
    between_bytes: float = 300.0
    content: float = 600.0
    key: str = field(default="[timeouts] in the configuration file", compare=False)


_NAMES = tuple(f.name for f in fields(TimeoutsConfig) if f.name != "key")


def read_timeouts(
    reader: Reader, data: Mapping[str, Any], prefix: str = "", base: TimeoutsConfig | None = None
) -> TimeoutsConfig:
    """The table `timeouts` in `data`; what it leaves out is as in `base`. Raises ConfigError."""
    key = f"{prefix}timeouts"
    table = reader.table(data.get("timeouts", {}), key)
    reader.only(table, f"{key}.", _NAMES)
    found = {name: reader.number(table, name, f"{key}.") for name in _NAMES}
    given = {name: value for name, value in found.items() if value is not None}
    return replace(
        base or TimeoutsConfig(),
        key=f"[{key}] in {reader.source}",
        **given,
    )
