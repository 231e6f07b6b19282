"""Why a model server could not answer: one sentence of ours, over both protocols."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import os
import re
import shutil
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpcore2
import pytest
import pytest_asyncio
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest

from agent_magics.engine._causes import provider_sentence
from agent_magics.engine._config import EngineConfig, ProviderConfig, TimeoutsConfig
from agent_magics.engine._retry import RetryPolicy, turn_error
from agent_magics.engine._text import Scrubber
from agent_magics.engine.models import ModelError, ModelRegistry, _reply_stream
from tests.support.raw_server import answer, answers_by_model, raw_server
from tests.support.tcp_server import TcpServer
from tests.support.tls import Authority
from tests.support.waiting import until

KEY = "sk-secret-0123456789"
LIBRARIES = re.compile(
    r"pydantic|httpx|httpcore|anyio|openai\.|anthropic\.|docs\.python|pip install|errors\.|"
    r"[A-Za-z]+(Error|Exception|Timeout)\b|Traceback|\{\"|\[Errno|_ssl\.c|max_tokens"
)
PROTOCOLS = ("openai", "anthropic")
_context = httpcore2.default_ssl_context


@functools.cache
def _shared_context(_cert_file: str | None) -> ssl.SSLContext:
    return _context()


@pytest.fixture(autouse=True)
def _read_certificates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every client reads those of all authorities, for 60 ms."""

    def shared(**_options: bool) -> ssl.SSLContext:
        return _shared_context(os.environ.get("SSL_CERT_FILE"))

    monkeypatch.setattr(httpcore2, "default_ssl_context", shared)


HALF = {
    "openai": b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"Half a"},"finish_reason":null}]}\n\n',
    "anthropic": b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","type":'
    b'"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null'
    b',"usage":{"input_tokens":1,"output_tokens":1}}}\n\nevent: content_block_start\ndata: {"type":'
    b'"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":'
    b'"text_delta","text":"Half a"}}\n\n',
}


def as_json(value: Any, status: str, **more: str) -> bytes:
    return answer(json.dumps(value).encode(), "application/json", status, **more)


def registry(base_url: str, timeouts: TimeoutsConfig | None = None) -> ModelRegistry:
    config = EngineConfig(
        providers={
            "openai-like": ProviderConfig("openai", base_url + "/v1", "LAB_KEY"),
            "anthropic-like": ProviderConfig("anthropic", base_url, "LAB_KEY"),
        },
        timeouts=timeouts or TimeoutsConfig(),
    )
    return ModelRegistry(config, {"LAB_KEY": KEY})


async def failure(
    base_url: str, protocol: str, timeouts: TimeoutsConfig | None = None
) -> tuple[Exception, dict[str, Any]]:
    """What a request fails with, and what a turn says of it."""
    models = registry(base_url, timeouts)
    try:
        return await failure_of(models, protocol, "big-model")
    finally:
        await models.aclose()


async def failure_of(
    models: ModelRegistry, protocol: str, name: str
) -> tuple[Exception, dict[str, Any]]:
    try:
        model = models.resolve(f"{protocol}-like/{name}").model
        async with model_request_stream(model, [ModelRequest.user_text_prompt("hi")]) as stream:
            async for _ in stream:
                pass
    except Exception as error:
        told = turn_error(error, f"{protocol}-like", Scrubber([KEY]))
        return error, {"name": told["name"], **told["data"]}
    raise AssertionError("the request did not fail")


def check(message: str, *expected: str) -> None:
    """One line in plain words, with what is expected, without anything of a library or a key."""
    assert "\n" not in message and len(message) < 700
    assert KEY not in message and not LIBRARIES.search(message), message
    assert message.endswith("."), message
    for words in expected:
        assert re.search(words, message), (words, message)


PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body>please</body></html>"
NESTED = {"error": {"message": json.dumps({"error": {"message": "deep trouble"}})}}
ANSWERS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "401": (
        as_json({"error": {"message": "bad key"}}, "401 No"),
        ("not accept the key", "bad key"),
    ),
    "401-echo": (as_json({"error": {"message": f"key {KEY}"}}, "401 No"), ("redacted",)),
    "403": (as_json({"message": "not for you"}, "403 No"), ("refuses access", "not for you")),
    "403-page": (answer(PAGE, "text/html", "403 No"), ("web page: Sign in", "proxy", "base_url")),
    "402": (as_json({"error": "pay first"}, "402 Pay"), ("no credit", "pay first")),
    "404-model": (
        as_json({"error": {"message": "no such model", "code": "model_not_found"}}, "404 No"),
        ("has no model '404-model'", "no such model", "Choose another model"),
    ),
    "404-plain": (answer(b"404 page not found", "text/plain", "404 No"), ("base_url is wrong",)),
    "404-detail": (as_json({"detail": "Not Found"}, "404 Not Found"), ("Not Found",)),
    "405": (as_json({"detail": "Method Not Allowed"}, "405 No"), ("Method Not Allowed",)),
    "413": (answer(PAGE.replace(b"Sign in", b"413"), "text/html", "413 No"), ("web page", "413")),
    "413-json": (as_json({"error": "too big"}, "413 Too Large"), ("too large", "Send less")),
    "422": (
        as_json({"detail": [{"loc": ["body"], "msg": "field required"}]}, "422 No"),
        ("field required",),
    ),
    "429-hour": (
        as_json({"error": {"message": "slow down"}}, "429 Slow", retry_after="3600"),
        ("no more requests", "slow down", r"wait 1 h;"),
    ),
    "429-90-minutes": (
        as_json({"error": {"message": "later"}}, "429 Slow", retry_after="5400"),
        ("wait 1 h 30 min",),
    ),
    "429-quota": (
        as_json({"error": {"message": "no money", "code": "insufficient_quota"}}, "429 Slow"),
        ("429", "no money"),
    ),
    "400-list": (as_json([{"error": {"message": "in a list"}}], "400 No"), ("in a list",)),
    "400-nested": (as_json(NESTED, "400 No"), ("deep trouble",)),
    "400-dump": (as_json({"code": 17, "ok": False}, "400 No"), (r"refused the request.*400",)),
    "500": (as_json({"error": {"message": "oops"}}, "500 No"), ("problem of its own", "oops")),
    "502-page": (answer(PAGE, "text/html", "502 No"), ("502", "web page: Sign in", "later")),
    "503-empty": (answer(b"", "text/plain", "503 No"), ("503", "Try again later")),
    "529": (as_json({"error": {"type": "overloaded_error"}}, "529 No"), ("529",)),
    "login-page": (answer(PAGE, "text/html"), (r"web page \(Sign in\)", "base_url")),
    "page-as-stream": (answer(PAGE), (r"web page \(Sign in\)",)),
    "json-200": (as_json({"error": {"message": "in disguise"}}, "200 OK"), ("in disguise",)),
    "json-detail": (as_json({"detail": "nobody"}, "200 OK"), ("answered: nobody",)),
    "json-other": (as_json({"status": "ok"}, "200 OK"), ("JSON that is no reply",)),
    "text-200": (answer(b"It works!", "text/plain"), (r"no reply of a model \(It works!\)",)),
    "empty-200": (answer(b"", "text/plain"), ("empty reply",)),
    "empty-stream": (answer(b""), ("empty reply",)),
    "done-only": (answer(b"data: [DONE]\n\n"), ("empty reply|before its end",)),
    "comments-only": (answer(b": hello\n\n: hello\n\n"), ("empty reply",)),
    "error-object": (
        answer(b'data: {"object":"error","message":"vllm broke","code":400}\n\ndata: [DONE]\n\n'),
        ("vllm broke",),
    ),
    "bad-gzip": (
        answer(b"data: {}\n\n", content_encoding="gzip"),
        ("damaged", "compressed"),
    ),
    "bad-gzip-error": (
        answer(b"not gzip", "application/json", "500 No", content_encoding="gzip"),
        ("damaged|500",),
    ),
    "gzip-error": (
        answer(
            gzip.compress(b'{"error":{"message":"packed"}}'),
            "application/json",
            "400 No",
            content_encoding="gzip",
        ),
        ("packed",),
    ),
    "list-in-stream": (answer(b"data: [1, 2]\n\n"), ("JSON that is no reply of a model",)),
    "null-in-stream": (answer(b"data: null\n\n"), ("JSON that is no reply of a model",)),
    "words-as-stream": (answer(b"hello there"), (r"no reply of a model \(hello there\)",)),
    "deep-json": (answer(b"[" * 100_000, "application/json"), ("no reply of a model",)),
    "deep-json-400": (answer(b"[" * 100_000, "application/json", "400 No"), ("refused the",)),
    "cut-error": (
        as_json({"error": {"message": "half said"}}, "400 No", content_length="999"),
        ("refused the request", "half said"),
    ),
    "407": (answer(b"", "text/plain", "407 No"), ("proxy wants a name and a password",)),
    "304": (answer(b"", status="304 No"), ("answered 304", "base_url")),
    "302-nowhere": (answer(b"", status="302 No"), ("answered 302", "base_url")),
    "302-no-address": (answer(b"", status="302 No", location="http://[::1:x/"), ("no address",)),
    "brotli-unasked": (
        answer(b"\x8b\x01\x80\xff\xfe" * 9, content_encoding="br"),
        ("damaged: it is not compressed",),
    ),
    "no-http": (b"SSH-2.0-OpenSSH_9.6\r\n", ("does not answer in HTTP|closed the connection",)),
    "closed": (b"", ("closed the connection|broke|lost",)),
    "redirects": (
        answer(b"", "text/plain", "307 Move", location="/v1/chat/completions"),
        ("redirects without end",),
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models() -> AsyncIterator[ModelRegistry]:
    """Of a server that gives the answer that a model is named after."""
    async with answers_by_model({name: sent for name, (sent, _) in ANSWERS.items()}) as port:
        found = registry(f"http://127.0.0.1:{port}")
        yield found
        await found.aclose()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ANSWERS)
