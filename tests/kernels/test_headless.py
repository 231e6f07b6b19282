"""Notebooks that run without anybody in front: never a hang, and everything is in the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from agent_magics.widgets import MIME
from tests.support.kernel import ROOT

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of nbclient's own dependencies
]

LOAD = (
    "from tests.support import fake_session\n"
    "fake = fake_session.install(get_ipython(), fake_session.{script})\n"
    "%load_ext agent_magics"
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


def notebook(script: str, *cells: str) -> Any:
    sources = [LOAD.format(script=script), *cells]
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )


def execute(book: Any, **options: Any) -> Any:
    NotebookClient(book, timeout=60, kernel_name="python3", **options).execute()
    nbformat.validate(book)
    return book


def bundles(cell: Any) -> list[dict[str, Any]]:
    return [output.data for output in cell.outputs if output.output_type == "display_data"]


def text_of(cell: Any) -> str:
    return "".join(str(bundle.get("text/plain", "")) for bundle in bundles(cell))


def test_nbclient_saves_a_static_record_and_the_policy_answers() -> None:
    book = execute(notebook("full", "%%agent\nlook", "print(_agent.text.count('reject'))"))
    (bundle,) = bundles(book.cells[1])
    assert set(bundle) == {"text/html", "text/plain", MIME}
    assert "Done." in bundle["text/plain"]
    assert "nobody can be asked here" in bundle["text/plain"]
    assert "Done." in bundle["text/html"]
    assert bundle[MIME]["outcome"] == "completed"
    assert "Done." not in json.dumps(bundle[MIME])
    assert book.cells[2].outputs[0].text == "1\n"
    assert "widgets" not in book.metadata


def test_the_policy_can_be_to_allow() -> None:
    book = execute(
        notebook(
            "full", "%config AgentMagics.headless = 'once'", "%agent look", "print(_agent.text)"
        )
    )
    assert "The answer was once." in book.cells[3].outputs[0].text


def test_cells_run_in_order_and_an_error_stops_the_rest() -> None:
    book = notebook("broken", "%%agent\none", "print('never')")
    with pytest.raises(CellExecutionError) as raised:
        execute(book)
    assert "The model's server answered 500." in str(raised.value)
    error = book.cells[1].outputs[-1]
    assert error.output_type == "error"
    assert error.traceback == ["agent: APIError: The model's server answered 500."]
    assert "It began well" in text_of(book.cells[1])
    assert book.cells[2].outputs == []


def test_usage_errors_stop_the_rest() -> None:
    book = notebook("hello", "%%agent --modle x\none", "print('never')")
    with pytest.raises(CellExecutionError):
        execute(book)
    assert "did you mean --model?" in book.cells[1].outputs[0].text
    assert book.cells[2].outputs == []


def test_papermill(tmp_path: Path) -> None:
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook("full", "%%agent\nlook", "%agent_shell ls"), source)
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "-k", "python3", str(source), str(target)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    book = nbformat.read(target, as_version=4)
    assert "nobody can be asked here" in text_of(book.cells[1])
    printed = {output.name: output.text for output in book.cells[2].outputs}
    assert printed == {"stdout": "out\n", "stderr": "err\n"}
