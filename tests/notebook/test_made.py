"""Files that a turn made, shown below it: nothing active, nothing endless."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_magics.client import FileMissing, NotFound
from agent_magics.notebook._data import _made
from agent_magics.notebook._data._made import MadeFile, made_files, may_have_made
from agent_magics.notebook._data._safe_html import safe_html
from agent_magics.wire import FileDiff, FileEntry, FilePart, SendResult, ToolPart, ToolState
from tests.support.fake_session import PNG, FakeTurn, install

IDS = ("msg_1", "ses_1")
BASH = ToolPart("prt_1", *IDS, "bash", "call_1", ToolState("completed"))


def result(*shown: str) -> SendResult:
    images = [FilePart("prt_2", *IDS, "image/png", f"file://{path}") for path in shown]
    return SendResult("msg_2", "", (BASH, *images))


class Session:
    """A workspace in which a turn has changed everything."""

    def __init__(self, **files: bytes) -> None:
        self.files = {f"/workspace/{name.replace('__', '.')}": data for name, data in files.items()}
        self.read: list[str] = []

    def get_diff(self, message_id: str) -> list[FileDiff]:
        assert message_id == "msg_1"
        return [FileDiff(path.removeprefix("/workspace/"), "added") for path in self.files]

    def list_files(self, folder: str) -> list[FileEntry]:
        if folder != "/workspace":
            raise NotFound("It is gone.")
        return [FileEntry(path, "file", len(data)) for path, data in self.files.items()]

    def get_file_buffer(self, path: str) -> bytes:
        self.read.append(path)
        return self.files[path]


def shown(name: str, data: bytes) -> dict[str, Any]:
    return _made._bundle(MadeFile(f"/workspace/{name}", len(data), data))


# -- which


def test_what_can_be_shown_is_fetched() -> None:
    session = Session(a__csv=b"x\n1\n", b__py=b"", c__md=b"# hi", d__png=PNG, e__png=PNG)
    files = made_files(session, "msg_1", result("/workspace/d.png"))  # type: ignore[arg-type]
    assert [file.path for file in files] == [
        f"/workspace/{name}" for name in ("a.csv", "c.md", "e.png")
    ]
    assert session.read == [file.path for file in files]


def test_what_is_large_or_too_many_is_named_only(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(big__csv=b"x" * (1 << 20) + b"x")
    (file,) = made_files(session, "msg_1", result())  # type: ignore[arg-type]
    assert file.data is None and session.read == []
    assert "too large" in _made._bundle(file)["text/plain"]
    many = Session(**{f"f{n}__csv": b"x" for n in range(20)})
    files = made_files(many, "msg_1", result())  # type: ignore[arg-type]
    assert len(files) == 9 and files[-1].why == "and 12 more files"
    assert _made._bundle(files[-1])["text/plain"] == "and 12 more files"


def test_what_is_gone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(a__csv=b"x")
    session.files = {"/workspace/gone/a.csv": b"x", "/workspace/.cache/b.csv": b"x"}
    assert made_files(session, "msg_1", result()) == []  # type: ignore[arg-type]
    here = Session(a__csv=b"x")

    def fail(path: str) -> bytes:
        raise FileMissing("It is gone.")

    monkeypatch.setattr(here, "get_file_buffer", fail)
    (file,) = made_files(here, "msg_1", result())  # type: ignore[arg-type]
    assert file.why == "It is gone."


def test_turns_that_change_nothing_ask_for_nothing() -> None:
    assert may_have_made(result())
    assert not may_have_made(SendResult("msg_2", "hi"))


# -- how


def test_tables() -> None:
    data = b"city,price\n" + b'"<b>Rome</b>","1,5"\n' * 30
    bundle = shown("x.csv", data)
    assert bundle["text/html"].count("<tr>") == 11 and "&lt;b&gt;Rome" in bundle["text/html"]
    assert "about 20 more rows" in bundle["text/html"] and "1,5" in bundle["text/plain"]
    assert shown("x.tsv", b"a\tb\n1\t2\n")["text/plain"] == "x.tsv\na  b\n1  2"
    assert "(empty)" in shown("x.csv", b"\n\n")["text/plain"]
    wide = ",".join("x" * 500 for _ in range(100))
    assert len(shown("x.csv", wide.encode())["text/html"]) < 10_000
    assert "no CSV" in shown("x.csv", b"a" * 200_000)["text/plain"]
    assert "no text" in shown("x.csv", b"\xff\xff")["text/plain"]


def test_markdown_and_html() -> None:
    bundle = shown(
        "x.md", b"# Title\n\n<script>x()</script> ![a](http://x/y.png) [l](javascript:x)"
    )
    assert "<h1>Title</h1>" in bundle["text/html"]
    assert "<script" not in bundle["text/html"] and "<img" not in bundle["text/html"]
    assert "javascript:" not in bundle["text/html"].replace("(javascript:x)", "")
    bundle = shown("x.html", b"<table onclick=x()><tr><td colspan=2>1 &lt; 2</table>")
    assert '<table><tr><td colspan="2">1 &lt; 2</td></tr></table>' in bundle["text/html"]
    assert "cut here" in shown("x.html", b"<p>a</p>" * 50_000)["text/html"]
    assert "cut here" in shown("x.md", b"word " * 50_000)["text/html"]


def test_pictures_are_what_their_bytes_say() -> None:
    html = shown("x.jpg", PNG)["text/html"]
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in html
    assert "no picture" in shown("x.png", b"<svg onload=x()>")["text/plain"]


def test_names_can_not_act() -> None:
    bundle = shown("<img src=x onerror=y>\u202e.csv", b"a\n")
    assert "<img" not in bundle["text/html"] and "\u202e" not in json.dumps(
        bundle, ensure_ascii=False
    )


# -- safe HTML

HOSTILE = {
    "<script>alert(1)</script>a": "a",
    "<scr<script>ipt>x</script>": "ipt&gt;x",
    "<img src=x onerror=alert(1)>b": "b",
    '<a href="javascript:x">link</a>': "link",
    '<p style="position:fixed" onclick=x id=y class=z>t</p>': "<p>t</p>",
    "<svg><p>inside</p></svg>after": "after",
    "<iframe src=//x>in</iframe>out": "out",
    "<style>p{}</style><p>x": "<p>x</p>",
    "<b><i>x</b>y": "<b><i>x</i></b>y",
    "</table></div>x": "x",
    "<td colspan=99999 rowspan='2' colspan=3>x": '<td rowspan="2" colspan="3">x</td>',
    "<td colspan=-1>x": "<td>x</td>",
    "<br/><hr><p/>x": "<br><hr><p>x</p>",
    "<!-- <script> --><![CDATA[x]]><?php x ?>y": "y",
    "&lt;script&gt;&#60;img&#62;": "&lt;script&gt;&lt;img&gt;",
    "<title>t</title><h1>x</h1>": "<h1>x</h1>",
    "<form action=//x><input><button>go</button></form>": "go",
    "<math><mtext><img src=x onerror=y></mtext></math>z": "z",
}


@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_html(source: str) -> None:
    assert safe_html(source) == (HOSTILE[source], False)


def test_large_and_deep_html() -> None:
    html, cut = safe_html("<div>" * 100_000 + "x")
    assert html.count("<div>") == 60 == html.count("</div>") and not cut
    html, cut = safe_html("<td>word</td>" * 100_000, 1000)
    assert cut and len(html) < 2000
    assert safe_html("<script>" + "x" * 100_000) == ("", False)


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.depth: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style", "img", "a", "svg", "iframe", "form", "input")
        assert {name for name, _ in attrs} <= {"colspan", "rowspan"}
        if tag not in ("br", "hr", "col"):
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag


PIECES = ["<b>", "</b>", "<script>", "</script>", "<img src=x onerror=y>", "<td colspan=2>", "<p"]
PIECES += ["<!--", "-->", ">", '"', "'", "x", "&lt;", "<svg/onload=x>", "<a href='x'>", "</", "="]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_what_comes_out_is_always_closed_and_harmless(source: str) -> None:
    checker = _Checker()
    checker.feed(safe_html(source)[0])
    checker.close()
    assert checker.depth == []


# -- through the magics


def table_maker(turn: FakeTurn) -> None:
    turn.tool("make", "made\n")


@pytest.mark.parametrize("wanted", [True, False])
def test_after_a_turn(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: bool
) -> None:
    session = Session(x__csv=b"a,b\n1,2\n")

    def files(found: Any, message_id: str, result: SendResult) -> list[MadeFile]:
        return made_files(session, "msg_1", result)  # type: ignore[arg-type]

    monkeypatch.setattr(_made, "made_files", files)
    monkeypatch.setattr(_made, "may_have_made", lambda result: True)
    install(shell, table_maker)
    shell.extension_manager.load_extension("agent_magics")
    try:
        shell.run_cell(f"%config AgentMagics.show_files = {wanted}")
        assert shell.run_cell("%agent hi").success
    finally:
        shell.extension_manager.unload_extension("agent_magics")
    assert ("x.csv\na  b\n1  2" in capsys.readouterr().out) is wanted