async def test_answers(name: str, protocol: str, models: ModelRegistry) -> None:
    _, told = await failure_of(models, protocol, name)
    check(told["message"], *ANSWERS[name][1], f"'{protocol}-like'")


@pytest.mark.parametrize(("protocol", "other"), [PROTOCOLS, PROTOCOLS[::-1]])
async def test_a_stream_of_the_other_protocol(protocol: str, other: str) -> None:
    async with raw_server(answer(HALF[other])) as server:
        _, told = await failure(f"http://127.0.0.1:{server.port}", protocol)
    check(told["message"], "(?i)speaks the protocol of " + other, f'Set kind = "{other}"')


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", ["302 Found", "303 See Other"])
async def test_a_redirect_to_a_login_page(status: str, protocol: str) -> None:
    async with raw_server(answer(PAGE, "text/html")) as page:
        there = f"http://127.0.0.1:{page.port}/login"
        async with raw_server(answer(b"", "text/plain", status, location=there)) as server:
            _, told = await failure(f"http://127.0.0.1:{server.port}", protocol)
    check(told["message"], r"web page \(Sign in\) instead of a reply")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_reply_that_is_cut(protocol: str) -> None:
    chunk = b"%x\r\n%b\r\n" % (len(HALF[protocol]), HALF[protocol])
    head = answer(b"", transfer_encoding="chunked")
    for pieces, words, reset in (
        ((answer(HALF[protocol]),), "ended the reply before its end", False),
        ((head + chunk + b"0\r\n\r\n",), "ended the reply before its end", False),
        ((head + chunk,), "in the middle of the reply", False),
        ((head + chunk,), "reset the connection|in the middle of the reply|broke", True),
    ):
        async with raw_server(*pieces, reset=reset) as server:
            error, told = await failure(f"http://127.0.0.1:{server.port}", protocol)
        assert RetryPolicy().wait(error, 99) is None
        check(told["message"], words)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("limit", "pieces", "words"),
    [
        ("first_byte", (), "sent nothing for 0.2 s"),
        ("first_byte", (answer(b""),), "sent nothing for 0.2 s"),
        ("between_bytes", (answer(b""), "half"), "sent nothing more for 0.2 s"),
        ("content", (answer(b""), *[b": ping\n\n", 0.02] * 200), "only keep-alives for 0.2 s"),
        ("content", (answer(b""), "half", *[b": ping\n\n", 0.02] * 200), "only keep-alives"),
        ("content", (answer(b""), *["empty", 0.02] * 200), "only keep-alives"),
    ],
)
async def test_silence(protocol: str, limit: str, pieces: Any, words: str) -> None:
    empty = {
        "openai": b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n',
        "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
    }
    known = {"half": HALF[protocol], "empty": empty[protocol]}
    timeouts = TimeoutsConfig(**{limit: 0.2}, key="[timeouts] in /etc/ours.toml")
    sent = [known.get(piece, piece) for piece in pieces]
    async with raw_server(*sent, hold=True) as server:
        error, told = await failure(f"http://127.0.0.1:{server.port}", protocol, timeouts)
    check(told["message"], words, r"under \[timeouts\] in /etc/ours.toml")
    assert limit in told["message"]
    assert RetryPolicy().wait(error, 1) is None  # minutes have passed: once is enough


