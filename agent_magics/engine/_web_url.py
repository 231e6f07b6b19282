"""Web addresses: which ones may be fetched. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

__all__ = ["WebURL", "WebURLError", "parse_web_url"]

_LONGEST = 8000
_PORTS = {"http": 80, "https": 443}


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
