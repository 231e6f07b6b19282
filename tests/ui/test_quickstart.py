"""The first thing a person does: the quickstart by hand, with the built-in demo model."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import expect

from tests.support.jupyter import JupyterServer, OpenNotebook
from tests.support.kernels import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.container]

PENGUINS = ROOT / "notebooks" / "data" / "penguins.csv"
PUT = """
from pathlib import Path
import agent_magics

session = agent_magics.current_session()
session.put_file("/workspace/penguins.csv", Path("penguins.csv"))
"""
TASK = """%%agent
Look at penguins.csv in /workspace, plan the steps, compute mean body mass
per species, save a bar chart as /workspace/mass.png"""


def test_quickstart_by_hand(notebook: OpenNotebook, server: JupyterServer) -> None:
    shutil.copy(PENGUINS, server.notebooks)
    cells = ("%load_ext agent_magics", PUT.strip(), TASK, "%agent_shell ls -l /workspace")
    page = notebook(*cells, name="penguins.ipynb")
    page.page.set_viewport_size({"width": 920, "height": 1060})
    page.js("app.commands.execute('application:toggle-left-area');")
    page.run(0)
    page.run(1)
    page.run(2, wait=False)
    output = page.output(2)

    expect(output).to_contain_text("demo model")
    output.get_by_role("button", name="Allow once").click()
    # the second command waits for its answer: everything live is on the screen
    always = output.get_by_role("button", name="Always allow")
    expect(always).to_have_count(1)
    expect(output).to_contain_text("python3 demo_penguins.py")
    always.click()

    page.wait_done(2, timeout=90)
    expect(output).to_contain_text("3,700.66")
    chart = output.locator("img").first
    expect(chart).to_be_visible()
    assert chart.evaluate("image => image.naturalWidth") > 200
    expect(output.get_by_role("button", name="Allow once")).to_have_count(0)
    page.run(3)
    expect(page.output(3)).to_contain_text("mass.png")