async def test_a_slow_reply_is_left_alone() -> None:
    """Content resets the limits, whatever pings are between."""
    timeouts = TimeoutsConfig(first_byte=30, between_bytes=30, content=0.4)
    pieces: list[Any] = [answer(b"")]
    for _ in range(8):
        pieces += [HALF["openai"], 0.1, b": ping\n\n"]
    pieces.append(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    async with raw_server(*pieces) as server:
        models = registry(f"http://127.0.0.1:{server.port}", timeouts)
        model = models.resolve("openai-like/big-model").model
        async with model_request_stream(model, [ModelRequest.user_text_prompt("hi")]) as stream:
            async for _ in stream:
                pass
            text = stream.get().parts[0]
        await models.aclose()
    assert getattr(text, "content", "") == "Half a" * 8  # without [DONE], with a reason: whole


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("url", "words", "lasting"),
    [
        ("http://127.0.0.1:9", r"http://127.0.0.1:9 refused the connection", False),
        ("http://me:secret@127.0.0.1:9", r"http://127.0.0.1:9 refused", False),
        ("http://no-such-host.invalid", r"no-such-host.invalid can't be found", False),
    ],
)
async def test_addresses(protocol: str, url: str, words: str, lasting: bool) -> None:
    _, told = await failure(url, protocol)
    check(told["message"], words, "Check its address")
    assert "secret" not in told["message"] and told["isRetryable"] is not lasting


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program")
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_certificates(
    authority: Authority, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = ("20200101000000Z", "20210101000000Z")
    for tls, trusted, words in (
        (authority.certify("localhost", past), True, "certificate of .* has expired"),
        (authority.certify("elsewhere.example"), True, "is for another host name"),
        (authority.certify("localhost"), False, "issued by an authority .* SSL_CERT_FILE"),
        (authority.self_signed("localhost"), False, "is self-signed.*SSL_CERT_FILE"),
    ):
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        else:
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        async with raw_server(tls=tls) as server:
            error, told = await failure(f"https://localhost:{server.port}", protocol)
        check(told["message"], words, f"https://localhost:{server.port}")
        assert RetryPolicy().wait(error, 1) is None and told["isRetryable"] is False

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server_without = TcpServer(plain)
    port = await server_without.start("127.0.0.1")
    _, told = await failure(f"https://localhost:{port}", protocol)
    await server_without.stop()
    check(told["message"], "does not speak TLS")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", r"wants a name.*\(407\)"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", r"refused to connect to https://api.example.*403"),
    ],
)
async def test_proxies(
    protocol: str, reply: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(reply) as proxy:
        _clean(monkeypatch)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@127.0.0.1:{proxy.port}")
        _, told = await failure("https://api.example", protocol)
        check(told["message"], words, f"the proxy http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_proxies_that_are_not_there(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _clean(monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    _, told = await failure("https://api.example", protocol)
    check(told["message"], "the proxy http://127.0.0.1:9 refused", "HTTPS_PROXY")
    for name, value, words in (
        ("ALL_PROXY", "socks5://127.0.0.1:9", "ALL_PROXY names a SOCKS proxy.*socksio|refused"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:9", "is not an http://"),
        ("SSL_CERT_FILE", "/nowhere/at/all.pem", "SSL_CERT_FILE names a file that does not exist"),
    ):
        _clean(monkeypatch)
        monkeypatch.setenv(name, value)
        error, _ = await failure("https://api.example", protocol)
        assert isinstance(error, ModelError) or "refused" in words
        check(getattr(error, "message", ""), words)


def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"message": "a"}, "a"),
        ({"Message": "a"}, "a"),
        ({"detail": "a"}, "a"),
        ({"title": "b", "detail": "a"}, "a"),
        ({"detail": [{"msg": "a"}]}, "a"),
        ({"errors": [{"message": "a"}]}, "a"),
        ([{"error": {"message": "a"}}], "a"),
        ({"error": {"message": '{"error": {"message": "a"}}'}}, "a"),
        ({"error": {"message": "b", "metadata": {"raw": '{"message": "a"}'}}}, "a"),
        ({"error_description": "a", "error": "b"}, "a"),
        ("a\n  b", "a b"),
        ('{"cut": "dump', ""),
        ({"error": {"code": 5}}, ""),
        (None, ""),
        ({"error": True}, ""),
        ("<html><title>a &amp; b</title>", "a web page: a & b"),
        ("<html><head><style>p {}</style></head><p>a</p>", "a web page: a"),
        ("x" * 1000, "x" * 399 + "…"),
    ],
)
def test_the_providers_own_sentence(body: Any, sentence: str) -> None:
    assert provider_sentence(body) == sentence


