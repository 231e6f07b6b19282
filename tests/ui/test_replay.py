"""A recorded turn, step by step under a person's fingers, and the cell that it proposes."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from agent_magics.notebook._replay._recording import Entry, Recording, write_recording
from agent_magics.wire import SendResult, SessionInfo, TextDelta, TextPart, TurnEnded
from tests.support.jupyter import JupyterServer, OpenNotebook

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

CODE = "Divide by two:\n\n```python\nprint(1 / 2)\n```\n"


def test_steps_and_the_next_cell(notebook: OpenNotebook, server: JupyterServer) -> None:
    texts = ("It divides by zero.\n\n", CODE)
    parts = tuple(TextPart(f"prt_{n}", "msg_1", "ses_1", text) for n, text in enumerate(texts))
    ended = TurnEnded("completed", SendResult("msg_1", "".join(texts), parts))
    entries = [Entry(0, TextDelta(part.text, part.id)) for part in parts]
    recording = Recording("Why?", SessionInfo("ses_1", "T"), (*entries, Entry(0, ended)))
    write_recording(server.notebooks / "turn.jsonl", recording)
    cells = ("%load_ext agent_magics", "%agent --replay turn.jsonl --speed 0 --step --code")
    page = notebook(*cells, name="replay.ipynb")
    page.run(0)
    page.run(1, wait=False)
    output = page.output(1)

    step = output.get_by_role("button", name="Next step")
    step.click()
    expect(output).to_contain_text("It divides by zero.")
    expect(output).not_to_contain_text("Divide by two")
    step.click()
    page.wait_done(1)
    expect(output).to_contain_text("print(1 / 2)")
    expect(step).to_have_count(0)
    expect(page.cell(2).locator(".cm-content")).to_have_text("print(1 / 2)")
    expect(page.cell(2).locator(".jp-InputPrompt")).to_have_text("[ ]:")
