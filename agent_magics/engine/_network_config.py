"""The table `[network]` of the configuration file: what containers may reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent_magics.sandbox import HostError, Openings, checked_pattern

from ._policy import Rule

if TYPE_CHECKING:
    from ._config import Reader
    from ._sessions import Session

__all__ = ["NetworkConfig", "network_text", "read_network"]


@dataclass(frozen=True)
class NetworkConfig:
    """
    What containers may reach; without the table, nothing.

    `on` is what sessions get that don't say. Hosts of neither `allow` nor `deny` are asked about,
    or refused if not `ask`. `private` are hosts, addresses and networks that may be reached
    although they are not public. `index` is the URL of the package index that pip uses.
    """

    on: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    ask: bool = True
    private: tuple[str, ...] = ()
    index: str | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Permission rules that stand before those of the user."""
        others = () if self.ask else (Rule("network", "*", "deny"),)
        index = () if self.index is None else (_site(self.index),)
        return (*others, *(Rule("network", host, "allow") for host in (*self.allow, *index)))

    @property
    def denials(self) -> tuple[Rule, ...]:
        """Rules that hold whatever others say."""
        return tuple(Rule("network", host, "deny") for host in self.deny)

    @property
    def environ(self) -> dict[str, str]:
        """Variables for commands in containers that have a network."""
        return {} if self.index is None else {"PIP_INDEX_URL": self.index}

    def of_session(self, wanted: bool | Sequence[str] | None) -> list[str] | None:
        """What a new session gets that wants this: hosts beyond `allow`, or None, no network."""
        if wanted is None:
            wanted = self.on
        if isinstance(wanted, bool):
            return [] if wanted else None
        return list(wanted)


_OFF = (
    "The container has no network: nothing can be downloaded or installed. If the task needs it, "
    "tell the user that create_session(network=[...]) or [network] in the configuration opens it."
)
_ON = (
    "The container reaches the network through an HTTP proxy only, which http_proxy and "
    "https_proxy name. What is refused is answered 403 with the reason; do not look for ways "
    "around it. pip installs into /workspace/.local/py."
)
_OPEN = "Commands have the network of the machine."


def network_text(session: Session) -> str:
    """What the model is told of the network of its commands."""
    if not session.isolated:
        return _OPEN
    return _OFF if session.network is None else _ON


def read_network(reader: Reader, data: Mapping[str, Any]) -> NetworkConfig:
    """The table `[network]`. Raises ConfigError."""
    table = reader.table(data.get("network", {}), "network")
    reader.only(table, "network.", ("on", "allow", "deny", "ask", "private", "index"))
    private = reader.texts(table, "private", "network.")
    try:
        Openings(private)
    except ValueError as error:
        raise reader.error("network.private", f"{error}.") from error
    return NetworkConfig(
        on=_flag(reader, table, "on", "network" in data),
        allow=_hosts(reader, table, "allow"),
        deny=_hosts(reader, table, "deny"),
        ask=_flag(reader, table, "ask", True),
        private=private,
        index=_index(reader, table),
    )


def _flag(reader: Reader, table: Mapping[str, Any], key: str, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise reader.error(f"network.{key}", "must be true or false.")
    return value


def _hosts(reader: Reader, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    try:
        return tuple(checked_pattern(text) for text in reader.texts(table, key, "network."))
    except HostError as error:
        raise reader.error(f"network.{key}", f"{error}.") from error


def _index(reader: Reader, table: Mapping[str, Any]) -> str | None:
    url = reader.url(table, "index", "network.")
    if url is None:
        return None
    if "@" in urlsplit(url).netloc:
        raise reader.error("network.index", "must have no user name or password: commands see it.")
    try:
        _site(url)
    except HostError as error:
        raise reader.error("network.index", f"{error}.") from error
    return url


def _site(url: str) -> str:
    """The pattern of a URL's host with its port."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return checked_pattern(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
