"""
Why a model server could not answer, as one sentence of our own: what, where and what to do next.

Nothing that a library says is passed on: it names classes, links to manuals and gives advice for
programmers. What a provider says is passed on when it is a sentence.
"""

from __future__ import annotations

import errno
import html
import json
import re
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
)

from agent_magics.wire import is_loopback

from ._text import one_line
from .models import BadEncoding, NotAStream, ReplyCut, Silence

__all__ = [
    "Cause",
    "cause_of",
    "is_connection_problem",
    "provider_sentence",
    "status_sentence",
]

_LONGEST = 400
_CERTIFICATES = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed",
    19: "was issued by an authority that this computer does not trust",
    20: "was issued by an authority that this computer does not trust",
    21: "was issued by an authority that this computer does not trust",
    23: "was revoked",
    62: "is for another host name",
    64: "is for another address",
}
_TRUST = (18, 19, 20, 21)
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_RESET = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_FIELDS = ("message", "detail", "error_description", "msg", "error", "title", "errors", "raw")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_HTML = re.compile(r"\s*<(!doctype|html|head|body|\?xml|[a-z]+[\s>])", re.IGNORECASE)


_PROTOCOL_OF = {"message_start": "anthropic", "chat.completion.chunk": "openai"}
"""How a stream of the other protocol begins."""
_NAMES = {"anthropic": "Anthropic", "openai": "OpenAI"}


class Cause(NamedTuple):
    """
    `what` goes on after "the model server", `next_step` is a sentence.

    `lasting`: another try would fail in the same way. `setting`: the next step names a setting.
    """

    what: str
    next_step: str
    lasting: bool = False
    setting: bool = False


def is_connection_problem(error: BaseException) -> bool:
    """Whether no whole answer came, instead of one that says no."""
    if isinstance(error, ModelHTTPError):
        return False
    kinds = (httpx2.RequestError, json.JSONDecodeError, UnicodeDecodeError, ssl.SSLError)
    if isinstance(error, ModelConnectionError):
        return True
    if isinstance(error, ModelAPIError):
        known = error.__cause__ is not None  # else a sentence of one of our own models
    else:
        known = isinstance(error, httpx2.RequestError)
    return known and any(isinstance(e, kinds) for e in chain_of(error))


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and what groups among these hold."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
        # Also what was suppressed: the HTTP library hides the system's own error so.
        waiting += [e for e in (current.__cause__, current.__context__) if e is not None]


def cause_of(error: BaseException) -> Cause:
    """What went wrong with the connection or the bytes of the reply."""
    chain = list(chain_of(error))
    url = next((str(url) for e in chain if (url := _url(e))), "")
    for kind, words in _WORDS:
        for found in chain:
            if isinstance(found, kind) and (cause := words(found, url, chain)) is not None:
                return cause
    return Cause(
        f"the connection to {_server(url)} was lost", "Check its address and that it runs."
    )


def _url(error: BaseException) -> Any:
    try:
        return getattr(error, "request", None) and error.request.url  # type: ignore[attr-defined]
    except RuntimeError:  # of an error that knows no request
        return None


def _server(url: str) -> str:
    """Scheme, host and port: an address may hold a password."""
    parts = urlsplit(url)
    if not parts.hostname:
        return "its address"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{host}{port}"


def _proxy(url: str) -> str:
    """The proxy that requests to this address take, as the environment says; else empty."""
    parts = urlsplit(url)
    if (
        not parts.hostname
        or is_loopback(parts.hostname)
        or urllib.request.proxy_bypass(parts.hostname)
    ):
        return ""
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    return _server(found if "://" in found else f"http://{found}") if found else ""


def _is_connecting(chain: list[BaseException]) -> bool:
    kinds = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
    return any(isinstance(e, kinds) for e in chain)


def _way(url: str, chain: list[BaseException]) -> tuple[str, str]:
    """Who did not let us in, and what to look at."""
    if _is_connecting(chain) and (proxy := _proxy(url)):
        return f"the proxy {proxy}", "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment"
    return _server(url), "Check its address and that it runs"


