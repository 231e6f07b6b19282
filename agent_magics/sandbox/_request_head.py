"""
The head of a request to the proxy, read strictly: what it does not understand it refuses.

Everything here comes from programs in a container. Two readers of one request must not come to
different ends, so there is one spelling of everything, and the head that is passed on is made
anew from what was understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._hosts import HostError, Target, parse_target

__all__ = ["LONGEST_HEAD", "Head", "HeadError", "parse_head"]

LONGEST_HEAD = 32 << 10
"""Bytes of a request's line and headers."""
MOST_HEADERS = 100
LONGEST_TARGET = 16 << 10

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_-]{0,31}) ([\x21-\x7e]+) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_ABSOLUTE = re.compile(r"http://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}")

_OF_THE_CONNECTION = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("content-length", "host"),  # these are made anew
    }
)


class HeadError(ValueError):
    """The request can't be understood or done; `status` is the answer's."""

    def __init__(self, complaint: str, status: int = 400) -> None:
        super().__init__(complaint)
        self.status = status


@dataclass(frozen=True)
class Head:
    """
    An understood request. A tunnel has no `path` and no body.

    `length` is that of the body in bytes, None: it comes in chunks.
    """

    method: str
    target: Target
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = 0

    @property
    def is_tunnel(self) -> bool:
        return self.method == "CONNECT"

    def encode(self) -> bytes:
        """The head for the server."""
        site = self.target.site.removesuffix(":80")
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {site}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.length is None:
            lines.append("Transfer-Encoding: chunked")
        elif self.length or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {self.length}")
        lines += ["Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1")


def parse_head(data: bytes) -> Head:
    """
    Of the bytes up to the empty line, without it.

    Raises:
        HeadError
    """
    first, *rest = data.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None or len(match[2]) > LONGEST_TARGET:
        raise HeadError("This is no request line of HTTP/1.1.")
    if len(rest) > MOST_HEADERS:
        raise HeadError(f"There are more than {MOST_HEADERS} headers.", 431)
    method, target = match[1].decode("ascii"), match[2].decode("ascii")
    headers = [_header(line) for line in rest]
    try:
        if method == "CONNECT":
            return Head(method, parse_target(target))
        authority, path = _absolute(target)
        length = _body_length(headers, version=match[3])
        return Head(method, parse_target(authority, 80), path, _passed_on(headers), length)
    except HostError as error:
        raise HeadError(f"The request's target can't be reached: {error}.") from None


def _header(line: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise HeadError("A header is malformed.")
    return match[1].decode("ascii"), match[2].decode("latin-1")


def _absolute(target: str) -> tuple[str, str]:
    """Authority and path of `http://…`, the only form of a target that proxies get."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise HeadError("A proxy takes CONNECT host:port and http:// URLs, nothing else.")
    if "@" in match[1]:
        raise HeadError("A URL with a user name is not passed on.")
    path = match[2] or "/"
    return match[1], path if path.startswith("/") else f"/{path}"


def _body_length(headers: list[tuple[str, str]], *, version: bytes) -> int | None:
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    codings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
    if codings:
        if lengths or codings != ["chunked"] or version == b"0":
            raise HeadError("It can't be told where the request's body ends.")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise HeadError("It can't be told where the request's body ends.")
    return int(lengths[0])


def _passed_on(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Without those that are about this connection only."""
    named = ",".join(value for name, value in headers if name.lower() == "connection")
    left_out = _OF_THE_CONNECTION | {name.strip().lower() for name in named.split(",")}
    return tuple((name, value) for name, value in headers if name.lower() not in left_out)
