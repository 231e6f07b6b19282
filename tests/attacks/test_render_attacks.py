"""Whatever an agent says, the saved HTML holds no script, no handler, no foreign address."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_magics.widgets import TurnRecord, render_markdown
from agent_magics.widgets._formulas import ELEMENTS
from agent_magics.widgets._links import link_address
from tests.support.agent_events import (
    asked,
    ended,
    plan,
    replied,
    status,
    text,
    thought,
    tool_done,
    tool_failed,
)

_TAGS = """
p br hr strong em s code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 table thead tbody tr th td
a div span b details summary img
"""
TAGS = frozenset(_TAGS.split()) | ELEMENTS.keys()
ATTRIBUTES = {
    "a": {"href", "target", "rel", "title"},
    "img": {"src", "alt", "title", "style"},
    "ol": {"start"},
    "th": {"style"},
    "td": {"style"},
    "code": {"class", "style"},
    "div": {"class", "style"},
    "span": {"style"},
    "pre": {"style"},
    "details": {"style"},
    "b": {"style"},
    **{tag: {*names, "style"} - {"class"} for tag, names in ELEMENTS.items()},
}
IGNORED = "mathjax_ignore tex2jax_ignore asciimath2jax_ignore"
STYLE = re.compile(r"[a-z0-9:;.,#%()\s-]*")

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<details open ontoggle=alert(1)>x</details>",
    "<style>*{background:url(https://evil.example/x)}</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<form action=https://evil.example><input name=a><button>go</button></form>",
    "<base href=https://evil.example/><meta http-equiv=refresh content=0>",
    "</pre></div><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "![pixel](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+)",
    "[a](javascript:alert(1))",
    "[b](JaVaScRiPt:alert(1))",
    "[c](&#106;avascript:alert(1))",
    "[d](java\tscript:alert(1))",
    "[e]( javascript:alert(1))",
    "[f](vbscript:x) [g](data:text/html,<script>alert(1)</script>) [h](file:///etc/passwd)",
    "[i](//evil.example/x) [j](/api/shutdown) [k](../../lab?reset) [l](#x)",
    "<javascript:alert(1)> <https://ok.example/>",
    '[m](https://ok.example/ "title\\" onmouseover=alert(1) x=\\"")',
    "[n]: javascript:alert(1)\n\n[n]",
    '```"><script>alert(1)</script>\ncode\n```',
    "```html onload=alert(1)\n<b>\n```",
    "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
    "\x00<scr\x00ipt>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\ud800<script>\udfff",
    "<" * 3000,
    "$$\\href{javascript:alert(1)}{x}$$ \\(\\unicode{x}\\)",
]


class Audit(HTMLParser):
    """Parses as a browser would and complains about everything that is not on the list."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.problems.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES.get(tag, set()):
                self.problems.append(f"{tag}@{name}")
            self._value(tag, name, value or "")

    def _value(self, tag: str, name: str, value: str) -> None:
        if tag == "div" and name == "class" and value != IGNORED:
            self.problems.append(f"class {value!r}")
        if name == "href" and link_address(value) is None:
            self.problems.append(f"href {value!r}")
        if name == "src" and not re.fullmatch(
            r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*", value
        ):
            self.problems.append(f"src {value[:60]!r}")
        if name == "style" and ("url" in value or not STYLE.fullmatch(value)):
            self.problems.append(f"style {value!r}")

    def handle_comment(self, data: str) -> None:
        self.problems.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.problems.append("declaration")


def problems(html: str) -> list[str]:
    audit = Audit()
    audit.feed(html)
    audit.close()
    return audit.problems


def hostile_record(payload: str) -> TurnRecord:
    """A turn in which everything that comes from outside is the payload."""
    record = TurnRecord()
    record.describe(payload, payload, payload, False)
    state = {
        "input": {"command": payload, "filePath": payload, payload: payload},
        "output": payload,
        "title": payload,
        "metadata": {"exit": 1},
    }
    for event in (
        status("retry", payload),
        text(payload),
        thought(payload),
        tool_done(payload, "1", **state),
        tool_failed("bash", "2", error=payload, **state),
        tool_done("edit", "3", input={"filePath": payload, "oldString": payload, "newString": "x"}),
        tool_done("write", "4", input={"filePath": payload, "content": payload}),
        asked("per_1", payload, patterns=(payload,), always=(payload,), metadata={"x": payload}),
        asked("per_2", "bash", patterns=(payload,), metadata={"command": payload}),
        replied(payload),
        plan((payload, "pending"), ("x", payload)),
        ended("error", payload),
    ):
        record.handle(event)
    record.note(payload, "warning")
    record.add_image(payload, payload.encode("utf-8", "replace"), payload)
    return record


def test_the_audit_itself_finds_things() -> None:
    assert problems("<script>") == ["<script>"]
    assert problems("<b onclick=x>") == ["b@onclick"]
    assert problems("<a href='javascript:x'>")
    assert problems("<div style='background:url(x)'>")
    assert problems("<img src='https://x/'>")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markdown_is_inert(payload: str) -> None:
    assert problems(render_markdown(payload)) == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_saved_turn_is_inert(payload: str) -> None:
    record = hostile_record(payload)
    assert problems(record.html()) == []
    record.text().encode("utf-8")
    assert "\x00" not in record.html()


@given(st.text(alphabet="<>\"'&=/ ajvscriptonerr:()[]!`#|-\n\t\x00\u202e\ud800", max_size=200))
def test_any_text_is_inert(payload: str) -> None:
    assert problems(hostile_record(payload).html()) == []


def test_links_that_are_allowed_are_marked() -> None:
    html = render_markdown("[docs](https://example.org/a?b=1&c=2) <mailto:a@example.org>")
    assert 'href="https://example.org/a?b=1&amp;c=2"' in html
    assert html.count('rel="noopener noreferrer nofollow"') == 2
    assert 'title="https://example.org/a?b=1&amp;c=2"' in html


def test_a_permission_shows_the_whole_command_with_nothing_hidden() -> None:
    record = TurnRecord()
    command = "echo safe" + " " * 500 + "; rm -rf / \u202e # \x1b[8mhidden\x1b[0m" + "x" * 3000
    record.handle(asked(patterns=(command,), metadata={"command": command}))
    html = record.html()
    assert "rm -rf /" in html
    assert "⟦U+202E⟧" in html
    assert "␛[8mhidden" in html
    assert html.count("x" * 3000) == 1
