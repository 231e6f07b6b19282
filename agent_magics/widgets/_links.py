"""
Which addresses of an agent's text become links.

The page's script decides by the same pattern (`static/safe.js`).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["LINK", "link_address", "link_host"]

LINK = (
    r"^(?:https?:\/\/[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?\.?"
    r"(?::[0-9]{1,5})?(?:[/?#][!#-;=?-[\]_a-z~]*)?"
    r"|mailto:[a-z0-9!#$&'*+/=?^_{|}~.-]{1,64}@[a-z0-9.-]{1,253}(?:\?[!#-;=?-[\]_a-z~]*)?)$"
)
"""
http and https with a host and no user name in front of it, and mail addresses; ASCII alone, without
blanks, quotes, backslashes and angle brackets. Written so that Python and JavaScript read it alike.
"""

_PATTERN = re.compile(LINK, re.IGNORECASE | re.ASCII)
_LONGEST = 4000
_LOOKS_LIKE_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/|www\.|[^\s.@/]\.[^\W\d_]{2,}|@", re.I)


def link_address(url: str) -> str | None:
    """`url` if it may be a link, else None."""
    return url if len(url) <= _LONGEST and "\n" not in url and _PATTERN.match(url) else None


def link_host(url: str, text: str) -> str:
    """
    What to show after a link to `url` whose text is `text`: its host, when the text looks like an
    address without naming it, or when the host has letters that are not ASCII. Else nothing.
    """
    parts = urlsplit(url)
    host = (parts.hostname or parts.path.partition("?")[0].rpartition("@")[2]).lower()
    shown = text.lower()
    if _names(shown, host):
        return ""
    if "xn--" in host or _LOOKS_LIKE_ADDRESS.search(shown):
        return host
    return ""


def _names(text: str, host: str) -> bool:
    """Whether the first address in `text` is one of `host`, not of a longer name around it."""
    first = re.search(r"(?:[a-z][a-z0-9+.-]*:/*)?(?:[^\s/@]*@)?([^\s/?#:]+\.[^\s/?#:]*)", text)
    named = first[1].rstrip(".,;!)") if first else ""
    return named.removeprefix("www.") == host.removeprefix("www.")
