"""
Payloads in real pages: live, saved, reopened without trust and kernel, nbconvert, export.

`tests/attacks/test_payloads.py` tries each of them alone in everything that needs no browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbconvert
import nbformat
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from agent_magics.notebook._manage import _export
from tests.attacks.payloads import PAYLOADS, cells, layers
from tests.support.canary import Canary
from tests.support.jupyter import NotebookPage, OpenNotebook, Reopen
from tests.support.page_probe import COVERED, Watch
from tests.support.turn_script import ORIGIN, Script

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

LOAD = """
from tests.support import fake_session
from tests.attacks.payloads import cells
from IPython.display import Math
fake_session.install(get_ipython(), cells.attack({url!r}))
%load_ext agent_magics
"""
FORMULA = r"Math(r'\frac{1}{2} + \sqrt{\alpha} \begin{matrix} a & b \end{matrix}')"
"""The user's own, above and below of what the agent wrote."""
ALL = r"""
url = {url!r}
cells.show_records(url); cells.show_tables(url); cells.show_files(url); cells.show_errors(url)
"""
LIVE, STATIC = 2, 3
REWRITTEN = "noopener"
"""JupyterLab puts this into all links of an output in place of what they said."""
ROOTS = """
indices => indices.flatMap(index => [...document
  .querySelectorAll('.jp-Notebook .jp-Cell')[index]
  .querySelectorAll('.jp-OutputArea-output')])
"""
TYPESET = """
const { latexTypesetter } = panel.content.rendermime;
const boxes = panel.content.widgets[arg].node.querySelectorAll('.jp-OutputArea-output');
for (const box of boxes) {
  await latexTypesetter.typeset(box);
}
"""
"""The page's typesetter has a look at the outputs of a cell, as if they were of its renderers."""


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as canary:
        yield canary


def formula(page: NotebookPage, index: int) -> str:
    """What the page's typesetter made of the user's formula; it can be seen and touched."""
    made = page.output(index).locator("mjx-container").first
    expect(made).to_be_attached()
    html: str = made.evaluate(
        """async made => {
          let box;
          do {  // the page may still grow above of it
            made.scrollIntoView({ block: 'center' });
            await new Promise(requestAnimationFrame);
            box = made.getBoundingClientRect();
          } while (box.top < 0 || box.bottom > innerHeight);
          const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
          return made.contains(top) || top.contains(made) ? made.innerHTML : 'covered';
        }"""
    )
    return re.sub(r'(id|aria-\w+|data-\w[\w-]*)="[^"]*"', "", html)


@pytest.mark.kernel
@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_payloads_are_inert_in_a_notebook(
    notebook: OpenNotebook,
    reopen: Reopen,
    browser_context: BrowserContext,
    canary: Canary,
    app: str,
    tmp_path: Path,
) -> None:
    all_of_them = ALL.format(url=canary.url)
    page = notebook(
        LOAD.format(url=canary.url), FORMULA, "%agent go", all_of_them, FORMULA, app=app
    )
    watch = Watch(page.page, canary)
    page.run(0)
    page.run(1)
    before = formula(page, 1)
    page.run(LIVE, wait=False)
    allow = page.output(LIVE).locator("[data-reply=once]")
    expect(allow).to_have_count(1, timeout=120_000)
    found = page.js(COVERED)
    assert found["covered"] == []
    assert found["points"] > 1_000
    page.js(TYPESET, LIVE)
    assert watch.problems(ROOTS, [LIVE], ignored=".agent-turn.mathjax_ignore") == []
    allow.click()
    page.wait_done(LIVE, timeout=120)
    expect(page.output(LIVE)).to_contain_text(f"{cells.END} once", timeout=120_000)
    page.run(STATIC, timeout=120)
    page.run(4)
    page.js(TYPESET, STATIC)
    assert watch.problems(ROOTS, [LIVE, STATIC], rel=REWRITTEN) == []
    assert formula(page, 1) == formula(page, 4) == before

    saved = reopen(page)
    again = Watch(saved.page, canary)
    expect(saved.output(LIVE)).to_contain_text(f"{cells.END} once", timeout=120_000)
    assert formula(saved, 1) == formula(saved, 4) == before
    assert again.problems(ROOTS, [LIVE, STATIC], rel=REWRITTEN) == []

    document = nbformat.read(saved.server.notebooks / saved.name, as_version=4)
    outputs = [output for cell in document.cells for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert not kinds & {"text/markdown", "application/javascript", "image/svg+xml"}
    assert "Too large for the saved notebook" not in str(document)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(document)
    boxes = "() => [...document.querySelectorAll('.jp-OutputArea-output')].slice(1, -1)"
    assert problems_of(html, boxes, browser_context, canary, tmp_path) == []


def test_payloads_are_inert_in_an_export(
    browser_context: BrowserContext, canary: Canary, tmp_path: Path
) -> None:
    messages = []
    for payload in PAYLOADS:
        info, some = layers._conversation(payload.at(canary.url))
        messages += some
    body = "() => [document.body]"
    html = _export._html(info, messages)
    assert problems_of(html, body, browser_context, canary, tmp_path) == []
    read = layers._READER.render(_export._markdown(info, messages))
    read = f"<!doctype html><meta charset=utf-8>{read}"
    # Markdown has no words for what a link may tell
    assert problems_of(read, body, browser_context, canary, tmp_path, rel="") == []


def problems_of(
    html: str,
    roots: str,
    context: BrowserContext,
    canary: Canary,
    folder: Path,
    *,
    rel: str = "noopener noreferrer",
) -> list[str]:
    """What is wrong with a page that is opened from a file."""
    file = folder / "page.html"
    file.write_text(html, "utf-8", "replace")
    page = context.new_page()
    # it may ask for what nbconvert loads from elsewhere, which tests have not
    page.route(re.compile(r"^https?://(?!127\.)"), lambda route: route.abort())
    watch = Watch(page, canary)
    try:
        page.goto(file.as_uri())
        return watch.problems(roots, rel=rel)
    finally:
        page.close()


def test_payloads_are_inert_in_the_script_of_a_turn(
    browser_context: BrowserContext, canary: Canary
) -> None:
    page: Page = browser_context.new_page()
    watch = Watch(page, canary)
    script = Script(page)
    for payload in PAYLOADS:
        for event in cells.events(payload.at(canary.url), payload.id):
            script.record.handle(event)
    script.receive(script.writer.changes())
    assert script.errors == []
    assert [url for url in script.foreign if not url.startswith(ORIGIN)] == []
    assert page.evaluate("() => window.typeset") == []
    roots = "() => [...document.querySelectorAll('main section')]"
    assert watch.problems(roots, ignored=".agent-turn.mathjax_ignore") == []
    page.close()
