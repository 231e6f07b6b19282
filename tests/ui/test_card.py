"""Nothing that an agent writes covers a question, wherever it stands."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.jupyter import OpenNotebook
from tests.support.kernels import ROOT
from tests.support.page_probe import COVERED

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from IPython.display import HTML, display
from agent_magics.widgets import TurnWidget
from tests.support.agent_events import *

BAR = r"$\\smash{{\\rlap{{\\raise{{-60em}}{{\\rule{{90em}}{{120em}}}}}}}}$"
FALSE = r"\\(\\bbox[white]{{\\text{{Always allow 'ls'}}}}\\) $$\\kern-50em\\Huge x$$"
TALL = "Z" + "".join(map(chr, range(0x300, 0x370))) * 4
BIDI = "\\u202e\\u2067" * 30 + "wolla" + "\\u2028" * 9
BOX = '<div style="position:fixed;inset:0;z-index:9999;background:red;margin:-900px">x</div>'
ROWS = r"\\begin{{pmatrix}}a\\\\b\\\\c\\\\d\\end{{pmatrix}}"
MATH = f"$${{ROWS}}^{{{{{{ROWS}}}}}}$$"
ATTACK = "\\n\\n".join((BAR, FALSE, TALL, BIDI, BOX, MATH, TALL))

def turn(*events):
    widget = TurnWidget(on_reply=lambda *reply: None)
    display(widget)
    for event in events:
        widget.handle(event)
    widget.flush()
    return widget

def hostile(number):
    one_line = ATTACK.replace("\\n", " ")
    command = {{"command": ATTACK}}
    return (
        text(ATTACK + "\\n\\n", f"text {{number}}"),
        plan((one_line, "pending")),
        tool_runs(call=str(number), title=one_line, input=command),
        tool_prints(ATTACK, call=str(number), title=one_line, input=command),
        thought(ATTACK, f"thought {{number}}"),
        text(TALL + " " + TALL, f"last {{number}}"),
    )

def record():
    widget = turn(*hostile(1), ended())
    display(HTML(widget.record.html()))
"""
CARD = """
pattern = (TALL[:20],)
command = {"command": "rm -r /workspace/old"}
question = asked(metadata=command, patterns=pattern, always=pattern)
widget = turn(*hostile(1), question, *hostile(2))
"""

BOXES = """
const style = one => getComputedStyle(one);
const card = document.querySelector('.agent-ask');
return {
  loose: [...document.querySelectorAll('.agent-turn, .agent-log > *, .agent-buttons > button')]
    .filter(one => style(one).contain !== 'paint').length,
  level: style(card).zIndex,
  ground: style(card).backgroundColor,
};
"""
"""What hit tests do not see: ink beyond a text's box, and what shows through the card."""


def test_every_point_of_a_question_belongs_to_it(notebook: OpenNotebook) -> None:
    page = notebook(SETUP, "record()", CARD, "record()")
    for index in (0, 1, 3, 2):
        page.run(index)
    card = page.output(2).locator(".agent-ask")
    expect(card.get_by_role("button", name="Allow once")).to_be_visible()
    expect(page.output(2).locator(".agent-text")).to_have_count(4)
    expect(page.output(3).locator(".jp-RenderedHTML math").first).to_be_visible()
    assert page.page.locator("mjx-container, .MathJax").count() == 0
    found = page.js(COVERED)
    assert found["covered"] == []
    assert found["points"] > 1_000
    boxes = page.js(BOXES)
    assert (boxes["loose"], boxes["level"]) == (0, "1")
    assert boxes["ground"].startswith("rgb(")  # opaque
