"""No page's typesetter finds anything in what is written into pages."""

from __future__ import annotations

import ast
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbconvert
import nbformat.v4 as notebook
import pytest
from markdown_it import MarkdownIt

from agent_magics.notebook._data._made import MadeFile, _bundle
from agent_magics.notebook._manage._export import _html
from agent_magics.widgets import Facts, Listing, Questions, TurnRecord, page_text, render_markdown
from agent_magics.wire import Message, MessageInfo, SessionInfo, TextPart
from tests.support.agent_events import asked, ended, plan, replied, text, thought, tool_done

PACKAGE = Path(__file__).resolve().parents[2] / "agent_magics"

ATTACK = (
    r"costs $5 up to $7 each, \(\style{color:red}{x}\) \[\unicode{x41}\] $$\def\frac{x}$$ "
    r"\begin{align}\bbox[white]{x}\end{align} \ref{a} \eqref{b} \$5 `asciimath` \$\$ $`x`$"
)


class Runs(HTMLParser):
    """
    The texts that typesetters search, each by itself: across <br>, <wbr> and comments they go on,
    at any other element they stop, in code they do not look.
    """

    SKIPPED = frozenset(("annotation", "code", "pre", "script", "style", "textarea", "title"))
    EMPTY = frozenset(("col", "hr", "img", "input", "meta"))

    def __init__(self) -> None:
        super().__init__()
        self.runs = [""]
        self.classes: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.classes += (dict(attrs).get("class") or "").split()
        if tag in ("br", "wbr"):
            return
        self.runs.append("")
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.runs.append("")
        while self._open and self._open.pop() != tag:
            continue

    def handle_data(self, data: str) -> None:
        if not self.SKIPPED & set(self._open):
            self.runs[-1] += data


def assert_inert(html: str) -> None:
    found = Runs()
    found.feed(html)
    found.close()
    assert [run for run in found.runs if len(run) > 1 and set(run) & set("$\\`")] == []
    assert any("5 up to " in run for run in found.runs), "the attack is not there"


def assert_ignored(html: str) -> None:
    """The outermost element tells typesetters to pass over it."""
    head = html.partition(">")[0]
    assert head.startswith("<div ")
    for name in ("mathjax_ignore", "tex2jax_ignore", "asciimath2jax_ignore"):
        assert name in head
    assert "process" not in head
    assert "contain:paint" in head


def record() -> TurnRecord:
    made = TurnRecord()
    for event in (
        text(f"# {ATTACK}\n\n{ATTACK}\n\n- {ATTACK}\n\n| {ATTACK} |\n|---|\n| {ATTACK} |\n"),
        thought(ATTACK),
        tool_done(ATTACK, title=ATTACK, input={ATTACK: ATTACK}, output=ATTACK),
        asked(permission=ATTACK, patterns=(ATTACK,), always=(ATTACK,), metadata={ATTACK: ATTACK}),
        replied("reject"),
        plan((ATTACK, ATTACK)),
        ended("error", ATTACK),
    ):
        made.handle(event)
    made.note(ATTACK)
    made.add_image("image/png", b"x", ATTACK)
    made.model = ATTACK
    return made


def test_a_saved_turn_is_inert() -> None:
    html = record().html()
    assert_inert(html)
    assert_ignored(html)
    assert html.count("5 up to ") >= 12


def test_lists_and_questions_are_inert() -> None:
    request = asked(permission=ATTACK, metadata={ATTACK: ATTACK}, patterns=(ATTACK,)).request
    for shown in (
        Listing([ATTACK], {ATTACK: str, "b": str}, caption=ATTACK),
        Listing([], {"a": str}, empty=ATTACK),
        Facts([(ATTACK, ATTACK)]),
        Questions([request]),
    ):
        html = shown._repr_html_()
        assert_inert(html)
        assert_ignored(html)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"price,note\n$5,{ATTACK}\n"),
        ("a.tsv", f"price\tnote\n$5\t{ATTACK}\n"),
        ("a.html", f"<table><tr><td>{ATTACK}<br>{ATTACK}</td></tr></table><p>{ATTACK}"),
        ("a.md", f"{ATTACK}\n\n## {ATTACK}\n\n- {ATTACK}\n> {ATTACK}\n"),
        (f"{ATTACK}.png", "\x89PNG"),
        (f"{ATTACK}.csv", "a,b\n"),
    ],
)
def test_shown_files_are_inert(name: str, content: str) -> None:
    html = _bundle(MadeFile(f"/workspace/{name}", 9, content.encode()))["text/html"]
    assert_inert(html)
    assert_ignored(html)


