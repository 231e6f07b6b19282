"""Which hosts are this machine: no request to them goes through a proxy."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

__all__ = ["is_loopback"]

_LEGACY = re.compile(r"[0-9a-fx.]+")


def is_loopback(host: str) -> bool:
    """
    Whether `host`, a name, an address or a URL, means this machine by itself.

    `localhost` and the names below it, 127.0.0.0/8 in every spelling that resolvers take
    (`127.1`, `0x7f.1`), `::1`, mapped forms, and the unspecified addresses. Other names are not
    looked up.
    """
    if "//" in host:
        try:
            host = urlsplit(host).hostname or ""
        except ValueError:
            return False
    name = host.strip().strip("[]").partition("%")[0].rstrip(".").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if not _LEGACY.fullmatch(name):
            return False
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