ENDED = {
    "openai": b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    "anthropic": b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":'
    b'"end_turn","stop_sequence":null},"usage":{"output_tokens":1}}\n\n',
}
REASONS = {"openai": b'"finish_reason"', "anthropic": b'"stop_reason"'}


async def text_of(
    port: int, protocol: str, timeouts: TimeoutsConfig | None = None
) -> tuple[str, str]:
    """What was said, and what a turn would say of its end; empty when that is whole."""
    models = registry(f"http://127.0.0.1:{port}", timeouts)
    said, told = "", ""
    try:
        model = models.resolve(f"{protocol}-like/m").model
        async with model_request_stream(model, [ModelRequest.user_text_prompt("hi")]) as stream:
            async for _ in stream:
                said = "".join(getattr(part, "content", "") for part in stream.get().parts)
    except Exception as error:
        told = turn_error(error, "lab", Scrubber([KEY]))["data"]["message"]
    finally:
        await models.aclose()
    return said, told


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("encoding", ["identity", "none", "", "br", "zstd", "utf-8", "gzip, gzip"])
async def test_no_encoding_hides_a_cut_or_a_silence(protocol: str, encoding: str) -> None:
    half, whole = HALF[protocol], HALF[protocol] + ENDED[protocol]
    if encoding.startswith("gzip"):
        half, whole = (gzip.compress(gzip.compress(data)) for data in (half, whole))
    timeouts = TimeoutsConfig(between_bytes=0.3)
    for body, hold, words in (
        (half, False, "ended the reply before its end"),
        (half, True, "sent nothing more for 0.3 s"),
        (whole, False, ""),
    ):
        async with raw_server(answer(body, content_encoding=encoding), hold=hold) as server:
            said, told = await text_of(server.port, protocol, timeouts)
        assert said == "Half a" or words == "ended the reply before its end"
        assert (words in told) if words else not told, told


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_other_encodings_are_not_asked_for(protocol: str) -> None:
    async with raw_server(answer(HALF[protocol] + ENDED[protocol])) as server:
        await text_of(server.port, protocol)
    assert re.findall(rb"accept-encoding: *([^\r]*)", server.requests[0].lower()) == [
        b"gzip, deflate"
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_compressed_in_pieces(protocol: str) -> None:
    whole = HALF[protocol] + ENDED[protocol]
    frames = [frame + b"\n\n" for frame in whole.split(b"\n\n") if frame]
    raw = zlib.compress(whole)[2:-4]
    for encoding, pieces in (
        ("gzip", [b"".join(map(gzip.compress, frames))]),
        ("deflate", [raw[:1], 0.01, raw[1:]]),
        ("deflate", [zlib.compress(whole)[:1], 0.01, zlib.compress(whole)[1:]]),
    ):
        async with raw_server(answer(b"", content_encoding=encoding), *pieces) as server:
            assert await text_of(server.port, protocol) == ("Half a", "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_empty_reason_ends_nothing(protocol: str) -> None:
    half = HALF[protocol].replace(REASONS[protocol] + b":null", REASONS[protocol] + b':""')
    assert half != HALF[protocol]
    async with raw_server(answer(half)) as server:
        _, told = await text_of(server.port, protocol)
    assert "ended the reply before its end" in told


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("after", [[], [b": ping\n\n", 0.02] * 500])
async def test_a_whole_reply_whose_connection_stays_open(
    protocol: str, after: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reply_stream, "_LAST_WORDS", 0.2)
    head = answer(HALF[protocol] + ENDED[protocol])
    async with raw_server(head, *after, hold=True) as server, asyncio.timeout(9):
        assert await text_of(server.port, protocol) == ("Half a", "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.02] * 500,
        [b"HTTP/1.1 200 OK\r\nx-a: ", *[b"a", 0.02] * 500],
        [b"HTTP/1.1 200 OK\r\n", 0.3, b"content-type: text/event-stream\r\n\r\n"],
    ],
)
async def test_the_first_byte_is_one_of_the_reply(protocol: str, pieces: list[Any]) -> None:
    """Neither hints nor a head that comes in drops begin it."""
    timeouts = TimeoutsConfig(first_byte=0.4)
    async with raw_server(*pieces, hold=True) as server, asyncio.timeout(9):
        began = time.monotonic()
        _, told = await failure(f"http://127.0.0.1:{server.port}", protocol, timeouts)
        assert time.monotonic() - began < 5
    check(told["message"], "'first_byte'")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", ["500 No", "400 No", "302 Found"])
async def test_the_body_of_an_error_is_not_read_without_end(
    protocol: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reply_stream, "_ERROR_PATIENCE", 0.1)
    monkeypatch.setattr(_reply_stream, "_MOST_OF_AN_ERROR", 1 << 16)
    more = {"location": "/elsewhere"} if status.startswith("3") else {}
    for pieces in ([b" ", 0.02] * 1000, [b"x" * 65536] * 2000, []):
        head = answer(b"", "application/json", status, **more)
        async with raw_server(head, *pieces, hold=True) as server, asyncio.timeout(20):
            _, told = await failure(f"http://127.0.0.1:{server.port}", protocol)
        check(told["message"], status[:3] if not more else "redirects without end")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("step", [1, 1 << 20])
async def test_an_error_in_the_stream_however_it_is_cut(protocol: str, step: int) -> None:
    failed = {"object": "error", "message": "the GPU is on fire " * 9, "code": 500}
    frames = HALF[protocol] + b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(failed).encode()
    pieces = [frames[i : i + step] for i in range(0, len(frames), step)]
    async with raw_server(answer(b""), *pieces) as server:
        said, told = await text_of(server.port, protocol)
    assert said == "Half a" and "answered: the GPU is on fire" in told


def test_a_failure_that_can_not_be_told_ends_the_turn_all_the_same() -> None:
    def fails(_text: str) -> str:
        raise RecursionError

    told = turn_error(ModelHTTPError(400, "m", {"message": "x"}), "lab", fails)
    assert told["name"] == "UnknownError" and told["data"]["message"]


def open_connections(model: Any) -> int:
    client = model.client._client
    transports = [client._transport, *filter(None, client._mounts.values())]
    return sum(len(transport._pool.connections) for transport in transports)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("begun", ["nothing", "head", "page", "pings", "half", "error", "moved"])
async def test_leaving_leaves_neither_tasks_nor_sockets(protocol: str, begun: str) -> None:
    """Whoever aborts does it in the hook, too, which reads the beginning."""
    pieces = {
        "nothing": b"",
        "head": answer(b""),
        "page": answer(b"<html>", "text/html"),
        "pings": answer(b": ping\n\n"),
        "half": answer(HALF[protocol]),
        "error": answer(b"{", "application/json", "500 No"),
        "moved": answer(b"x", "text/html", "302 No", location="/elsewhere"),
    }[begun]
    before = asyncio.all_tasks()
    async with raw_server(pieces, hold=True) as server:
        models = registry(f"http://127.0.0.1:{server.port}")
        model: Any = models.resolve(f"{protocol}-like/m").model

        async def ask() -> None:
            async with model_request_stream(model, [ModelRequest.user_text_prompt("hi")]) as stream:
                async for _ in stream:
                    pass

        asking = asyncio.create_task(ask())
        await until(lambda: len(server.requests) == 1)
        for _ in range(20):  # so that it is in the middle of something
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert open_connections(model) == 0
        await models.aclose()
    await until(lambda: asyncio.all_tasks() <= before)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_failures_leave_neither_tasks_nor_sockets(protocol: str) -> None:
    before = asyncio.all_tasks()
    timeouts = TimeoutsConfig(first_byte=0.2, between_bytes=0.2, content=0.3)
    for pieces in (
        [answer(b"")],
        [answer(HALF[protocol])],
        [answer(PAGE, "text/html")],
        [answer(HALF[protocol] + b"data: null\n\n")],
        [answer(b"no gzip" * 9, content_encoding="gzip")],
        [answer(HALF[protocol]), *[b": ping\n\n", 0.02] * 100],
    ):
        async with raw_server(*pieces, hold=True) as server:
            models = registry(f"http://127.0.0.1:{server.port}", timeouts)
            model = models.resolve(f"{protocol}-like/m").model
            for _ in range(2):
                await failure_of(models, protocol, "m")
            assert open_connections(model) == 0
            await models.aclose()
    await until(lambda: asyncio.all_tasks() <= before)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "a.localhost", "[::1]"])
