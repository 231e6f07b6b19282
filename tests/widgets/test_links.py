"""What may be a link, in Python and in the page's script alike."""

from __future__ import annotations

import re

import pytest

from agent_magics.widgets import render_markdown
from agent_magics.widgets._links import LINK, link_address, link_host
from agent_magics.widgets._script import STATIC

LINKS = [
    "https://example.org",
    "http://example.org:8080/a/b.html?c=d&e=%20#f",
    "HTTPS://EXAMPLE.org/A_(b)",
    "https://xn--bcher-kva.example/",
    "http://127.0.0.1:8888/lab",
    "mailto:me+you@example.org?subject=Hello%20you",
]
TEXTS = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", " javascript:alert(1)",
    "\x01javascript:alert(1)", "java%73cript:alert(1)", "java&#115;cript:alert(1)", "vbscript:x",
    "data:text/html,x", "file:///etc/passwd", "vscode://x", "ftp://example.org", "blob:x",
    "about:x",
    "//evil.test/x", "/api/shutdown", "api/shutdown", "../x", "#x", "?x", "\\\\evil.test\\x",
    "http:x",
    "http:/x", "http:///x", "http:\\\\evil.test", "https:/\\evil.test",
    "https://",
    "https://?x",
    "https://good.test@evil.test/",
    "https://good.test:pw@evil.test/",
    "https://good.test\\@evil.test",
    "https://ex%61mple.org",
    "https://example.org:x/",
    "https://exam ple.org",
    "https://example.org/a b",
    "https://example.org/\x00",
    "https://example.org/\n",
    "https://example.org/\u202e",
    "https://ex\u0430mple.org",
    "https://example.org\u3002evil.test",
    "https://example.org/<x>",
    'https://example.org/"x',
    "https://-x",
    "https://example.org/a\\b", "https:example.org", "mailto:", "mailto:x",
    "mailto:x@y\nBcc:z", "mailto:<x@y>",
    "mailto:javascript:alert(1)", "view-source:https://x.test", "https\u017f://x.test", "ht\ntp://x.test",
    "command:x", "jupyter:x", "tel:1", "sms:1", "intent://x",
    "https://[::1]/",
    "https://" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("url", LINKS)
def test_links(url: str) -> None:
    assert link_address(url) == url
    html = render_markdown(f"[x]({url})")
    assert 'target="_blank" rel="noopener noreferrer nofollow"' in html
    assert html.count("<a ") == 1


@pytest.mark.parametrize("url", TEXTS)
def test_texts(url: str) -> None:
    assert link_address(url) is None


@pytest.mark.parametrize("colours", ["spans", "runs", "none"])
@pytest.mark.parametrize("url", [url for url in TEXTS if url.isascii()])
def test_no_markdown_makes_a_link_of_them(url: str, colours: str) -> None:
    for text in (f"[x]({url})", f"[x](<{url}>)", f"<{url}>", f"[x]: {url}\n\n[x]"):
        for address in re.findall(r'href="([^"]*)"', render_markdown(text, colours=colours)):
            assert link_address(address) is not None
            assert address.startswith(("http://", "https://", "mailto:")), address


def test_the_page_decides_by_the_same_pattern() -> None:
    source = (STATIC / "safe.js").read_text("utf-8")
    assert f"/{LINK}/i" in source


@pytest.mark.parametrize(
    ("url", "text", "host"),
    [
        ("https://evil.test/x", "https://bank.example", "evil.test"),
        ("https://evil.test/x", "bank.example", "evil.test"),
        ("https://evil.test/x", "www.bank.example/login", "evil.test"),
        ("https://evil.test/x", "evil.test.bank.example", "evil.test"),
        ("https://evil.test/x", "bank.example (evil.test)", "evil.test"),
        ("https://evil.test/x", "me@bank.example", "evil.test"),
        ("mailto:x@evil.test", "x@bank.example", "evil.test"),
        ("https://xn--80ak6aa92e.com", "apple", "xn--80ak6aa92e.com"),
        ("https://evil.test/x", "the report", ""),
        ("https://evil.test/x", "evil.test", ""),
        ("https://www.evil.test/x", "https://evil.test/x", ""),
        ("https://evil.test/x", "version 1.5", ""),
    ],
)
def test_a_link_that_looks_like_another_address_is_told(url: str, text: str, host: str) -> None:
    assert link_host(url, text) == host
    for colours in ("spans", "runs"):
        html = render_markdown(f"[{text}]({url})", colours=colours)
        assert html.endswith(f"</a> [{host}]</p>\n" if host else "</a></p>\n")
