"""A turn in the background, in a real JupyterLab: its buttons work whatever else goes on."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.jupyter import JupyterServer, OpenNotebook
from tests.support.scripted_model import StartModel
from tests.ui.test_turns import LOAD, bash, say, scenario

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.container]

BUSY = """import pathlib, time
while not pathlib.Path("go").exists():
    time.sleep(0.01)
print("over")"""


def test_its_permissions_are_clicked_while_idle_and_beside_a_running_cell(
    notebook: OpenNotebook, llm: StartModel, server: JupyterServer
) -> None:
    turns = (bash("echo first-$((6*7))"), bash("echo second-$((7*7))"), say("All **done**."))
    model = llm({"ask": scenario("uname", *turns)})
    page = notebook(LOAD, "%%agent -b\nrun uname", BUSY, "%agent_wait", environ=model.environ)
    page.run(0)
    page.run(1)  # returns at once
    output = page.output(1)
    allow = output.get_by_role("button", name="Allow once")
    expect(output).to_contain_text("echo first-$((6*7))")
    allow.click()
    expect(output).to_contain_text("first-42")
    expect(output).to_contain_text("echo second-$((7*7))")
    page.run(2, wait=False)
    expect(page.cell(2).locator(".jp-InputPrompt")).to_contain_text("*")
    expect(allow).to_have_count(1)
    allow.click()
    expect(output.locator("strong", has_text="done")).to_be_visible()
    expect(output).to_contain_text("second-49")
    assert page.is_running(2)
    (server.notebooks / "go").touch()
    page.wait_done(2)
    expect(page.output(2)).to_contain_text("over")
    expect(page.output(2)).to_contain_text("The agent's turn in In[2] has ended: completed")
    assert page.dialogs == []
