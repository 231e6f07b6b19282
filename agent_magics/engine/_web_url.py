"""Web addresses: which ones may be fetched. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

__all__ = ["WebURL", "WebURLError", "is_public", "parse_web_url"]

_LONGEST = 8000
_PORTS = {"http": 80, "https": 443}

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


class WebURLError(ValueError):
    """The URL can't be fetched; the message says why."""


@dataclass(frozen=True)
class WebURL:
    """An http:// or https:// URL. `host` is in ASCII and small letters."""

    url: httpx.URL
    host: str

    @property
    def port(self) -> int:
        return self.url.port or _PORTS[self.url.scheme]

    @property
    def site(self) -> str:
        """The host, with the port where it is not the usual one: what permissions are about."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.url.port is None else f"{host}:{self.url.port}"

    def join(self, location: str) -> WebURL:
        """Where a redirect leads. Raises WebURLError."""
        try:
            return parse_web_url(str(self.url.join(location)))
        except httpx.InvalidURL as error:
            raise WebURLError(f"a redirect to an invalid URL: {error}") from error


def parse_web_url(text: str) -> WebURL:
    """Raises WebURLError for what is no http:// or https:// URL, and for one with a password."""
    if len(text) > _LONGEST:
        raise WebURLError(f"The URL is longer than {_LONGEST} characters.")
    try:
        url = httpx.URL(text.strip())
        host = url.raw_host.decode("ascii").lower().rstrip(".")
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise WebURLError(f"The URL is invalid: {error}") from error
    if url.scheme not in _PORTS or not host:
        raise WebURLError("Only http:// and https:// URLs with a host can be fetched.")
    if url.userinfo:
        raise WebURLError("A URL with a user name or a password can't be fetched.")
    if url.port is not None and not 0 < url.port < 65536:
        raise WebURLError("The URL has an impossible port.")
    return WebURL(url.copy_with(fragment=None), host)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not of this machine or its networks."""
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False


def _is_public(address: IPv4Address | IPv6Address) -> bool:
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
