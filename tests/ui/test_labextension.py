"""The JupyterLab extension as it was built from this tree, in JupyterLab and Notebook 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from tests.support.engine_home import EngineHome
from tests.support.jupyter import BUNDLE, JupyterServer, NotebookPage, OpenNotebook
from tests.support.kernels import ROOT, write_kernelspec
from tests.support.scripted_model import StartModel
from tests.ui.test_turns import bash, say, scenario

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.container]

LOAD = "%load_ext agent_magics"
START = 90_000.0  # milliseconds that an engine may take to start on a busy machine
AXE = ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = "echo '<img src=x onerror=alert(1)>' && echo $((6*7))"
PROMPT = "%%agent\n# Plan\n\n```python\nimport os\n```"


@pytest.fixture(autouse=True)
def _bundle() -> None:
    assert BUNDLE.is_dir(), "cd labextension && npm run build"


STRICT = (  # JupyterLab itself needs eval for its settings; nothing of ours does
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:"
)


def show_panel(page: NotebookPage) -> Locator:
    page.js("void app.commands.execute('agent-magics:show-panel');")
    panel = page.page.locator("#agent-magics-panel")
    expect(panel).to_be_visible()
    return panel


def mime(page: NotebookPage, index: int) -> str:
    return str(page.js("return panel.content.widgets[arg].model.mimeType;", index))


def violations(page: NotebookPage, selector: str) -> list[str]:
    """What axe-core finds there, rule by rule."""
    page.page.add_script_tag(path=AXE)
    result: dict[str, Any] = page.page.evaluate("where => axe.run(where)", selector)
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in result["violations"]]


@pytest.mark.parametrize(("app", "kernel"), [("lab", "ipykernel6"), ("notebook", "newest")])
def test_the_panel_answers_while_the_cell_runs_and_after_a_reload(
    notebook: OpenNotebook, llm: StartModel, app: str, kernel: str
) -> None:
    model = llm({"ask": scenario("try", bash(HOSTILE), bash("echo bye"), say("Done."))})
    page = notebook(
        LOAD, "%%agent\ntry it", "_agent.text", app=app, kernel=kernel, environ=model.environ
    )
    page.run(0)
    panel = show_panel(page)
    state = panel.locator(".am-State")
    expect(state).to_have_text("no session")
    page.run(1, wait=False)
    page.run(2, wait=False)

    expect(state).to_have_text("waiting for you", timeout=START)
    expect(panel.locator(".am-Permission")).to_contain_text(HOSTILE)
    toast = page.page.locator(".Toastify__toast")
    expect(toast).to_contain_text("asks to run a command")
    assert page.is_running(1)
    toast.get_by_role("button", name="Allow once").click()
    expect(panel.locator(".am-Permission")).to_contain_text("echo bye")
    expect(page.output(1)).to_contain_text("42")

    page.save()
    page.reload()
    panel = show_panel(page)
    expect(panel.locator(".am-Permission")).to_contain_text("echo bye")
    panel.get_by_role("button", name="Allow once").click()
    expect(state).to_have_text("ready")
    expect(panel.locator(".am-Permission")).to_have_count(0)
    expect(page.page.locator(".Toastify__toast")).to_have_count(0)
    expect(panel.locator(".am-mod-usage")).to_contain_text("Tool calls2")
    assert page.dialogs == []
    assert panel.locator("img").count() == 0


def test_a_page_that_takes_no_scripts_from_blobs(
    browser_context: BrowserContext, home: EngineHome, llm: StartModel, tmp_path: Path
) -> None:
    """The transcript's widget cannot start there; questions and the saved record can."""
    model = llm({"ask": scenario("try", bash("echo $((6*7))"), say("Done."))})
    server = JupyterServer(tmp_path / "jupyter", STRICT)
    try:
        server.start()
        write_kernelspec(server.kernels, "strict", "newest", {**home.environ, **model.environ})
        server.write("strict.ipynb", "strict", [LOAD, "%%agent\ntry it"])
        page = NotebookPage(browser_context, server, "strict.ipynb", "lab").open()
        sent = page.page.request.get(f"{server.url}/lab").headers
        assert sent["content-security-policy"] == STRICT
        page.run(0)
        panel = show_panel(page)
        page.run(1, wait=False)
        permission = panel.locator(".am-Permission")
        expect(permission).to_contain_text("6*7", timeout=START)
        permission.get_by_role("button", name="Allow once").click()
        page.wait_done(1)
        expect(page.output(1)).to_contain_text("42")
        expect(page.output(1)).to_contain_text("Done.")
        page.close()
    finally:
        server.stop()


