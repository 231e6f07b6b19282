"""
Make the pictures of the documentation: `make screenshots` or `python -m tests.screenshots DIR`.

Real turns in a real JupyterLab: the built-in demo model looks at penguins, a scripted one changes
a program. Each is shown in the light and the dark theme, and in a narrow window.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import BrowserContext, Locator, expect, sync_playwright

from tests.benchmarks.browser import chromium
from tests.support.engine_home import EngineHome
from tests.support.jupyter import CHROMIUM_ARGS, JupyterServer, NotebookPage
from tests.support.kernels import ROOT, write_kernelspec
from tests.support.scripted_model import ScriptedModel

WIDE, NARROW, WHOLE, HEIGHT = 920, 420, 1320, 900
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
LARGEST = 150_000
"""Bytes of a picture."""
THEME = "await app.commands.execute('apputils:change-theme', {theme: arg});"

PUT = """
from pathlib import Path
import agent_magics

session = agent_magics.current_session()
session.put_file("/workspace/{0}", Path("{0}"))
"""
LOOK = """%%agent
Look at penguins.csv in /workspace, plan the steps, compute mean body mass
per species, save a bar chart as /workspace/mass.png"""
CHANGE = "%%agent\nThe standard deviation in stats.py is wrong. Correct it and show that it works."

PROGRAM = """import math


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    middle = mean(values)
    return math.sqrt(sum((v - middle) ** 2 for v in values) / len(values))
"""
EDIT = {
    "filePath": "stats.py",
    "oldString": "for v in values) / len(values))",
    "newString": "for v in values) / (len(values) - 1))",
}
CHECK = {
    "command": "python3 -c 'import stats; print(stats.deviation([3.7, 3.8, 5.1]))'",
    "description": "Try the corrected function",
}
REPLY = """The sum was divided by $n$. For a sample it has to be

$$ s = \\sqrt{\\frac{1}{n-1} \\sum_{i=1}^{n} (x_i - \\bar x)^2} $$

| values | before | now | expected |
| --- | ---: | ---: | ---: |
| 3.7, 3.8, 5.1 | 0.638 | 0.781 | 0.781 |

