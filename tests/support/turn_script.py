"""The page's half of the turn widget by itself: its script in a browser, fed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route

from agent_magics.widgets import TurnRecord
from agent_magics.widgets._ops import OpWriter
from agent_magics.widgets._script import STATIC, turn_script

ORIGIN = "http://turn.test"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:"
PAGE = """<!doctype html><title>turn</title><link rel="stylesheet" href="/turn.css">
<main></main><script type="module" src="/harness.js"></script>"""
HARNESS = """
import widget from '/turn.js';
const { initialize, render } = widget();
const listeners = [];
window.typeset = [];
const typeset = box => window.typeset.push(box.textContent);
window.MathJax = { typeset, typesetPromise: typeset, Hub: { Queue: typeset } };
const model = {
  widget_manager: { rendermime: { latexTypesetter: { typeset } } },
  get: () => undefined,
  on: (name, listener) => name === 'msg:custom' && listeners.push(listener),
  off: () => {},
  send: message => window.sent.push(message),
};
window.sent = [];
window.receive = message => listeners.forEach(listener => listener(message, []));
window.show = () => {
  const el = document.createElement('section');
  document.querySelector('main').append(el);
  return render({ model, el });
};
initialize({ model });
window.hide = window.show();
"""


class Script:
    """A page that runs the script; `foreign` are the addresses it asked other hosts for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.number = 0
        self.record = TurnRecord()
        self.writer = OpWriter(self.record)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/*", self._serve)
        page.goto(f"{ORIGIN}/")
        page.wait_for_function("() => !!window.hide")

    def _serve(self, route: Route) -> None:
        url = route.request.url
        if not url.startswith(ORIGIN):
            self.foreign.append(url)
            route.abort()
            return
        path = url.removeprefix(ORIGIN)
        kinds = {".js": "text/javascript", ".css": "text/css"}
        kind = kinds.get(Path(path).suffix, "text/html")
        bodies = {"/": PAGE, "/harness.js": HARNESS, "/turn.js": turn_script()}
        body = bodies.get(path)
        route.fulfill(
            body=(STATIC / path[1:]).read_text() if body is None else body,
            content_type=f"{kind}; charset=utf-8",
            headers={"Content-Security-Policy": POLICY},
        )

    def receive(self, ops: list[dict[str, Any]], **more: Any) -> None:
        self.page.evaluate(
            "m => window.receive(m)", {"n": more.pop("n", self.number), "ops": ops, **more}
        )
        self.number += 1

    def follow(self, *events: Any) -> None:
        """Take the events in, one message for each."""
        for event in events:
            self.record.handle(event)
            self.receive(self.writer.changes())

    def sent(self, kind: str) -> list[dict[str, Any]]:
        return [m for m in self.page.evaluate("() => window.sent") if m["kind"] == kind]
