"""The `agent-magics` command as a person runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from agent_magics import __version__, cli
from agent_magics.client import Client, EngineStartError
from agent_magics.widgets import MIME
from tests.support.engine_home import EngineHome
from tests.support.kernels import ROOT


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineHome]:
    with EngineHome() as home:
        for name, value in home.environ.items():
            monkeypatch.setenv(name, value)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AGENT_MAGICS_MODEL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        yield home


def notebook_with(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_version_and_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"agent-magics {__version__}\n"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["dance"])
    assert stopped.value.code == 2


@pytest.mark.container
def test_doctor(
    home: EngineHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "[ok] container: bubblewrap: works" in text
    assert "[ok] limits of a container: memory " in text
    assert "[ok] network: none in containers" in text
    assert "[ok] models: default openai/" in text
    assert f"[ok] engine: version {__version__}, protocol 1" in text
    assert "] JupyterLab extension: " in text
    assert "sk-very-secret" not in text


@pytest.mark.container
def test_doctor_says_what_to_do(
    home: EngineHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.root / "config.toml").write_text("modle = 'x'\n")
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "[!!] models: " in text
    assert "modle: unknown key" in text
    assert "next: correct the configuration file" in text
    assert "[!!] engine: " in text


def test_sessions(home: EngineHome, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sessions"]) == 0
    assert capsys.readouterr().out == "No sessions yet.\n"
    with Client() as client:
        session = client.create_session("Penguins")
    assert cli.main(["sessions"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(session.id) and line.endswith("Penguins\n")
    assert cli.main(["sessions", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["id"] == session.id and found["title"] == "Penguins"


HOSTILE = "\x1b]0;title\x07\x1b[2J\u202eevil\u3164\ufe0f\nses_01a22e324e3e000099fced87  forged"


def test_what_others_wrote_steers_no_terminal(
    home: EngineHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client() as client:
        client.create_session(HOSTILE)
    strange = home.data / "sessions" / HOSTILE
    (strange / "workspace").mkdir(parents=True)
    turn = {
        "outcome": "completed",
        "seconds": 1,
        "model": HOSTILE,
        "files": [HOSTILE],
        "tools": [HOSTILE],
        "permissions": [{"reply": "once"}],
        "tokens": {"input": 1, "output": 1},
        "sandbox": {"provider": "bubblewrap", "isolated": True},
    }
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", {MIME: turn})])
    cli._print_turns(nbformat.v4.new_notebook(cells=[cell]))
    assert cli.main(["sessions"]) == 0
    cli._check_engine()
    cli.main(["sessions", "recover", HOSTILE, "no such one " + HOSTILE])
    said = capsys.readouterr()
    for hidden in "\x1b\x07\u202e\u3164\ufe0f":
        assert hidden not in said.out + said.err
    assert "evil" in said.out and "no such one" in said.err
    assert [line for line in said.out.splitlines() if line.startswith("ses_01a22e324e3e")] == []


def test_sessions_are_recovered(home: EngineHome, capsys: pytest.CaptureFixture[str]) -> None:
    """The store is lost: what is on the disk is told, kept and made a session of again."""
    assert cli.main(["sessions", "recover"]) == 1
    assert "or --all" in capsys.readouterr().err
    work = home.data / "sessions/ses_01a22e324e3e000099fced87/workspace"
    work.mkdir(parents=True)
    home.data.chmod(0o700)
    (work / "paper.tex").write_text("months of work")
    (home.data / "engine.db").write_bytes(b"no database" * 1000)
    assert cli.main(["sessions"]) == 0
    text = capsys.readouterr().out
    assert "Workspaces without a session" in text and str(work.parent) in text
    assert "Stores that were kept" in text and "damaged" in text
    cli.main(["doctor"])
    text = capsys.readouterr().out
    assert "[--] workspace without a session: " in text
    assert "next: agent-magics sessions recover ses_01a22e324e3e000099fced87" in text
    assert "[--] damaged store, kept: " in text
    assert cli.main(["sessions", "recover", "ses_unknown"]) == 1
    assert "There is: ses_01a22e324e3e000099fced87." in capsys.readouterr().err
    assert cli.main(["sessions", "recover", "--all"]) == 0
    assert capsys.readouterr().out == "ses_01a22e324e3e000099fced87  Recovered: paper.tex\n"
    assert cli.main(["sessions", "recover", "--all"]) == 0
    assert capsys.readouterr().out == "There is nothing to recover.\n"
    with Client() as client:
        session = client.session("ses_01a22e324e3e000099fced87")
        assert session.get_file("/workspace/paper.tex") == "months of work"


def test_a_newer_store_is_one_sentence_everywhere(
    home: EngineHome, capsys: pytest.CaptureFixture[str]
) -> None:
    home.data.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(home.data / "engine.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (home.data / "engine.db").read_bytes()
    with Client() as client, pytest.raises(EngineStartError) as caught:
        client.list_sessions()
    sentence = str(caught.value)
    assert "newer agent-magics (store version 99" in sentence and "\n" not in sentence
    assert cli.main(["sessions"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert ["store version 99" in line for line in said] == [True], said
    shell = InteractiveShell.instance()
    try:
        shell.run_line_magic("load_ext", "agent_magics")
        assert not shell.run_cell("%%agent\nhello").success
        shown = capsys.readouterr()
        assert "store version 99" in shown.out + shown.err
        assert "Traceback" not in shown.out + shown.err
    finally:
        shell.run_line_magic("unload_ext", "agent_magics")
        InteractiveShell.clear_instance()
    assert (home.data / "engine.db").read_bytes() == before


def test_serve_answers_until_it_is_stopped(home: EngineHome) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_magics.cli", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "AGENT_MAGICS_TOKEN": "of-the-test"},
    )
    try:
        assert process.stdout is not None
        ready: dict[str, Any] = json.loads(process.stdout.readline())
        health = httpx.get(ready["url"] + "/global/health", timeout=30).json()
        assert health["healthy"] and health["version"] == __version__
        assert httpx.get(ready["url"] + "/session", timeout=30).status_code == 401
        with Client(ready["url"], token="of-the-test") as client:
            assert client.list_sessions() == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.kernel
@pytest.mark.container
def test_demo_runs_the_quickstart_without_a_key(
    home: EngineHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "saved" / "quickstart.ipynb"
    assert cli.main(["demo", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "Turn 1: completed" in text
    assert "model: demo/guide" in text
    assert "bash x" in text and "todowrite x" in text
    assert "/workspace/mass.png" in text
    assert str(output) in text
    saved = nbformat.read(output, as_version=4)
    outputs = [output for cell in saved.cells for output in cell.get("outputs", ())]
    shown = json.dumps(outputs)
    assert "3,700.66" in shown and "data:image/png;base64," in shown
    assert "mass.png" in shown and "PNG: True" in shown


@pytest.mark.kernel
def test_demo_keeps_what_a_failing_notebook_did(
    home: EngineHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = notebook_with(tmp_path / "broken.ipynb", "print('before')", "1 / 0")
    assert cli.main(["demo", "--notebook", str(notebook)]) == 1
    captured = capsys.readouterr()
    assert "ZeroDivisionError" in captured.err
    assert "before" in (tmp_path / "out" / "broken.ipynb").read_text()


def test_demo_without_its_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--notebook", str(tmp_path / "none.ipynb")]) == 1
    assert "there is no notebook" in capsys.readouterr().err