def test_sessions_files_and_looks(notebook: OpenNotebook, llm: StartModel) -> None:
    slow = {"do": [{"text": "word " * 4000, "delay": 0.01}]}
    model = llm({"slow": scenario("talk", slow)})
    page = notebook(LOAD, "%%agent\ntalk", environ=model.environ)
    page.run(0)
    panel = show_panel(page)
    panel.get_by_role("button", name="New").click()
    page.page.locator(".jp-Dialog input").fill("<b>first</b>")
    page.page.locator(".jp-Dialog button.jp-mod-accept").click()
    chooser = panel.get_by_role("combobox", name="Session of this notebook")
    chosen_title = chooser.locator("option:checked")
    expect(chosen_title).to_have_text("<b>first</b>", timeout=START)

    chosen = [{"name": "in put.txt", "mimeType": "text/plain", "buffer": "grüße".encode()}]
    panel.locator("input[type=file]").set_input_files(chosen)  # type: ignore[arg-type]
    name = panel.get_by_role("button", name="in put.txt", exact=True)
    expect(name).to_be_visible()
    with page.page.expect_download() as download:
        panel.get_by_role("button", name="Download in put.txt").click()
    assert download.value.path().read_bytes() == "grüße".encode()
    notebook_id = page.js("return panel.id;")
    name.click()
    expect(page.page.locator(".am-Viewer pre")).to_have_text("grüße")
    page.js("app.shell.activateById(arg);", notebook_id)

    page.run(1, wait=False)
    status = page.page.locator(".am-StatusItem")
    expect(status).to_have_text("Agent: working")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.js("await app.commands.execute('apputils:change-theme', {theme: arg});", theme)
        assert violations(page, "#agent-magics-panel") == []
    page.js("await app.commands.execute('agent-magics:abort');")
    expect(status).to_have_text("Agent: ready")
    page.wait_done(1)
    panel.get_by_role("button", name="End").click()
    page.page.locator(".jp-Dialog button.jp-mod-warn").click()
    expect(status).to_have_text("Agent: no session")
    assert page.errors == []


def test_prompt_cells_commands_and_the_fix_button(notebook: OpenNotebook, llm: StartModel) -> None:
    model = llm({"fix": scenario("failed", say("Like this:\n```python\n1/1\n```"))})
    page = notebook(PROMPT, "x = 1", LOAD, "1/0", environ=model.environ)
    page.page.wait_for_function(
        "jupyterapp.shell.currentWidget.content.widgets[0].model.mimeType === 'text/x-agent-prompt'"
    )
    page.run(1)  # the kernel has no magics yet, and nothing breaks
    assert mime(page, 1) == "text/x-ipython"
    expect(show_panel(page)).to_contain_text("%load_ext agent_magics")
    expect(page.page.locator(".am-StatusItem")).to_be_hidden()
    keyword = page.cell(0).locator(".cm-line span", has_text="import").first
    expect(keyword).to_have_css("color", "rgb(0, 128, 0)")  # as in any cell of Python

    page.js("panel.content.widgets[1].model.sharedModel.setSource('%%agent\\nhi');")
    assert mime(page, 1) == "text/x-agent-prompt"
    page.js("panel.content.widgets[1].model.sharedModel.setSource('%%agent_shell\\nhi');")
    assert mime(page, 1) == "text/x-ipython"

    page.js("panel.content.activeCellIndex = 1; app.commands.execute('agent-magics:insert-cell');")
    page.page.keyboard.type("ask")
    expect(page.cell(2)).to_contain_text("ask")
    assert page.js("return panel.content.widgets[2].model.sharedModel.source;") == "%%agent\nask"

    page.run(3)
    page.run(4)
    fix = page.output(4).get_by_role("button", name="Fix with the agent")
    fix.click()
    expect(page.cell(6)).to_contain_text("1/1", timeout=START)  # proposed, not run
    sent = model.log[-1]["body"]["messages"][-1]["content"]
    assert "ZeroDivisionError" in str(sent)
    page.js("panel.content.widgets[4].model.clearExecution();")
    expect(fix).to_have_count(0)

    ask = "panel.content.activeCellIndex = 1; app.commands.execute('agent-magics:ask-about-cell');"
    page.js(ask)
    active = "panel.content.activeCell.model.sharedModel"
    source = str(page.js(f"return {active}.source;"))
    assert source.startswith("%%agent --raw\n") and "\n%%agent_shell\nhi\n" in source
    page.js(
        f"{active}.setSource('failed again'); app.commands.execute('agent-magics:run-selection');"
    )
    expect(page.output(3)).to_contain_text("Like this")
    page.wait_done(3)
    assert page.js(f"return {active}.source;") == "%%agent --raw\nfailed again"
    page.js("panel.content.activeCellIndex = 0; app.commands.execute('agent-magics:resume');")
    expect(page.output(1)).to_contain_text("Like this")
    assert page.errors == []
