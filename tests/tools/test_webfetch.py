"""The `webfetch` tool in a turn: permission by host, and what becomes of HTML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.engine._policy import DEFAULT_RULES, Rule, decide
from agent_magics.engine._web import WebFetcher
from agent_magics.engine.tools import _webfetch
from agent_magics.engine.tools._html_program import convert
from tests.support.engine_harness import Step, call, engine_in, eventually, say
from tests.support.fake_web import FakeWeb

PAGE = b"""<html><head><title>Penguins</title><script>evil()</script></head><body>
<h1>Birds</h1><p>See <a href="/more">more</a> and <b>\xc3\xa4</b>.</p>
<ul><li>one</li><li>two</li></ul>
<table><tr><th>a</th></tr><tr><td>1</td></tr></table>
<img src="data:image/png;base64,AAAA" alt="x"><style>p{}</style></body></html>"""
ALLOW = [{"permission": "webfetch", "pattern": "*", "action": "allow"}]


def fetcher(*responses: httpx.Response) -> WebFetcher:
    left = list(responses)

    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    return WebFetcher(resolve, lambda: FakeWeb(lambda request: left.pop(0)))


def html(content: bytes = PAGE, kind: str = "text/html; charset=utf-8") -> httpx.Response:
    return httpx.Response(200, content=content, headers={"content-type": kind})


def fetch(**arguments: Any) -> Step:
    return call(("webfetch", {"url": "https://a.example/x", **arguments}))


def test_permission_is_by_host() -> None:
    arguments = {"url": "https://docs.example.org/x?q=1"}
    decision = decide(DEFAULT_RULES, "webfetch", arguments)
    assert decision.action == "ask"
    assert decision.patterns == ("https://docs.example.org/x?q=1",)
    assert decision.always == ("docs.example.org",)
    rules = (*DEFAULT_RULES, Rule("webfetch", "*.example.org", "allow"))
    assert decide(rules, "webfetch", arguments).action == "allow"
    for url in (
        "https://docs.example.org:8443/",
        "https://docs.example.org.evil.example/",
        "https://evil.example/docs.example.org",
        "https://evil.example/?x=.example.org",
        "not a url",
        "",
    ):
        assert decide(rules, "webfetch", {"url": url}).action == "ask", url
    ipv6 = decide(DEFAULT_RULES, "webfetch", {"url": "http://[2001:4860::1]/"})
    rules = (*DEFAULT_RULES, Rule("webfetch", ipv6.always[0], "allow"))
    assert decide(rules, "webfetch", {"url": "http://[2001:4860::1]/"}).action == "allow"


async def test_always_is_for_the_host(tmp_path: Path) -> None:
    steps = [fetch(), fetch(url="http://a.example/y"), fetch(url="https://b.example/"), say("Ok.")]
    pages = [html(), html(b"two"), html(b"three")]
    async with engine_in(tmp_path, steps, fetcher=fetcher(*pages)) as harness:
        session = await harness.session()
        await harness.prompt(session)
        for number, reply in ((1, "always"), (2, "reject")):
            asked = (await harness.recorder.wait("permission.asked", number))["properties"]
            assert asked["permission"] == "webfetch"
            harness.engine.permissions.reply(asked["id"], reply, None, session_id=session.id)
        await harness.recorder.wait("session.idle")
        assert asked["patterns"] == ["https://b.example/"]
        states = [part["state"] for part in harness.recorder.parts("tool")]
        assert [state["status"] for state in states] == ["completed", "completed", "error"]
        assert states[0]["title"] == "https://a.example/x"
        assert session.standing == [
            {"permission": "webfetch", "pattern": "a.example", "action": "allow"}
        ]


async def output_of(tmp_path: Path, response: httpx.Response, **arguments: Any) -> str:
    steps = [fetch(**arguments), say("Ok.")]
    async with engine_in(tmp_path, steps, fetcher=fetcher(response)) as harness:
        await harness.turn(await harness.session(rules=ALLOW))
        (part,) = harness.recorder.parts("tool")
        return str(part["state"].get("output") or part["state"]["error"])


async def test_markdown(tmp_path: Path) -> None:
    text = await output_of(tmp_path, html())
    assert text.startswith("# Penguins\n\n# Birds\n\nSee [more](https://a.example/more) and **ä**.")
    assert "- one\n- two" in text and "| a |" in text
    assert "evil" not in text and "p{}" not in text and "base64" not in text


async def test_text_and_html(tmp_path: Path) -> None:
    text = await output_of(tmp_path / "1", html(), format="text")
    assert (
        text.startswith("Penguins\n\nBirds\n\nSee more and ä.\n\none\ntwo\n\na\n1")
        and "evil" not in text
    )
    assert await output_of(tmp_path / "2", html(), format="html") == PAGE.decode()


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (html(b'{"a": 1}', "application/json"), '{"a": 1}'),
        (html(b"\xe4", "text/plain; charset=latin-1"), "ä"),
        (html(b"\xff", "text/plain; charset=nonsense"), "\ufffd"),
        (html(b"", "text/plain"), "(the page is empty)"),
        (html(b"\x89PNG\0\0", "image/png"), "https://a.example/x is no text but image/png"),
        (httpx.Response(404), "https://a.example/x answered 404 Not Found."),
        (
            httpx.Response(302, headers={"location": "https://b.example/y"}),
            "https://a.example/x redirects to another host: https://b.example/y",
        ),
    ],
)
async def test_other_answers(tmp_path: Path, response: httpx.Response, expected: str) -> None:
    assert (await output_of(tmp_path, response)).startswith(expected)


@pytest.mark.parametrize("arguments", [{"url": "file:///etc/passwd"}, {"timeout": 0}])
async def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any]) -> None:
    text = await output_of(tmp_path, html(), **arguments)
    assert "Only http" in text or "at least 1" in text


async def test_long_pages_are_cut(tmp_path: Path) -> None:
    text = await output_of(tmp_path, html(b"x" * 200_000, "text/plain"))
    assert "characters left out" in text and len(text) < 40_000


def test_deep_pages_and_strange_links() -> None:
    deep = b"<div>" * 5000 + b"core" + b"</div>" * 5000
    assert "core" in convert(deep, "markdown", "https://a.example/")
    page = b'<a href="http://[x">a</a><a href="javascript:x()">b</a><a>c</a>'
    assert convert(page, "markdown", "https://a.example/") == "[a](http://[x)bc"
    assert convert("<p>ä".encode("latin-1"), "text", "", "latin-1") == "ä"


async def test_a_page_that_keeps_the_converter_busy_ends_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "busy.py"
    program.write_text("import sys; sys.exit(1)")
    monkeypatch.setattr(_webfetch, "_PROGRAM", program)
    assert "too complex" in await output_of(tmp_path / "1", html())
    mark = tmp_path / "pid"
    program.write_text(
        f"import os, time; open({str(mark)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(600)"
    )
    steps = [fetch(), say("Ok.")]
    async with engine_in(tmp_path / "2", steps, fetcher=fetcher(html())) as harness:
        session = await harness.session(rules=ALLOW)
        await harness.prompt(session)
        await eventually(lambda: mark.exists() and mark.read_text().endswith("."))
        await harness.engine.abort(session)
        pid = int(mark.read_text()[:-1])
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_the_converter_sees_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    program = tmp_path / "env.py"
    program.write_text("import os; print(sorted(os.environ))")
    monkeypatch.setattr(_webfetch, "_PROGRAM", program)
    assert "KEY" not in await output_of(tmp_path / "1", html())
