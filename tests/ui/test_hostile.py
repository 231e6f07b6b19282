"""Whatever the agent writes stays text: live, in the saved notebook and after reopening it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.support.canary import Canary
from tests.support.jupyter import NotebookPage, OpenNotebook, Reopen
from tests.support.scripted_model import StartModel

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.container]

ATTACKS = """
<img src="{url}/img" onerror="window.__xss=1">
<script>window.__xss=1</script><script src="{url}/script"></script>
<svg onload="window.__xss=1"><style>@import "{url}/css"; body {{display: none}}</style>
<details open ontoggle="window.__xss=1"><summary>x</summary></details>
<iframe srcdoc="<script>parent.__xss=1</script>"></iframe><iframe src="{url}/frame"></iframe>
<video src="{url}/video" autoplay></video><object data="{url}/object"></object>
<link rel="stylesheet" href="{url}/link">
<form action="{url}/form"><button>Allow once</button></form>
<div style="position:fixed;inset:0;background:url({url}/background)">overlay</div>
![image]({url}/markdown-image) <{url}/auto>
[link](javascript:window.__xss=1) [data](data:text/html,<script>window.__xss=1</script>)
[ref]: javascript:window.__xss=1
[click me][ref] $\\href{{javascript:window.__xss=1}}{{x}}$
"""


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as canary:
        yield canary


def assert_unharmed(page: NotebookPage, canary: Canary, index: int) -> None:
    assert page.js("return window.__xss ?? null;") is None
    assert page.dialogs == []
    assert canary.hits == []
    output = page.output(index)
    for tag in ("script", "iframe", "object", "video", "form", "link", "style"):
        assert output.locator(tag).count() == 0, tag
    assert output.locator(f'[src*="{canary.url}"]').count() == 0
    assert output.locator('[href^="javascript:" i]').count() == 0
    expect(output).to_be_visible()


def test_hostile_output_is_inert(
    notebook: OpenNotebook, reopen: Reopen, llm: StartModel, canary: Canary
) -> None:
    attack = ATTACKS.format(url=canary.url)
    short = f'<img src="{canary.url}/t" onerror="window.__xss=1"><script>window.__xss=1</script>'
    todos = [{"id": "1", "content": short, "status": "pending", "priority": "high"}]
    command = f"cat <<'END'\n{attack}\nEND\ntouch '/workspace/<img src=x onerror=alert(1)>.txt'"
    path = "/workspace/<img src=x onerror=window.__xss=1>.md"
    model = llm(
        {
            "attack": {
                "match": "attack",
                "turns": [
                    {"do": [{"reasoning": attack}, {"text": attack},
                            {"tool": {"name": "todowrite", "args": {"todos": todos}}}]},
                    {"do": [{"tool": {"name": "write",
                                      "args": {"filePath": path, "content": attack}}}]},
                    {"do": [{"tool": {"name": "bash",
                                      "args": {"command": command, "description": short}}}]},
                    {"do": [{"tool": {"name": short, "args": {"x": attack}}}]},
                    {"do": [{"text": "The end of it.\n\n" + attack}]},
                ],
            }
        }
    )  # fmt: skip
    page = notebook(
        "%load_ext agent_magics",
        "%%agent\nattack",
        "%agent_shell cat /workspace/*.md",
        environ=model.environ,
    )
    page.run(0)
    page.run(1, wait=False)
    allow = page.output(1).locator("button", has_text="Allow once").last
    expect(allow).to_be_visible()
    assert_unharmed(page, canary, 1)  # live, with the permission card
    allow.click()
    page.wait_done(1)
    expect(page.output(1)).to_contain_text("The end of it.")
    page.run(2)
    for index in (1, 2):
        assert_unharmed(page, canary, index)
    page.page.locator("details:not([open]) > summary").evaluate_all(
        "all => all.map(s => s.click())"
    )
    assert_unharmed(page, canary, 1)

    saved = reopen(page)
    assert "The end of it." in json.dumps(saved.server.read(saved.name))
    expect(saved.output(1)).to_contain_text("The end of it.")
    for index in (1, 2):
        assert_unharmed(saved, canary, index)
