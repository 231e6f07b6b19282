"""Real JupyterLab and Notebook 7 in real Chromium: the server, and a notebook in a page."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from playwright.sync_api import BrowserContext, Dialog, Locator, Page

from tests.support.kernels import ROOT

BUNDLE = ROOT / "labextension" / "dist"
"""The JupyterLab extension as it was built from this tree, if it was."""

CHROMIUM_ARGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

READY = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const context = panel?.sessionContext;
  const kernel = context?.session?.kernel;
  return !!(panel?.content?.widgets && context?.isReady && kernel
    && kernel.connectionStatus === 'connected' && kernel.status === 'idle');
}"""
LOADED = "() => !!window.jupyterapp?.shell?.currentWidget?.context?.isReady"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class JupyterServer:
    """
    One server for JupyterLab (`/lab`) and Notebook 7 (`/notebooks`), all its files in `home`.

    `policy` is its Content-Security-Policy, if not Jupyter's own.
    """

    def __init__(self, home: Path, policy: str = "") -> None:
        self.home = home
        self.policy = policy
        self.notebooks = home / "notebooks"
        self.kernels = home / "share" / "kernels"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self, *, patience: float = 90.0) -> None:
        self.notebooks.mkdir(parents=True)
        self.kernels.mkdir(parents=True)
        settings = self._write_settings()
        if BUNDLE.is_dir():
            shutil.copytree(BUNDLE, self.home / "share" / "labextensions" / "agent-magics")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environ = {
            **os.environ,
            "JUPYTER_PATH": str(self.home / "share"),
            "JUPYTER_CONFIG_DIR": str(self.home / "config"),
            "JUPYTER_DATA_DIR": str(self.home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.home / "workspaces"),
            "IPYTHONDIR": str(self.home / "ipython"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        self._log = (self.home / "server.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
                *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
                *("--IdentityProvider.token=", "--ServerApp.password="),
                "--ServerApp.disable_check_xsrf=True",
                f"--ServerApp.root_dir={self.notebooks}",
                "--LabApp.expose_app_in_browser=True",
                "--JupyterNotebookApp.expose_app_in_browser=True",
                "--LabApp.extension_manager=readonly",
                *self._policy_arguments(),
            ],
            env=environ,
            cwd=self.home,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        end = time.monotonic() + patience
        while True:
            try:
                self.api("/api/status")
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    log = (self.home / "server.log").read_text()[-3000:]
                    raise RuntimeError(f"the Jupyter server did not start:\n{log}") from None
                time.sleep(0.1)

    def api(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            body = reply.read()
        return json.loads(body) if body else None

    def end_sessions(self) -> None:
        """Shut down all kernels, as closing the notebooks for good would."""
        for session in self.api("/api/sessions"):
            with contextlib.suppress(urllib.error.HTTPError):
                self.api(f"/api/sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                self.end_sessions()
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(5)
        if self._log is not None:
            self._log.close()

    def write(self, name: str, kernel: str, sources: Sequence[str]) -> None:
        cells = [
            {
                "cell_type": "code",
                "id": f"cell{index}",
                "metadata": {},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for index, source in enumerate(sources)
        ]
        spec = {"name": kernel, "display_name": kernel, "language": "python"}
        document = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": spec, "language_info": {"name": "python"}},
            "cells": cells,
        }
        (self.notebooks / name).write_text(json.dumps(document))

    def use_kernel(self, name: str, kernel: str) -> None:
        """Make the saved notebook ask for another kernel."""
        document = self.read(name)
        document["metadata"]["kernelspec"]["name"] = kernel
        (self.notebooks / name).write_text(json.dumps(document))

    def read(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.notebooks / name).read_text())
        return document

    def _policy_arguments(self) -> list[str]:
        if not self.policy:
            return []
        config = {"headers": {"Content-Security-Policy": self.policy}}
        return [f"--ServerApp.tornado_settings={config!r}"]

    def _write_settings(self) -> Path:
        settings = self.home / "settings"
        values: Mapping[str, Mapping[str, object]] = {
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "docmanager-extension/plugin": {"autosave": False},
        }
        for name, value in values.items():
            path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(value))
        return settings


class NotebookPage:
    """
    A notebook in a browser tab, run by the front end's own commands and real mouse clicks.

    `errors` collects uncaught errors of the page, `dialogs` the texts of alerts and the like.
    """

    def __init__(self, context: BrowserContext, server: JupyterServer, name: str, app: str) -> None:
        self.name, self.app = name, app
        self.server = server
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._dialog)

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, *, kernel: bool = True) -> NotebookPage:
        where = f"/lab/tree/{self.name}?reset" if self.app == "lab" else f"/notebooks/{self.name}"
        self.page.goto(self.server.url + where)
        self.wait_ready() if kernel else self.page.wait_for_function(LOADED, timeout=60_000)
        return self

    def reload(self) -> None:
        """Reload the tab; returns when the notebook is drawn again, its kernel may be busy."""
        self.page.reload()
        self.page.wait_for_function(LOADED, timeout=60_000)

    def wait_ready(self) -> None:
        self.page.wait_for_function(READY, timeout=90_000)

    def js(self, body: str, argument: object = None) -> Any:
        """Evaluate statements with `app`, `panel` and `arg` at hand."""
        head = "const app = window.jupyterapp, panel = app.shell.currentWidget;"
        return self.page.evaluate("async (arg) => {" + head + body + "}", argument)

    def run(self, index: int, *, wait: bool = True, timeout: float = 60.0) -> None:
        """Run one cell; with `wait` until it ended."""
        command = "void app.commands.execute('notebook:run-cell');"
        self.js("panel.content.activeCellIndex = arg;" + command, index)
        if wait:
            self.wait_done(index, timeout=timeout)

    def run_all(self) -> None:
        self.js("void app.commands.execute('notebook:run-all-cells');")

    def wait_done(self, index: int, *, timeout: float = 60.0) -> None:
        self.page.wait_for_function(
            """i => {
              const cell = window.jupyterapp.shell.currentWidget.content.widgets[i];
              const text = cell.node.querySelector('.jp-InputPrompt').textContent;
              return /\\[\\d+\\]/.test(text);
            }""",
            arg=index,
            timeout=timeout * 1000,
        )

    def is_running(self, index: int) -> bool:
        text = self.cell(index).locator(".jp-InputPrompt").first.text_content() or ""
        return "*" in text

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-Cell-outputWrapper")

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """The cell's outputs as the document has them."""
        found: list[dict[str, Any]] = self.js(
            "return panel.content.widgets[arg].model.outputs.toJSON();", index
        )
        return found

    def stop_kernel(self) -> None:
        """The Stop button of the toolbar."""
        self.page.locator('[data-command="notebook:interrupt-kernel"]').first.click()

    def save(self) -> None:
        self.js("await panel.context.save();")

    def close(self) -> None:
        self.page.close(run_before_unload=False)


OpenNotebook = Callable[..., NotebookPage]
Reopen = Callable[[NotebookPage], NotebookPage]
