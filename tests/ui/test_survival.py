"""What a notebook in a real JupyterLab goes on with when its kernel is another one."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.support.jupyter import JupyterServer, NotebookPage, OpenNotebook
from tests.support.scripted_model import StartModel
from tests.ui.test_turns import LOAD, say, scenario

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.container]


def test_a_renamed_notebook_goes_on_with_its_session(
    notebook: OpenNotebook,
    llm: StartModel,
    server: JupyterServer,
    browser_context: BrowserContext,
) -> None:
    model = llm({"hello": scenario("hello", say("Hi."))})
    first = notebook(LOAD, "%agent hello", environ=model.environ)
    first.run(0)
    first.run(1)
    expect(first.output(1)).to_contain_text("Hi.")
    expect(first.output(1)).not_to_contain_text("goes on with its session")
    first.js("await panel.context.rename('renamed.ipynb');")
    first.save()
    first.close()
    server.end_sessions()
    again = NotebookPage(browser_context, server, "renamed.ipynb", "lab")
    try:
        again.open()
        again.run(0)
        again.run(1)
        expect(again.output(1)).to_contain_text("This notebook goes on with its session")
    finally:
        again.close()
    asked = [m["content"] for m in model.log[-1]["body"]["messages"] if m["role"] == "user"]
    assert len(asked) == 2
