"""IP addresses: which of them are the public internet's, and which others a user has opened."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Openings", "is_public"]

Address = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
_NEVER_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, among them Teredo, which carries IPv4 addresses
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries IPv4 addresses
        "3fff::/20",  # documentation
    )
)
_NEVER_V4 = tuple(
    IPv4Network(network)
    for network in (
        "100.64.0.0/10",  # shared by providers; metadata services of some clouds
        "168.63.129.16/32",  # the host's services in a cloud
        "192.0.0.0/24",  # protocol assignments; metadata services of some clouds
        "192.88.99.0/24",  # relays of 6to4
    )
)
_METADATA = tuple(
    ip_address(address)
    for address in (
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fd00:ec2::254", "fd20:ce::254"),
    )
)
"""Services of clouds that hand out credentials to whoever asks; more of them are link-local."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not of this machine or its networks."""
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        known = address.is_global and not (address.is_multicast or address.is_reserved)
        return known and not any(address in network for network in _NEVER_V4)
    if address.ipv4_mapped is not None:
        return _is_public(address.ipv4_mapped)
    embedded = IPv4Address(address.packed[12:])
    if address in _NAT64:
        return _is_public(embedded)
    if address.packed[8:12] in _ISATAP and not _is_public(embedded):
        return False
    known = address in _UNICAST and address.scope_id is None
    return known and not any(address in network for network in _NEVER_V6)


class Openings:
    """
    Private hosts that a container may reach after all, because the user said so.

    An entry is an address, a network (`10.1.0.0/16`), or the name of a host: that name may lead
    to private addresses. This machine's own addresses need an entry of their own each, no network
    or name opens them. Link-local addresses and the metadata services of clouds stay closed.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[AnyNetwork] = []
        for entry in entries:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                self._names.add(_name(entry))

    def admits(self, host: str, address: str) -> bool:
        """Whether `host`, which resolved to `address`, may be connected to there."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if _is_own(found):
            return any(n.num_addresses == 1 and found in n for n in self._networks)
        if _is_public(found):
            return True
        if _is_closed(found):
            return False
        return host in self._names or any(found in network for network in self._networks)


def _name(entry: str) -> str:
    """Raises ValueError for what is no name of a host."""
    name = entry.strip().lower().rstrip(".")
    if not name or "/" in name or ":" in name or "*" in name or name[-1].isdigit():
        raise ValueError(f"{entry!r} is no address, network or name of a host")
    return name


def _is_closed(address: Address) -> bool:
    odd = address.is_link_local or address.is_multicast or address.is_reserved
    return odd or address in _METADATA


def _is_own(address: Address) -> bool:
    """Whether a connection would come back to this machine."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing, only chooses the way
            return ip_address(probe.getsockname()[0]) == address
    except (OSError, ValueError):
        return False