# -- one function per kind of error


def _silence(error: Silence, url: str, _chain: Any) -> Cause:
    waited = f"{error.seconds:g} s"
    what = {
        "first_byte": f"{_server(url)} sent nothing for {waited}",
        "between_bytes": f"{_server(url)} sent nothing more for {waited}",
        "content": f"{_server(url)} sent only keep-alives for {waited}",
    }[error.limit]
    step = f"If it is only slow, raise {error.limit!r} under {error.key}, then restart the engine."
    return Cause(what, step, lasting=True, setting=True)


def _no_stream(error: NotAStream, url: str, _chain: Any) -> Cause:
    server, body = _server(url), error.body.decode(errors="replace").strip()
    if error.status >= 300:
        what = f"{server} answered {error.status}: to look elsewhere, but not where"
        return Cause(what, "Check the provider's base_url.", lasting=True)
    if not body:
        return Cause(f"{server} sent an empty reply", "Try again; check that the model is loaded.")
    base = "Check the provider's base_url; for most servers it ends in /v1."
    if _HTML.match(body):
        said = page_text(body)
        page = f"a web page ({said})" if said else "a web page"
        step = f"A login page or a proxy may be in between. {base}"
        return Cause(f"{server} sent {page} instead of a reply", step, lasting=True)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        said = one_line(body, 120)
        what = f"{server} sent text that is no reply of a model ({said})"
        return Cause(what, base, lasting=True)
    if isinstance(data, dict) and (
        kind := _PROTOCOL_OF.get(str(data.get("type") or data.get("object")))
    ):
        what = f"{server} speaks the protocol of {_NAMES[kind]}"
        step = f'Set kind = "{kind}" for this provider, and the base_url that belongs to it.'
        return Cause(what, step, lasting=True)
    if isinstance(data, dict) and ("choices" in data or "content" in data):
        what = f"{server} sent its reply as a whole, although a stream was asked for"
        return Cause(what, "Switch streaming on in that server.", lasting=True)
    if said := provider_sentence(data):
        return Cause(f"{server} answered: {said.rstrip('.')}", "", lasting=True)
    return Cause(f"{server} sent JSON that is no reply of a model", base, lasting=True)


def _cut(_error: ReplyCut, url: str, _chain: Any) -> Cause:
    return Cause(f"{_server(url)} ended the reply before its end", "Try again.")


def _encoding(_error: Exception, url: str, _chain: Any) -> Cause:
    what = f"the reply of {_server(url)} is damaged: it is not compressed as its head says"
    return Cause(what, "Check what is between here and the server, such as a proxy.")


def _certificate(error: ssl.SSLCertVerificationError, url: str, chain: Any) -> Cause:
    code = getattr(error, "verify_code", 0)
    who, _ = _way(url, chain)
    said = _CERTIFICATES.get(code, "can't be verified")
    if code in _TRUST:
        step = (
            "If it is right, name the file of its authority in SSL_CERT_FILE, then restart the "
            "engine."
        )
    else:
        step = "Check the address and this computer's clock, or ask whoever runs the server."
    return Cause(f"the TLS certificate of {who} {said}", step, lasting=True)


def _tls(error: ssl.SSLError, url: str, chain: Any) -> Cause | None:
    if isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
        return None  # the handshake waited, and something else ended it
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) and not _is_connecting(chain):
        return None
    who, check = _way(url, chain)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Cause(f"{who} closed the connection before TLS was agreed on", f"{check}.")
    if "WRONG_VERSION" in str(error) or "HTTP_REQUEST" in str(error):
        return Cause(
            f"{who} does not speak TLS", "Its address may begin with http:// instead.", lasting=True
        )
    return Cause(f"{who} and this computer can't agree on TLS", "Check the server's TLS settings.")


def _name(_error: socket.gaierror, url: str, chain: Any) -> Cause:
    who, check = _way(url, chain)
    return Cause(f"the name of {who} can't be found (DNS)", f"{check}, and your network.")


