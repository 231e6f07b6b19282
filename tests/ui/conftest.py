"""One Jupyter server and one Chromium for the whole run; notebook, kernel and engine per test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect, sync_playwright

from tests.support.engine_home import EngineHome
from tests.support.jupyter import CHROMIUM_ARGS, JupyterServer, NotebookPage, OpenNotebook, Reopen
from tests.support.kernels import ROOT, write_kernelspec
from tests.support.scripted_model import ScriptedModel, StartModel

expect.set_options(timeout=30_000)

FAILURES = ROOT / ".ui-failures"
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests last: Playwright keeps an event loop running that async tests cannot have."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


def chromium() -> str:
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    pytest.fail("no Chromium: .ci/system-packages browser")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    server = JupyterServer(tmp_path_factory.mktemp("jupyter"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def browser_context() -> Iterator[BrowserContext]:
    """One context: JupyterLab's files stay in its cache."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGS))
        yield browser.new_context(viewport={"width": 1280, "height": 1000})
        browser.close()


@pytest.fixture
def home() -> Iterator[EngineHome]:
    with EngineHome() as home:
        yield home


@pytest.fixture
def llm() -> Iterator[StartModel]:
    """`llm({name: {"match": regex of the prompt, "turns": [...]}})` starts a scripted model."""
    models: list[ScriptedModel] = []

    def start(scenarios: dict[str, Any]) -> ScriptedModel:
        models.append(ScriptedModel(scenarios))
        return models[-1]

    yield start
    for model in models:
        model.close()


@pytest.fixture
def notebook(
    server: JupyterServer,
    browser_context: BrowserContext,
    home: EngineHome,
    request: pytest.FixtureRequest,
) -> Iterator[OpenNotebook]:
    """`notebook(*cells, kernel="newest"|"ipykernel6", app="lab"|"notebook", environ={})`."""
    stem = _stem(request)
    pages: list[NotebookPage] = []

    def open_notebook(
        *cells: str,
        kernel: str = "newest",
        app: str = "lab",
        environ: dict[str, str] | None = None,
        name: str | None = None,
    ) -> NotebookPage:
        number = len(pages)
        spec = f"{stem}-{number}".lower()
        file = name or f"{stem}-{number}.ipynb"
        keys = {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": ""}
        write_kernelspec(server.kernels, spec, kernel, {**keys, **home.environ, **(environ or {})})
        server.write(file, spec, cells)
        page = NotebookPage(browser_context, server, file, app)
        pages.append(page)
        return page.open()

    yield open_notebook

    if request.node.stash.get(FAILED, True):
        _keep(pages, stem)
    for page in pages:
        page.close()
    server.end_sessions()


@pytest.fixture
def reopen(
    server: JupyterServer, browser_context: BrowserContext, request: pytest.FixtureRequest
) -> Iterator[Reopen]:
    """Save a notebook, end its kernel, and open the file in a new tab without any kernel."""
    pages: list[NotebookPage] = []

    def reopen_notebook(live: NotebookPage) -> NotebookPage:
        live.save()
        live.close()
        server.end_sessions()
        server.use_kernel(live.name, "of-another-machine")
        page = NotebookPage(browser_context, server, live.name, live.app)
        pages.append(page)
        page.open(kernel=False)
        page.page.locator(".jp-Dialog button", has_text="No Kernel").click()
        return page

    yield reopen_notebook
    if request.node.stash.get(FAILED, True):
        _keep(pages, _stem(request) + "-reopened")
    for page in pages:
        page.close()


def _stem(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "_", request.node.name).strip("_")


def _keep(pages: list[NotebookPage], stem: str) -> None:
    FAILURES.mkdir(exist_ok=True)
    for number, page in enumerate(pages):
        if page.page.is_closed():
            continue
        page.page.screenshot(path=FAILURES / f"{stem}-{number}.png")
        lines = [*page.errors, *page.dialogs]
        Path(FAILURES / f"{stem}-{number}.txt").write_text("\n".join(lines))
