"""
All payloads in real pages: live, saved, reopened without trust and kernel, nbconvert, export.

`tests/attacks/test_payloads.py` tries each of them alone in everything that needs no browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbconvert
import nbformat
import pytest
from playwright.sync_api import Page, expect

from agent_magics.notebook._manage import _export
from tests.attacks.payloads import PAYLOADS, layers
from tests.attacks.payloads.cells import END
from tests.support.canary import Canary
from tests.support.jupyter import NotebookPage, OpenNotebook, Reopen

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.timeout(600)]

LOAD = """
from tests.support import fake_session
from tests.attacks.payloads import cells
from IPython.display import Math
import logging
logging.getLogger("agent_magics").setLevel("CRITICAL")  # the fake has no list of sessions
fake_session.install(get_ipython(), cells.attack({url!r}))
%load_ext agent_magics
"""
FORMULA = r"Math(r'\frac{1}{2} + \sqrt{\alpha} \begin{matrix} a & b \end{matrix}')"
"""The user's own, above and below of what the agent wrote."""
OURS = [2, 3, 4, 5]
"""The cells with payloads."""

INSPECT = """
({roots, everything}) => {
  const found = [];
  const forbidden = 'script,iframe,frame,object,embed,applet,form,link,style,meta,base,video,' +
    'audio,source,track,svg,image,canvas,dialog,template,slot,textarea,select,marquee,portal,' +
    'mjx-container,.MathJax,.MathJax_Display,.katex,mglyph,maction,annotation-xml,semantics';
  const own = 'button[class^=agent-],input[class^=agent-]';
  for (const root of roots) {
    for (const bad of root.querySelectorAll(forbidden)) {
      found.push(`element ${bad.outerHTML.slice(0, 150)}`);
    }
    for (const bad of root.querySelectorAll('button,input')) {
      if (!bad.matches(own) && !bad.closest('.agent-turn')) {
        found.push(`control ${bad.outerHTML.slice(0, 150)}`);
      }
    }
    for (const each of root.querySelectorAll('*')) {
      for (const {name, value} of each.attributes) {
        if (name.startsWith('on') || name.startsWith('data-commandlinker') ||
            (name === 'style' &&
              /url\\(|image-set|expression|position|transform|z-index/.test(value))) {
          found.push(`${each.tagName} ${name}=${value.slice(0, 100)}`);
        }
        if (name === 'id' && /^(jupyterapp|main|MathJax|__pwned|f|p)$/.test(value)) {
          found.push(`id ${value}`);
        }
        if (/^(src|srcset|poster|background|action|formaction|data|xlink:href)$/.test(name) &&
            !/^data:image\\/(png|jpeg|gif|webp|svg\\+xml);base64,/.test(value)) {
          found.push(`${each.tagName} ${name}=${value.slice(0, 100)}`);
        }
      }
    }
    for (const link of root.querySelectorAll('a')) {
      const address = link.getAttribute('href');
      if (address !== null && (!/^(https?:\\/\\/|mailto:)/i.test(address) ||
          !(link.rel.includes('noopener')))) {
        found.push(`link ${link.outerHTML.slice(0, 150)}`);
      }
    }
  }
  if (everything) {  // nothing of the page around it has changed, either
    for (const bad of document.querySelectorAll('#jupyterapp,[name=jupyterapp],[name=__pwned]')) {
      found.push(`page ${bad.outerHTML.slice(0, 100)}`);
    }
  }
  if (window.__pwned !== undefined) {
    found.push('a script ran');
  }
  return found;
}
"""
FORMULAS = """
roots => {
  // as MathJax joins texts, without its classes to ignore an element
  const found = [];
  const skipped = /^(SCRIPT|NOSCRIPT|STYLE|TEXTAREA|PRE|CODE|ANNOTATION|SELECT|OPTION)$/i;
  const formula = /\\$[^]*\\$|\\\\[([$]|\\\\begin\\s*\\{|\\\\(eq|page)?ref\\s*\\{/;
  function walk(node) {
    let text = '';
    const end = () => {
      const match = text.match(formula);
      if (match) {
        found.push(match[0].slice(0, 80));
      }
      text = '';
    };
    for (const child of node.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) {
        text += child.data;
      } else if (child.nodeType === Node.ELEMENT_NODE && !/^W?BR$/.test(child.tagName)) {
        end();
        if (!skipped.test(child.tagName)) {
          walk(child);
        }
      }
    }
    end();
  }
  roots.forEach(walk);
  return found;
}
"""
REACHES_OUT = """
({roots, strict}) => {
  // what a person sees outside of our boxes must not be ours
  const found = [];
  const boxes = roots.map(root => root.getBoundingClientRect());
  for (const [i, root] of roots.entries()) {
    for (const box of root.querySelectorAll('.agent-turn, .mathjax_ignore')) {
      const style = getComputedStyle(box);
      if (strict && !/paint|strict|content/.test(style.contain) &&
          !/hidden|clip|auto/.test(style.overflowX)) {
        found.push(`not clipped: ${box.className}`);
      }
    }
  }
  for (let x = 4; x < innerWidth; x += 24) {
    for (let y = 4; y < innerHeight; y += 24) {
      const top = document.elementFromPoint(x, y);
      const index = roots.findIndex(root => root.contains(top));
      const box = boxes[index];
      if (box && (x < box.left - 1 || x > box.right + 1 || y < box.top - 1 || y > box.bottom + 1)) {
        found.push(`${x},${y}: ${top.outerHTML.slice(0, 100)}`);
      }
    }
  }
  return found;
}
"""
ROOTS = """
indices => indices.flatMap(index => [...document
  .querySelectorAll('.jp-Notebook .jp-Cell')[index]
  .querySelectorAll('.jp-OutputArea-output')])
"""