`deviation` now agrees with `statistics.stdev`.
"""


def _tool(name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"do": [{"tool": {"name": name, "args": args}}]}


def _plan(*states: str) -> dict[str, Any]:
    steps = ("Read stats.py", "Correct the divisor", "Try it")
    todos = [
        {"id": str(n), "content": step, "status": state, "priority": "high"}
        for n, (step, state) in enumerate(zip(steps, states, strict=True))
    ]
    return _tool("todowrite", {"todos": todos})


MODEL = {"AGENT_MAGICS_MODEL": "openai/example"}
SCENARIO = {
    "match": "stats.py",
    "turns": [
        _plan("in_progress", "pending", "pending"),
        _tool("read", {"filePath": "stats.py"}),
        _tool("edit", EDIT),
        _plan("completed", "completed", "in_progress"),
        _tool("bash", CHECK),
        _plan("completed", "completed", "completed"),
        {"do": [{"text": REPLY}], "usage": {"input": 4_200, "output": 310}},
    ],
}


class Studio:
    """JupyterLab, and where the pictures go."""

    def __init__(self, context: BrowserContext, server: JupyterServer, target: Path) -> None:
        self.context, self.server, self.target = context, server, target

    @contextmanager
    def notebook(self, name: str, environ: dict[str, str], *cells: str) -> Iterator[NotebookPage]:
        """A notebook with a kernel and an engine of its own."""
        keys = {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": "", "OPENAI_BASE_URL": ""}
        with EngineHome() as home:
            write_kernelspec(self.server.kernels, name, "newest", keys | home.environ | environ)
            self.server.write(f"{name}.ipynb", name, ["%load_ext agent_magics", *cells])
            page = NotebookPage(self.context, self.server, f"{name}.ipynb", "lab")
            try:
                page.open()
                page.js("app.commands.execute('application:toggle-left-area');")
                page.run(0)
                yield page
            finally:
                page.close()
                self.server.end_sessions()

    def take(self, page: NotebookPage, name: str, what: Locator, looks: str, place: str) -> None:
        """
        Pictures with `what` at the `place`, start or end, of the page.

        `looks`: the themes, and "narrow" for the light one in a narrow window.
        """
        for look in looks.split():
            width = NARROW if look == "narrow" else WIDE
            page.page.set_viewport_size({"width": width, "height": HEIGHT})
            _paint(page, THEMES.get(look, THEMES["light"]))
            what.evaluate("(element, block) => element.scrollIntoView({ block })", place)
            suffix = "" if look == "light" else f"-{look}"
            self._save(name + suffix, page.page.locator(".jp-NotebookPanel").screenshot())
        page.js(THEME, THEMES["light"])
        page.page.set_viewport_size({"width": WIDE, "height": HEIGHT})

    def take_whole(self, page: NotebookPage, name: str, what: Locator) -> None:
        """Pictures of the whole application, light and dark, with `what` in sight."""
        page.page.set_viewport_size({"width": WHOLE, "height": HEIGHT})
        for look, theme in THEMES.items():
            _paint(page, theme)
            what.evaluate("element => element.scrollIntoView({ block: 'end' })")
            self._save(name if look == "light" else f"{name}-{look}", page.page.screenshot())
        page.js(THEME, THEMES["light"])
        page.page.set_viewport_size({"width": WIDE, "height": HEIGHT})

    def _save(self, name: str, png: bytes) -> None:
        path = self.target / f"{name}.png"
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        size = path.stat().st_size
        print(f"{path}  {picture.width}x{picture.height}  {size // 1000} kB")
        assert size < LARGEST, f"{path} has {size} bytes"


def _paint(page: NotebookPage, theme: str) -> None:
    page.js(THEME, theme)
    page.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=theme)
    expect(page.page.locator("#jupyterlab-splash")).to_have_count(0)


def penguins(studio: Studio) -> None:
    """The question before a command, then the finished turn with its chart."""
    shutil.copy(ROOT / "notebooks" / "data" / "penguins.csv", studio.server.notebooks)
    with studio.notebook("penguins", {}, PUT.strip().format("penguins.csv"), LOOK) as page:
        page.run(1)
        page.run(2, wait=False)
        output = page.output(2)
        output.get_by_role("button", name="Allow once").click()
        always = output.get_by_role("button", name="Always allow")
        expect(always).to_have_count(1)
        expect(output).to_contain_text("python3 demo_penguins.py")
        card = output.locator(".agent-ask")
        studio.take(page, "permission", card, "light dark narrow", "end")
        page.js("void app.commands.execute('agent-magics:show-panel');")
        expect(page.page.locator("#agent-magics-panel .am-Permission")).to_be_visible()
        studio.take_whole(page, "panel", card)
        page.js("app.commands.execute('application:toggle-right-area');")
        always.click()
        page.wait_done(2, timeout=90)
        chart = output.locator("img").first
        expect(chart).to_be_visible()
        studio.take(page, "chart", output.locator("summary").last, "light dark", "start")


def change(studio: Studio) -> None:
    """A change of a program: its diff, a command with its output, a formula and a table."""
    (studio.server.notebooks / "stats.py").write_text(PROGRAM)
    put = PUT.strip().format("stats.py")
    with (
        ScriptedModel({"change": SCENARIO}) as model,
        studio.notebook("change", model.environ | MODEL, put, CHANGE) as page,
    ):
        page.run(1)
        page.run(2, wait=False)
        output = page.output(2)
        allow = output.get_by_role("button", name="Allow once")
        expect(allow).to_be_visible()
        output.locator("summary", has_text=re.compile("edit.*stats.py")).click()
        studio.take(page, "change", output.locator(".agent-ask"), "light dark narrow", "end")
        allow.click()
        page.wait_done(2)
        expect(output.locator("math")).to_have_count(2)
        studio.take(page, "record", page.cell(2), "light dark narrow", "start")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots")
    parser.add_argument("directory", type=Path, help="where the pictures are put")
    target = parser.parse_args().directory
    target.mkdir(parents=True, exist_ok=True)
    program = chromium()
    if program is None:
        print("no Chromium: .ci/system-packages browser", file=sys.stderr)
        return 1
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = JupyterServer(Path(home) / "jupyter")
        browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_ARGS))
        try:
            server.start()
            studio = Studio(browser.new_context(), server, target)
            penguins(studio)
            change(studio)
        finally:
            browser.close()
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
