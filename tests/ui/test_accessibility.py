"""The transcript for everybody: what axe-core finds in it, live and saved, light and dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.jupyter import NotebookPage, OpenNotebook

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

SHOW = """
from IPython.display import HTML, display
from agent_magics.widgets import TurnRecord, TurnWidget
from tests.support import gallery

live = TurnWidget(on_reply=print, answer_within=3600)
saved = TurnRecord()
for shown in (live.record, saved):
    shown.describe("ses_1", "demo/guide", "local", isolated=False)
for event in gallery.turn():
    live.handle(event)
    saved.handle(event)
live.flush()
for event in gallery.end():
    saved.handle(event)
saved.add_image("image/png", gallery.chart(), "mass.png")
display(live)
display(HTML(saved.html()))
"""


def violations(page: NotebookPage, where: str) -> str:
    """axe's report of what it finds below the selector; empty when there is nothing."""
    results = Axe().run(page.page, context=where)
    return results.generate_report() if results.violations_count else ""


def test_axe_finds_nothing(notebook: OpenNotebook) -> None:
    page = notebook(SHOW.strip())
    page.page.set_viewport_size({"width": 1000, "height": 8000})  # only what is seen is looked at
    page.run(0)
    output = page.output(0)
    expect(output.get_by_role("button", name="Allow once")).to_have_count(3)
    expect(output.locator(".agent-turn math")).to_have_count(2)
    page.page.evaluate(
        # JupyterLab's body has no height: axe would take all that is in it for hidden
        "document.body.style.overflow = 'visible';"
        "document.querySelectorAll('.jp-OutputArea-output details').forEach(d => (d.open = true))"
    )
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        page.js("await app.commands.execute('apputils:change-theme', {theme: arg});", theme)
        page.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=theme)
        expect(page.page.locator("#jupyterlab-splash")).to_have_count(0)
        assert not (found := violations(page, ".jp-OutputArea-output")), f"{theme}\n{found}"

    # JupyterLab has shortcuts of its own for the same keys
    allow = output.get_by_role("button", name="Allow once").first
    allow.focus()
    page.page.keyboard.press("Enter")
    expect(output.locator(".agent-delivery").first).to_have_text("Sent.")
    summary = output.locator(".agent-turn summary").first
    summary.focus()
    page.page.keyboard.press("Space")
    expect(output.locator(".agent-turn details").first).not_to_have_attribute("open", "")