class Watch:
    """Listens to a page, and to the server that must not be asked."""

    def __init__(self, page: Page, canary: Canary) -> None:
        self.page = page
        self.canary = canary
        self.noted: list[str] = []
        page.on("dialog", lambda dialog: self.noted.append(f"dialog {dialog.message}"))
        page.on("popup", lambda popup: self.noted.append(f"popup {popup.url}"))
        page.on("download", lambda download: self.noted.append(f"download {download.url}"))
        page.on("pageerror", lambda error: self.noted.append(f"error {error}"))
        page.on("console", self._console)

    def _console(self, message: object) -> None:
        text = str(getattr(message, "text", ""))
        if re.search(
            r"Content Security Policy|__pwned|127\.0\.0\.1:(?!\d+/(api|lab|static))", text
        ):
            self.noted.append(f"console {text[:200]}")

    def assert_inert(self, roots: str, *arguments: object, typeset: bool) -> None:
        """`roots`: a function of the page that finds our outputs. `typeset`: the page does so."""
        found = self.page.evaluate_handle(roots, *arguments)
        values = {"roots": found, "everything": True}
        assert self.page.evaluate(INSPECT, values) == []
        if not typeset:
            assert self.page.evaluate(FORMULAS, found) == []
        assert self.page.evaluate(REACHES_OUT, {"roots": found, "strict": True}) == []
        assert self.noted == []
        assert self.canary.hits == []


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as canary:
        yield canary


def formula(page: NotebookPage, index: int) -> str:
    """What the page's typesetter made of the user's formula; it can be seen and touched."""
    made = page.output(index).locator("mjx-container").first
    expect(made).to_be_attached()
    made.scroll_into_view_if_needed()
    html = made.evaluate(
        """made => {
          const box = made.getBoundingClientRect();
          const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
          return made.contains(top) || top.contains(made) ? made.innerHTML : 'covered';
        }"""
    )
    return re.sub(r'(id|aria-\w+|data-\w[\w-]*)="[^"]*"', "", html)


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_all_payloads_are_inert(
    notebook: OpenNotebook, reopen: Reopen, canary: Canary, app: str, tmp_path: Path
) -> None:
    page = notebook(
        LOAD.format(url=canary.url),
        FORMULA,
        "%agent go",
        f"cells.show_tables({canary.url!r})",
        f"cells.show_files({canary.url!r})",
        f"cells.show_errors({canary.url!r})",
        FORMULA,
        app=app,
    )
    watch = Watch(page.page, canary)
    for index in (0, 1):
        page.run(index)
    before = formula(page, 1)
    page.run(2, wait=False)
    allow = page.output(2).locator("[data-reply=once]")
    expect(allow).to_have_count(1, timeout=120_000)
    watch.assert_inert(ROOTS, [2], typeset=False)
    allow.click()
    page.wait_done(2, timeout=120)
    expect(page.output(2)).to_contain_text(f"{END} once", timeout=120_000)
    for index in (3, 4, 5, 6):
        page.run(index, timeout=120)
    watch.assert_inert(ROOTS, OURS, typeset=False)
    assert formula(page, 1) == formula(page, 6) == before

    saved = reopen(page)
    again = Watch(saved.page, canary)
    expect(saved.output(2)).to_contain_text(f"{END} once", timeout=120_000)
    assert formula(saved, 1) == formula(saved, 6) == before
    again.assert_inert(ROOTS, OURS, typeset=False)

    document = nbformat.from_dict(saved.server.read(saved.name))
    kinds = {
        kind
        for cell in document.cells
        for output in cell.outputs
        for kind in output.get("data", ())
    }
    assert not kinds & {"text/markdown", "application/javascript", "image/svg+xml"}
    assert "Too large for the saved notebook" not in str(document)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(document)
    exported = tmp_path / "nbconvert.html"
    exported.write_text(html, "utf-8")
    assert_pages_inert(saved.page, canary, exported, tmp_path)


def assert_pages_inert(page: Page, canary: Canary, converted: Path, folder: Path) -> None:
    """What nbconvert made, and exports of a session that holds all payloads."""
    messages = []
    for payload in PAYLOADS:
        info, some = layers._conversation(payload.at(canary.url))
        messages += some
    export = folder / "export.html"
    export.write_text(_export._html(info, messages), "utf-8", "replace")
    markdown = folder / "markdown.html"
    markdown.write_text(
        "<!doctype html><meta charset=utf-8>"
        + layers._READER.render(_export._markdown(info, messages)),
        "utf-8",
        "replace",
    )
    page.context.route(re.compile(r"^https?://(?!127\.)"), lambda route: route.abort())
    outputs = "() => [...document.querySelectorAll('.jp-OutputArea-output')].slice(1, -1)"
    body = "() => [document.body]"
    try:
        for path, roots in ((converted, outputs), (export, body), (markdown, body)):
            other = page.context.new_page()
            watch = Watch(other, canary)
            other.goto(path.as_uri())
            if path == markdown:
                assert other.evaluate(FORMULAS, other.evaluate_handle(roots)) == []
                assert other.evaluate("window.__pwned") is None
                assert (watch.noted, canary.hits) == ([], [])
            else:
                watch.assert_inert(roots, typeset=False)
            other.close()
    finally:
        page.context.unroute(re.compile(r"^https?://(?!127\.)"))