async def test_a_proxy_that_is_not_asked_is_not_blamed(
    protocol: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    _, told = await failure(f"http://{host}:9", protocol)
    check(told["message"], f"http://{re.escape(host)}:9")
    assert "proxy" not in told["message"].lower()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("proxy", ["http://[bad", "http://127.0.0.1:99999", "http://", "//x:0"])
async def test_proxies_that_are_no_addresses(
    protocol: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    error, _ = await failure("http://model.invalid", protocol)
    assert isinstance(error, ModelError)
    check(error.message, "ALL_PROXY is not an http://")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_address_that_is_none(protocol: str) -> None:
    error, _ = await failure("http://\u2603..x", protocol)
    assert isinstance(error, ModelError)
    check(error.message, "no usable address")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_handshake_without_an_answer(protocol: str) -> None:
    timeouts = TimeoutsConfig(connect=0.3)
    for hold, words in ((True, "did not accept the connection in time"), (False, "closed|reset")):

        async def serve(reader: asyncio.StreamReader, _writer: Any, hold: bool = hold) -> None:
            await reader.read(100)
            if hold:
                await asyncio.Event().wait()

        server = TcpServer(serve)
        port = await server.start("127.0.0.1")
        _, told = await failure(f"https://127.0.0.1:{port}", protocol, timeouts)
        await server.stop()
        check(told["message"], words)