def _system(error: OSError, url: str, chain: Any) -> Cause | None:
    who, check = _way(url, chain)
    if isinstance(error, ConnectionRefusedError) or error.errno == errno.ECONNREFUSED:
        return Cause(f"{who} refused the connection", f"{check}.")
    if error.errno in _UNREACHABLE:
        return Cause(f"{who} is unreachable from here", f"{check}, and your network.")
    if error.errno in _RESET or isinstance(error, ConnectionError):
        return Cause(f"{who} reset the connection", "Try again.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Cause("this computer has no free file descriptors", "Close what you don't need.")
    if error.errno == errno.ETIMEDOUT:
        return Cause(f"{who} did not answer in time", f"{check}, and your network.")
    return None


def _proxy_refusal(error: httpx2.ProxyError, url: str, chain: Any) -> Cause:
    who, check = _way(url, chain)
    who = who if who.startswith("the proxy") else "the proxy"
    said = str(error)
    if "407" in said:
        return Cause(
            f"{who} wants a name and a password (407)",
            "Put them into the proxy variable, as in http://name:password@host:port.",
            lasting=True,
        )
    status = f" ({found[0]})" if (found := re.findall(r"\b[45]\d\d\b", said)) else ""
    return Cause(f"{who} refused to connect to {_server(url)}{status}", f"{check}.", lasting=True)


def _timeout(error: httpx2.TimeoutException, url: str, chain: Any) -> Cause:
    who, check = _way(url, chain)
    if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return Cause(f"{who} did not accept the connection in time", f"{check}, and your network.")
    if isinstance(error, httpx2.WriteTimeout):
        return Cause(f"{who} stopped taking the request", "Try again.")
    return Cause(
        f"{who} did not begin to answer in time",
        "If it is only slow, raise 'first_byte' under [timeouts] in the configuration file.",
        lasting=True,
    )


def _protocol(error: httpx2.RemoteProtocolError, url: str, chain: Any) -> Cause:
    who, check = _way(url, chain)
    said = str(error).lower()
    if "without sending a response" in said or "disconnected" in said:
        return Cause(f"{who} closed the connection without an answer", "Try again.")
    if "location" in said:
        what = f"{who} redirects to something that is no address"
        return Cause(what, "Check the provider's base_url.", lasting=True)
    if "incomplete" in said or "peer closed" in said or "without sending complete" in said:
        return Cause(f"{who} closed the connection in the middle of the reply", "Try again.")
    return Cause(f"{who} does not answer in HTTP", f"{check}; http:// or https:// may be wrong.")


def _redirects(_error: Exception, url: str, _chain: Any) -> Cause:
    what = f"{_server(url)} redirects without end"
    return Cause(what, "Check the provider's base_url.", lasting=True)


def _address(_error: Exception, url: str, _chain: Any) -> Cause:
    return Cause(f"{_server(url)} is no usable address", "Check the base_url.", lasting=True)


def _broken(_error: Exception, url: str, chain: Any) -> Cause:
    who, check = _way(url, chain)
    if _is_connecting(chain):
        return Cause(f"no connection to {who} can be made", f"{check}.")
    return Cause(f"the connection to {who} broke", "Try again.")


def _no_json(_error: Exception, url: str, _chain: Any) -> Cause:
    return Cause(f"{_server(url)} sent something in its reply that is not JSON", "Try again.")


_WORDS: tuple[tuple[type[BaseException], Callable[..., Cause | None]], ...] = (
    (Silence, _silence),
    (NotAStream, _no_stream),
    (ReplyCut, _cut),
    (BadEncoding, _encoding),
    (httpx2.DecodingError, _encoding),
    (ssl.SSLCertVerificationError, _certificate),
    (socket.gaierror, _name),
    (httpx2.ProxyError, _proxy_refusal),
    (ssl.SSLError, _tls),
    (OSError, _system),
    (httpx2.TimeoutException, _timeout),
    (httpx2.RemoteProtocolError, _protocol),
    (httpx2.TooManyRedirects, _redirects),
    (httpx2.UnsupportedProtocol, _address),
    (httpx2.TransportError, _broken),
    (json.JSONDecodeError, _no_json),
    (UnicodeDecodeError, _no_json),
)
"""The most telling first."""


# -- what a provider says


def page_text(text: str) -> str:
    """The title of a web page, else its first words."""
    title = _TITLE.search(text)
    said = html.unescape(title.group(1)) if title else ""
    return one_line(said.strip() or html.unescape(_HIDDEN.sub(" ", text)), 120)


def provider_sentence(body: Any, depth: int = 0) -> str:
    """The sentence in a provider's error, in whatever shape; empty when there is none."""
    if depth > 6 or body is None or isinstance(body, bool | int | float):
        return ""
    if isinstance(body, str):
        return _of_text(body, depth)
    if isinstance(body, list):
        return next((s for item in body[:5] if (s := provider_sentence(item, depth + 1))), "")
    if not isinstance(body, dict):
        return ""
    fields = {str(key).lower(): value for key, value in body.items()}
    inner = fields.get("metadata")  # OpenRouter: what the provider behind it said
    if isinstance(inner, dict) and (said := provider_sentence(inner.get("raw"), depth + 1)):
        return said
    if isinstance(fields.get("error"), dict):
        return provider_sentence(fields["error"], depth + 1) or _first(fields, depth)
    return _first(fields, depth)


def _first(fields: dict[str, Any], depth: int) -> str:
    return next((s for f in _FIELDS if (s := provider_sentence(fields.get(f), depth + 1))), "")


def _of_text(text: str, depth: int) -> str:
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            return provider_sentence(json.loads(stripped), depth + 1)
        except (ValueError, RecursionError):
            return ""  # half a dump tells nothing
    if _HTML.match(stripped):
        said = page_text(stripped)
        return f"a web page: {said}" if said else "a web page"
    return one_line(stripped, _LONGEST)


def status_sentence(error: ModelHTTPError, provider_id: str) -> str:
    """What an answer with an error's status means, with the provider's own sentence."""
    status = error.status_code
    body = error.body
    said = provider_sentence(body).rstrip(".")
    is_page = said.startswith("a web page")
    tail = f": {said}" if said else ""
    who, model = repr(provider_id), error.model_name
    if status == 407:
        return (
            f"No reply from {who}: the proxy wants a name and a password (407). Put them into the "
            "proxy variable, as in http://name:password@host:port."
        )
    if is_page and status < 500:
        return (
            f"{who} answered with {said} ({status}). A proxy or a firewall may be in between; "
            "check the provider's base_url."
        )
    if isinstance(error, ModelQuotaExceededError) or status == 402:
        return f"{who} has no credit left for this key ({status}){tail}. Check its billing page."
    if status in (401, 403):
        return f"{who} does not accept the key or refuses access ({status}){tail}."
    if status == 404 or isinstance(error, ModelNotFoundError):
        return (
            f"{who} has no model {model!r}, or its base_url is wrong ({status}){tail}. "
            "Choose another model, or correct the address."
        )
    if status == 413:
        return f"The request is too large for {who} ({status}){tail}. Send less at once."
    if status == 429:
        return f"{who} takes no more requests for now ({status}){tail}.{_wait(error)}"
    if status >= 500 or status == 408:
        step = _wait(error) or " Try again later, or choose another model."
        return f"{who} has a problem of its own ({status}){tail}.{step}"
    return f"{who} refused the request of model {model!r} ({status}){tail}."


def _wait(error: ModelAPIError) -> str:
    """How long the provider asks to wait."""
    seconds: float | None = getattr(error, "retry_after", None)
    if not seconds:
        return ""
    if seconds < 120:
        return f" It asks to wait {seconds:.0f} s."
    hours, minutes = divmod(round(seconds / 60), 60)
    words = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return (
        f" It asks to wait {words.removesuffix(' 0 min')}; try again then, or choose another model."
    )
