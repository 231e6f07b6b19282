"""Hosts, patterns, addresses and request heads: what is understood, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_magics.sandbox import HOST_GROUPS, HostError, Openings, checked_pattern, host_matches
from agent_magics.sandbox._hosts import Target, parse_target
from agent_magics.sandbox._request_head import Head, HeadError, parse_head

PUBLIC = "93.184.216.34"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org:443", "example.org", 443),
        ("EXAMPLE.Org.:8080", "example.org", 8080),
        ("a_b.example.org:1", "a_b.example.org", 1),
        ("xn--bcher-kva.example:443", "xn--bcher-kva.example", 443),
        ("93.184.216.34:80", PUBLIC, 80),
        ("[2606:2800:220:1:0:0:0:1]:443", "2606:2800:220:1::1", 443),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1", 80),
        ("[::FFFF:a9fe:a9fe]:80", "169.254.169.254", 80),
    ],
)
def test_targets(text: str, host: str, port: int) -> None:
    assert parse_target(text) == Target(host, port)
    assert parse_target(parse_target(text).site) == Target(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":80", "example.org", "example.org:", "example.org:0", "example.org:65536"),
        *("example.org:+80", "example.org:8 0", "example.org:٨٠", "example.org:080000"),
        *("user@example.org:80", "user:pw@example.org:80", "a b.org:80", "exa\tmple.org:80"),
        *("example..org:80", ".example.org:80", "-a.org:80", "a-.org:80", "a" * 64 + ".org:80"),
        *("http://example.org:80", "example.org/x:80", "example.org#x:80", "ex%61mple.org:80"),
        *("bücher.example:80", "ex\u00adample.org:80", "example\u3002org:80", "ⓔxample.org:80"),
        *("2130706433:80", "0x7f000001:80", "0x7f.1:80", "0177.0.0.1:80", "127.1:80", "127.0.1:80"),
        *("127.0.0.1.:80x", "1.2.3.4.5:80", "256.0.0.1:80", "127.0.0.0x1:80", "0:80", "0x:80"),
        *("::1:80", "[::1]", "[::1", "::1]:80", "[::1]x:80", "[fe80::1%eth0]:80", "[fe80::1%1]:80"),
        *("[127.0.0.1]:80", "[]:80", "[[::1]]:80", "*.example.org:80", "*:80", "example.org:*"),
    ],
)
def test_what_is_no_clear_target(text: str) -> None:
    with pytest.raises(HostError):
        parse_target(text)


@given(st.text(max_size=40))
@example("127.0.0.1.:80")
def test_targets_have_one_spelling(text: str) -> None:
    try:
        target = parse_target(text, 80)
    except HostError:
        return
    assert target.host == target.host.lower() and target.host.isascii()
    assert not set(target.host) & set(" \t\r\n/\\@%?#[]*")
    assert parse_target(target.site) == target


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("example.org", "example.org:443 example.org:80", "example.org:8080 a.example.org:443"),
        ("example.org:8080", "example.org:8080", "example.org:443"),
        ("example.org:*", "example.org:1 example.org:443", "b.org:443"),
        ("*.example.org", "a.example.org:80 a.b.example.org:443", "example.org:80 xexample.org:80"),
        ("*.example.org:443", "a.example.org:443", "a.example.org:80"),
        ("*", "x.org:80 y.org:443", "x.org:22"),
        ("*:*", "x.org:22", ""),
        ("Example.ORG.", "example.org:80", ""),
        ("[[]2606:2800::1]:443", "[2606:2800::1]:443", "[2606:2800::1]:80 [2606:2800::2]:443"),
        ("packages", "pypi.org:443 files.pythonhosted.org:443", "pypi.org:22 upload.pypi.org:443"),
    ],
)
def test_patterns(pattern: str, matching: str, other: str) -> None:
    def matches(site: str) -> bool:
        target = parse_target(site)
        return host_matches(pattern, target.host, target.port)

    assert all(matches(site) for site in matching.split())
    assert not any(matches(site) for site in other.split())


def test_a_pattern_that_denies_means_every_port() -> None:
    assert host_matches("example.org", "example.org", 22, any_port=True)
    assert not host_matches("example.org:80", "example.org", 22, any_port=True)
    assert host_matches("python", "pypi.org", 8080, any_port=True)


@pytest.mark.parametrize(
    ("text", "checked"),
    [
        ("packages", "packages"),
        (" Data.Example.org. ", "data.example.org"),
        ("*.example.edu:443", "*.example.edu:443"),
        ("wiki:8080", "wiki:8080"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[2606:2800::1]:443", "[[]2606:2800::1]:443"),
        ("93.184.216.34", PUBLIC),
        ("*:*", "*:*"),
    ],
)
def test_entries_of_lists(text: str, checked: str) -> None:
    assert checked_pattern(text) == checked


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "package", "http://example.org", "example.org/x", "*example.org", "a.*.org"),
        *("example.org:0", "example.org:99999", "example.org:x", "u@example.org", "**.org", "a b"),
        *("0x7f.1", "127.1", "[::1", "*.", "e?ample.org", "[a-z].org"),
    ],
)
def test_entries_that_can_not_be_meant(text: str) -> None:
    with pytest.raises(HostError):
        checked_pattern(text)


def test_groups_consist_of_hosts() -> None:
    for hosts in HOST_GROUPS.values():
        assert all(checked_pattern(host) == host for host in hosts)
    assert set(HOST_GROUPS["python"]) < set(HOST_GROUPS["packages"])


CLOSED = (
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1"),
    *("255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"),
    *("", "localhost", "example.org"),
)


@pytest.mark.parametrize("address", CLOSED)
def test_closed_unless_opened(address: str) -> None:
    assert not Openings().admits("data.example.org", address)


def test_public_addresses_are_open() -> None:
    assert Openings().admits("data.example.org", PUBLIC)
    assert Openings().admits("data.example.org", "::ffff:8.8.8.8")


def test_what_a_name_a_network_and_an_address_open() -> None:
    name = Openings(["Wiki.lab."])
    assert name.admits("wiki.lab", "10.1.2.3") and name.admits("wiki.lab", "fd12::1")
    assert not name.admits("other.lab", "10.1.2.3")
    network = Openings(["10.1.0.0/16", "fd12::/32"])
    assert network.admits("any.lab", "10.1.2.3") and network.admits("any.lab", "fd12::1")
    assert network.admits("any.lab", "::ffff:10.1.2.3")
    assert not network.admits("any.lab", "10.2.0.1")
    assert Openings(["127.0.0.2"]).admits("127.0.0.2", "127.0.0.2")
    assert not Openings(["127.0.0.2"]).admits("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "::1", "fe80::1", "224.0.0.1"],
)
def test_what_no_name_and_no_network_opens(address: str) -> None:
    everything = Openings(["wiki.lab", "0.0.0.0/0", "::/0"])
    assert not everything.admits("wiki.lab", address)


@pytest.mark.parametrize("entry", ["", "*.lab", "10.0.0.0/33", "a/b", "http://x", "10.0.0", "x:80"])
def test_openings_that_can_not_be_meant(entry: str) -> None:
    with pytest.raises(ValueError):
        Openings([entry])


# --- heads of requests


def head(*lines: str) -> Head:
    return parse_head("\r\n".join(lines).encode("latin-1"))


def test_a_request_is_made_anew() -> None:
    found = head(
        "POST HTTP://Data.Example.org:8080/a?b=c%20d HTTP/1.1",
        "Host: other.example.org",
        "Host: third.example.org",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic c2VjcmV0",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: 1",
        "TE: trailers",
        "Upgrade: h2c",
        "X-Text:\tné ",
        "Content-Length: 3",
    )
    assert found.target == Target("data.example.org", 8080) and found.length == 3
    assert found.encode().decode("latin-1").split("\r\n") == [
        "POST /a?b=c%20d HTTP/1.1",
        "Host: data.example.org:8080",
        "X-Text: né",
        "Content-Length: 3",
        "Connection: close",
        "",
        "",
    ]


def test_paths_tunnels_and_chunks() -> None:
    assert head("GET http://a.org HTTP/1.0").path == "/"
    assert head("GET http://a.org?x HTTP/1.1").path == "/?x"
    assert b"\r\nHost: a.org\r\n" in head("GET http://a.org:80/ HTTP/1.1").encode()
    tunnel = head("CONNECT a.org:443 HTTP/1.1", "Host: b.org")
    assert tunnel.is_tunnel and tunnel.target == Target("a.org", 443)
    chunked = head("PUT http://a.org/ HTTP/1.1", "Transfer-Encoding: Chunked")
    assert chunked.length is None and b"Transfer-Encoding: chunked" in chunked.encode()


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["GET / HTTP/1.1"],
        ["GET * HTTP/1.1"],
        ["GET http:///x HTTP/1.1"],
        ["GET https://a.org/ HTTP/1.1"],
        ["GET ftp://a.org/ HTTP/1.1"],
        ["GET http://u:p@a.org/ HTTP/1.1"],
        ["GET http://a.org\\@b.org/ HTTP/1.1"],
        ["GET http://127.1/ HTTP/1.1"],
        ["GET http://a.org/#x HTTP/1.1"],
        ["GET  http://a.org/ HTTP/1.1"],
        ["GET http://a.org/ x HTTP/1.1"],
        ["GET http://a.org/ HTTP/2"],
        ["GET http://a.org/ HTTP/1.1 "],
        ["get http://a.org/ HTTP/1.1"],
        ["G\u00c9T http://a.org/ HTTP/1.1"],
        ["GET http://a.org/é HTTP/1.1"],
        ["CONNECT http://a.org HTTP/1.1"],
        ["CONNECT a.org HTTP/1.1"],
        ["CONNECT a.org:443/x HTTP/1.1"],
        ["GET http://a.org/ HTTP/1.1", "Host : a.org"],
        ["GET http://a.org/ HTTP/1.1", " folded: a"],
        ["GET http://a.org/ HTTP/1.1", "X: a", "\tb"],
        ["GET http://a.org/ HTTP/1.1", "no colon"],
        ["GET http://a.org/ HTTP/1.1", ": empty"],
        ["GET http://a.org/ HTTP/1.1", "X: a\nY: b"],
        ["GET http://a.org/ HTTP/1.1", "X: a\rY: b"],
        ["GET http://a.org/ HTTP/1.1", "X: a\0b"],
        ["GET http://a.org/ HTTP/1.1", *["X: y"] * 101],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: 1", "Content-Length: 1"],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: 1, 1"],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: +1"],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: 0x1"],
        ["POST http://a.org/ HTTP/1.1", "Content-Length: -1"],
        ["POST http://a.org/ HTTP/1.1", "Transfer-Encoding: gzip, chunked"],
        ["POST http://a.org/ HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: x"],
        ["POST http://a.org/ HTTP/1.0", "Transfer-Encoding: chunked"],
    ],
    ids=repr,
)
def test_requests_that_are_refused(lines: list[str]) -> None:
    with pytest.raises(HeadError):
        head(*lines)


PIECES = st.sampled_from(
    [
        *(b"GET ", b"CONNECT ", b"http://", b"a.org", b":80", b"/", b" HTTP/1.1", b"\r\n", b"\n"),
        *(b"Host: ", b"Content-Length: ", b"Transfer-Encoding: chunked", b"5", b" ", b"\t", b"\0"),
        *(b"[::1]", b"@", b"%00", b"Connection: ", b"host", b"\r", b",", b"\xff", b"127.0.0.1"),
    ]
)


@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=20).map(b"".join)))
@example(b"GET http://a.org/ HTTP/1.1\r\nContent-Length: 5")
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    try:
        found = parse_head(data)
    except HeadError as error:
        assert error.status in (400, 431)
        return
    if found.is_tunnel:
        return
    made = found.encode()
    lines = made.split(b"\r\n")
    assert lines[-2:] == [b"", b""] and not any(b"\n" in line or b"\r" in line for line in lines)
    names = [line.partition(b":")[0].lower() for line in lines[1:-2]]
    assert names.count(b"host") == 1 and names.count(b"connection") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
