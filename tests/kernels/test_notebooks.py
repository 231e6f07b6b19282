"""The notebooks for readers run from top to bottom, without a key and without anybody in front."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.engine_home import EngineHome
from tests.support.kernels import ROOT

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.container,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of nbclient's own dependencies
]

NOTEBOOKS = ROOT / "notebooks"


def executed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each cell of a notebook shows now, by the cell's id."""
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns("out"))
    book = nbformat.read(folder / name, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    with EngineHome() as home:
        for key, value in home.environ.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        monkeypatch.setenv("AGENT_MAGICS_DEMO_DELAY", "0")
        NotebookClient(
            book,
            timeout=240,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    nbformat.validate(book)
    return {cell.id: _shown(cell) for cell in book.cells if cell.cell_type == "code"}


def _shown(cell: Any) -> str:
    pieces = [
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
    ]
    return "\n".join(pieces)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_is_saved_is_clean(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert "widgets" not in book.metadata
    text = path.read_text()
    assert len(text) < 200_000
    for outputs in (cell.get("outputs", ()) for cell in book.cells):
        assert not [output for output in outputs if output.output_type == "error"]
    for place in ("/root/", "/home/", "/Users/", "/tmp/"):
        assert place not in text


def test_data_science(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = executed("02_data_science.ipynb", tmp_path, monkeypatch)
    assert "Sent along: penguins (" in shown["ask"] and "[image] mass.png" in shown["ask"]
    assert "means.csv\nspecies  rows" in shown["ask"]
    assert "5076.0" in shown["means"]
    assert "Report heaviest: Gentoo" in shown["report"] and "3700.66" in shown["report"]
    assert "| Biscoe | 167 | 214 |" in shown["function"]


def test_teaching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = executed("03_teaching.ipynb", tmp_path, monkeypatch)
    for cell in ("replay", "real-replay"):
        assert "Replay of a turn of" in shown[cell]
        assert "| Gentoo | 123 | 5,076.02 |" in shown[cell] and "[image] mass.png" in shown[cell]
    assert "not what was recorded" not in shown["real-replay"]
    assert {"demo_penguins.py", "mass.png"} <= set(shown["real-files"].split())
    assert "the last event is turn-ended" in shown["recorded"]
    assert "You did not allow me to run Python" in shown["reject"]
    assert "would be taken back" in shown["preview"] and "were taken back" in shown["revert"]
    assert "2 messages and their files are there again" in shown["undo"]


def test_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = executed("04_sessions.ipynb", tmp_path, monkeypatch)
    assert "Adelie" in shown["put"] and "Linux" in shown["put"]
    assert "Error" in shown["network"]
    assert "| Gentoo | 123 | 5,076.02 |" in shown["background"]
    assert "\nTrue " in shown["wait"]
    assert "penguins.csv" not in shown["fork"] and "penguins.csv" in shown["still-there"]
    assert "An experiment" in shown["list"]
    assert "archived" in shown["end"]
