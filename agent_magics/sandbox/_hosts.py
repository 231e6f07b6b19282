"""Hosts that a container wants to reach: how they are written, and patterns of them. No I/O."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

__all__ = ["HOST_GROUPS", "HostError", "Target", "checked_pattern", "host_matches", "parse_target"]

_PYTHON = ("pypi.org", "files.pythonhosted.org")
_NPM = ("registry.npmjs.org",)
_CONDA = ("conda.anaconda.org", "repo.anaconda.com")
_DEBIAN = ("deb.debian.org", "security.debian.org", "archive.ubuntu.com", "security.ubuntu.com")
_R = ("cloud.r-project.org",)

HOST_GROUPS: Mapping[str, tuple[str, ...]] = {
    "conda": _CONDA,
    "debian": _DEBIAN,
    "npm": _NPM,
    "packages": (*_PYTHON, *_NPM, *_CONDA, *_DEBIAN, *_R),
    "python": _PYTHON,
    "r": _R,
}
"""Ready-made groups of hosts, by the name that stands for them in a list: package indexes."""

USUAL_PORTS = (80, 443)
"""What a pattern without a port allows."""

_LONGEST_NAME = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATTERN = re.compile(r"(?P<host>.*?)(:(?P<port>[0-9]{1,5}|\*))?", re.DOTALL)


class HostError(ValueError):
    """What was written is no host, or not clearly one; the message says why."""


@dataclass(frozen=True)
class Target:
    """A host in its one spelling (small letters, ASCII, no final dot; IPv6 bare) and a port."""

    host: str
    port: int

    @property
    def site(self) -> str:
        """`host:port`, with IPv6 addresses in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_address(self) -> bool:
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()


def parse_target(authority: str, port: int | None = None) -> Target:
    """
    Of `host:port`; `port` stands for one that is left out, None: it may not be.

    Names have one spelling each afterwards. Numbers that only some programs take for addresses
    (octal, hexadecimal, shortened) are refused, IPv6 addresses that mean an IPv4 one become it.

    Raises:
        HostError
    """
    host, colon, digits = authority.rpartition(":")
    if authority.endswith("]") or not colon:
        host = authority
    elif not _PORT.fullmatch(digits) or not 0 < int(digits) < 65536:
        raise HostError("the port is impossible")
    else:
        port = int(digits)
    if port is None:
        raise HostError("the port is missing")
    return Target(_host(host), port)


def _host(text: str) -> str:
    if not text.isascii():
        raise HostError("a host must be in ASCII")
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1])
    name = text.lower()
    name = name.removesuffix(".")
    if not 0 < len(name) <= _LONGEST_NAME:
        raise HostError("the host is missing or too long")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # it is an address then, whatever resolvers make of it
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise HostError("the host is an address in no usual form") from None
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise HostError("the host is no name that can exist")
    return name


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise HostError("the host is no IPv6 address") from None
    if address.scope_id is not None:
        raise HostError("the host is an address of one network card")
    return str(address.ipv4_mapped or address)


def host_matches(pattern: str, host: str, port: int, *, any_port: bool = False) -> bool:
    """
    Whether a pattern means this host: the name of a group, or `host`, `host:port`, `host:*`.

    In the host `*` stands for any text. Without a port 80 and 443 are meant, or with `any_port`
    every port.
    """
    if pattern in HOST_GROUPS:
        return any(host_matches(p, host, port, any_port=any_port) for p in HOST_GROUPS[pattern])
    match = _PATTERN.fullmatch(pattern)
    assert match is not None  # it matches anything
    wanted = match["port"]
    if wanted is None:
        if not any_port and port not in USUAL_PORTS:
            return False
    elif wanted != "*" and int(wanted) != port:
        return False
    shown = f"[{host}]" if ":" in host else host
    return fnmatch.fnmatchcase(shown, match["host"].lower().removesuffix("."))


def checked_pattern(text: str) -> str:
    """
    An entry of a list of hosts in its one spelling: a group, a host, `*.` and a domain, or `*`.

    Raises:
        HostError: it can't mean a host, or is probably not what was meant.
    """
    text = text.strip()
    if text in HOST_GROUPS:
        return text
    match = _PATTERN.fullmatch(text)
    assert match is not None  # it matches anything
    host, port = match["host"], match["port"]
    ending = "" if port is None else f":{port}"
    if port not in (None, "*") and not 0 < int(port) < 65536:
        raise HostError(f"{text!r}: the port is impossible")
    if host == "*":
        return host + ending
    domain = host.removeprefix("*.")
    try:
        found = _host(_ascii(domain))
    except HostError as error:
        raise HostError(f"{text!r}: {error}") from None
    if ":" in found:
        return f"[[]{found}]{ending}"
    if "." not in found and port is None:
        names = ", ".join(sorted(HOST_GROUPS))
        raise HostError(f"{text!r} is no group of hosts; there are: {names}")
    return f"{host[: len(host) - len(domain)]}{found}{ending}"


def _ascii(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise HostError("the host is no name that can exist") from None
