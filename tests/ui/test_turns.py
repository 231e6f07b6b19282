"""What a person meets in a real JupyterLab and Notebook 7 while the agent works."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.jupyter import OpenNotebook, Reopen
from tests.support.scripted_model import StartModel

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.container]

LOAD = "%load_ext agent_magics"
SECONDS = 1000.0


def say(text: str) -> dict[str, Any]:
    return {"do": [{"text": text}]}


def bash(command: str) -> dict[str, Any]:
    return {"do": [{"tool": {"name": "bash", "args": {"command": command}}}]}


def scenario(match: str, *turns: dict[str, Any]) -> dict[str, Any]:
    return {"match": match, "turns": list(turns)}


@pytest.mark.parametrize(
    ("app", "kernel"), [("lab", "newest"), ("lab", "ipykernel6"), ("notebook", "newest")]
)
def test_permission_is_clicked_while_the_cell_runs(
    notebook: OpenNotebook, llm: StartModel, app: str, kernel: str
) -> None:
    model = llm(
        {
            "ask": scenario(
                "uname",
                bash("echo the answer is $((6*7))"),
                say("The command ran in the **container**."),
            )
        }
    )
    page = notebook(
        LOAD,
        "%%agent\nrun uname for me",
        "print('next', _agent.text)",
        app=app,
        kernel=kernel,
        environ=model.environ,
    )
    page.run(0)
    page.run(1, wait=False)
    page.run(2, wait=False)  # queued behind the running cell

    allow = page.output(1).get_by_role("button", name="Allow once")
    expect(allow).to_be_visible()
    expect(page.output(1)).to_contain_text("echo the answer is $((6*7))")
    assert page.is_running(1)
    allow.click()

    page.wait_done(1)
    expect(page.output(1)).to_contain_text("the answer is 42")
    expect(page.output(1).locator("strong", has_text="container")).to_be_visible()
    expect(page.output(1).get_by_role("button", name="Allow once")).to_have_count(0)
    page.wait_done(2)
    expect(page.output(2)).to_contain_text("next The command ran in the **container**.")
    assert page.dialogs == []


def test_a_sub_agents_permission_is_clicked_while_the_cell_runs(
    notebook: OpenNotebook, llm: StartModel
) -> None:
    order = {
        "description": "Count the rows",
        "prompt": "child: count the rows",
        "subagent_type": "general",
    }
    model = llm(
        {
            "child": scenario("^child:", bash("echo rows: $((6*7))"), say("There are 42 rows.")),
            "parent": scenario(
                "ask somebody",
                {
                    "do": [
                        {"text": "I let somebody look."},
                        {"tool": {"name": "task", "args": order}},
                    ]
                },
                say("The **sub-agent** counted them."),
            ),
        }
    )
    cells = (LOAD, "%%agent\nask somebody", "print('next', _agent.text)")
    page = notebook(*cells, environ=model.environ)
    page.run(0)
    page.run(1, wait=False)
    page.run(2, wait=False)  # queued behind the running cell

    allow = page.output(1).get_by_role("button", name="Allow once")
    expect(allow).to_be_visible()
    card = page.output(1).locator(".agent-ask")
    expect(card).to_contain_text("The sub-agent general (Count the rows) asks to run")
    expect(card).to_contain_text("echo rows: $((6*7))")
    assert page.is_running(1)
    allow.click()

    page.wait_done(1)
    expect(allow).to_have_count(0)
    expect(page.output(1).locator("strong", has_text="sub-agent")).to_be_visible()
    page.wait_done(2)
    expect(page.output(2)).to_contain_text("counted them.")
    results = [m for m in model.log[-1]["body"]["messages"] if m["role"] == "tool"]
    assert [m["content"] for m in results] == ["There are 42 rows."]
    child = [entry for entry in model.log if entry["scenario"] == "child"][-1]
    assert "rows: 42" in child["body"]["messages"][-1]["content"]
    assert page.dialogs == []


def test_stop_in_mid_stream(notebook: OpenNotebook, llm: StartModel) -> None:
    endless = {"do": [{"text": {"repeat": "word ", "n": 5000}}], "delay": 0.01}
    model = llm({"endless": scenario("talk", endless), "short": scenario("hello", say("Hi."))})
    page = notebook(LOAD, "%%agent\ntalk on", "%%agent\nhello again", environ=model.environ)
    page.run(0)
    page.run(1, wait=False)
    expect(page.output(1)).to_contain_text("word word word")

    page.stop_kernel()
    page.wait_done(1)
    assert model.wait_outcome("endless") == "client closed"
    expect(page.output(1)).to_contain_text("word word")  # what had arrived is kept
    expect(page.output(1)).to_contain_text(re.compile("abort|stopped|interrupt", re.IGNORECASE))
    page.run(2)
    expect(page.output(2)).to_contain_text("Hi.")


def test_reload_while_a_permission_waits(notebook: OpenNotebook, llm: StartModel) -> None:
    model = llm({"ask": scenario("please", bash("echo after-$((1+1))-reloads"), say("Done."))})
    page = notebook(LOAD, "%%agent\nplease", "print(_agent.text)", environ=model.environ)
    page.run(0)
    page.run(1, wait=False)
    expect(page.output(1).get_by_role("button", name="Allow once")).to_be_visible()
    page.save()

    page.reload()
    again = page.output(1).get_by_role("button", name="Allow once")
    expect(again).to_be_visible(timeout=60 * SECONDS)
    again.click()
    page.wait_ready()
    page.run(2)
    expect(page.output(2)).to_contain_text("Done.")


def test_two_notebooks_at_once(notebook: OpenNotebook, llm: StartModel) -> None:
    model = llm(
        {
            name: scenario(name, bash(f"echo {name} > name; cat name"), say(f"I am {name}."))
            for name in ("ann", "bob")
        }
    )
    pages = {
        name: notebook(LOAD, f"%%agent\n{name}", "%agent_shell cat name", environ=model.environ)
        for name in ("ann", "bob")
    }
    for page in pages.values():
        page.run(0)
        page.run(1, wait=False)
    buttons = {
        name: page.output(1).get_by_role("button", name="Allow once")
        for name, page in pages.items()
    }
    for button in buttons.values():  # both ask at the same time
        expect(button).to_be_visible()
    buttons["bob"].click()
    buttons["ann"].click()
    for name, page in pages.items():
        page.wait_done(1)
        expect(page.output(1)).to_contain_text(f"I am {name}.")
        page.run(2)  # each has its own session and container
        expect(page.output(2)).to_have_text(re.compile(rf"^\s*{name}\s*$"))


def test_run_all_runs_agent_cells_in_order(notebook: OpenNotebook, llm: StartModel) -> None:
    model = llm({str(n): scenario(f"number {n}", say(f"Reply {n}.")) for n in (1, 2, 3)})
    page = notebook(
        LOAD,
        *(f"%%agent --out r{n}\nnumber {n}" for n in (1, 2, 3)),
        "print(r1.text, r2.text, r3.text)",
        environ=model.environ,
    )
    page.run_all()
    page.wait_done(4)
    expect(page.output(4)).to_contain_text("Reply 1. Reply 2. Reply 3.")
    assert [entry["scenario"] for entry in model.log] == ["1", "2", "3"]
    counts = page.js("return panel.content.widgets.map(c => c.model.executionCount);")
    assert counts == [1, 2, 3, 4, 5]


CHART = """python3 - <<'END'
import struct, zlib
def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
rows = b''.join(b'\\0' + bytes([200, 80, 40]) * 40 for _ in range(30))
png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 40, 30, 8, 2, 0, 0, 0))
png += chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
open('/workspace/chart.png', 'wb').write(png)
END"""


def test_saved_notebook_shows_everything_without_a_kernel(
    notebook: OpenNotebook, reopen: Reopen, llm: StartModel
) -> None:
    todos = [
        {"id": "1", "content": "Draw the chart", "status": "completed", "priority": "high"},
        {"id": "2", "content": "Explain it", "status": "in_progress", "priority": "low"},
    ]
    plan = {"do": [{"tool": {"name": "todowrite", "args": {"todos": todos}}}]}
    reply = say("A chart.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n```python\nprint(1)\n```\n")
    model = llm({"chart": scenario("chart", plan, bash(CHART), reply)})
    page = notebook(
        LOAD, "%%agent --permissions once\nmake a chart", "1 + 1", environ=model.environ
    )
    page.run(0)
    page.run(1)
    page.run(2)  # the static record is there once a later cell ran

    def everything(where: Any) -> None:
        expect(where).to_contain_text("A chart.")
        expect(where).to_contain_text("Draw the chart")
        expect(where).to_contain_text("Explain it")
        expect(where).to_contain_text("bash")
        expect(where.locator("td", has_text="2")).to_have_count(1)
        expect(where.locator("pre", has_text="print(1)")).to_have_count(1)
        image = where.locator("img").first
        expect(image).to_be_visible()
        assert image.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [40, 30]

    everything(page.output(1))
    saved = reopen(page)
    everything(saved.output(1))
    expect(saved.output(1)).not_to_contain_text("Error displaying widget")