def test_an_exported_conversation_is_inert() -> None:
    info = MessageInfo("msg_1", "ses_1", "assistant", model=ATTACK)
    message = Message(info, (TextPart("prt_1", "msg_1", "ses_1", ATTACK),))
    html = _html(SessionInfo("ses_1", ATTACK), [message])
    assert_inert(html)
    assert "default-src 'none'" in html
    assert_ignored(html.partition("<body>")[2])


def test_prices_look_and_copy_as_they_are() -> None:
    html = page_text("costs $5 up to $7 each & <b>")
    assert html == "costs <span>$</span>5 up to <span>$</span>7 each &amp; &lt;b&gt;"
    reader = Runs()
    reader.feed(html)
    assert "".join(reader.runs) == "costs $5 up to $7 each & <b>"


@pytest.mark.parametrize(
    "text",
    [
        "$a$",
        "\\$a$",
        "a \\\\(b\\\\)",
        "`$x`$y$",
        "[$a](https://x.test/) $b$",
        "**$**x**$**",
        "$\n$ x",
    ],
)
def test_markdown_is_inert(text: str) -> None:
    found = Runs()
    found.feed(render_markdown(text))
    assert [run for run in found.runs if len(run) > 1 and set(run) & set("$\\`")] == []


def test_pages_are_written_by_one_module() -> None:
    """Whoever escaped by hand would forget what typesetters find."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name.startswith(("engine/", "sandbox/")) or name == "widgets/_page.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in ("html", "xml.sax.saxutils"):
                escapes = {"escape", "quoteattr"} & {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                escapes = {"html", "cgi"} & {alias.name for alias in node.names}
            else:
                continue
            found += [f"{name}:{node.lineno}: {escape}" for escape in escapes]
    assert found == []


def test_nothing_is_handed_to_renderers_that_typeset() -> None:
    """Markdown and LaTeX outputs, and the widgets whose texts Jupyter typesets."""
    found = []
    names = {"HTML", "HTMLMath", "Label", "Latex", "Markdown", "Math", "IFrame", "Javascript"}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ("engine", "sandbox"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in names:
                    found.append(f"{path.name}:{node.lineno}: {called}")
            elif isinstance(node, ast.Constant) and node.value in (
                "text/markdown",
                "text/latex",
                "application/javascript",
            ):
                found.append(f"{path.name}:{node.lineno}: {node.value}")
    assert found == []


def test_the_scripts_call_no_typesetter() -> None:
    root = PACKAGE.parent
    sources = [*PACKAGE.rglob("*.js"), *(root / "labextension" / "src").rglob("*.ts")]
    assert len(sources) > 20
    for path in sources:
        source = path.read_text("utf-8").lower()
        for word in ("typeset(", "latextypesetter", "mathjax.", "katex", "innerhtml", "rendermime"):
            assert word not in source, f"{path.name}: {word}"


@pytest.mark.parametrize("blank", ["\n\n", "\n \t\n", "\n\n\n\n", "\n\u3000\n", "\r\n\r\n"])
def test_nothing_in_an_output_is_markdown_after_nbconvert(blank: str) -> None:
    attack = blank.join(
        ("a", "![x](https://evil.example/x.png)", "# b", "<javascript:x>", "$x$", "[a](vscode:x)")
    )
    record = TurnRecord()
    record.handle(tool_done("bash", "1", input={"command": attack}, output=attack))
    record.handle(thought(attack))
    record.handle(text(f"```text\n{attack}\n```\n\n    {attack}"))
    record.note(attack)
    output = notebook.new_output("display_data", {"text/html": record.html()})
    document = notebook.new_notebook(cells=[notebook.new_code_cell(outputs=[output])])
    exporter: Any = nbconvert.MarkdownExporter  # untyped
    markdown, _ = exporter().from_notebook_node(document)
    tokens = MarkdownIt("commonmark", {"html": True}).parse(markdown)
    assert [token.type for token in tokens if token.type != "fence"] == ["html_block"]
