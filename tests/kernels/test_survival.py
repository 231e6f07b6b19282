"""What a notebook finds again after its kernel was killed in mid-turn: real kernels and engines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.kernels.test_engine import kill_engine
from tests.support.kernel import ROOT, FrontEnd, kernel_pythons, started
from tests.support.turn_widget import TurnCard

pytestmark = [pytest.mark.kernel, pytest.mark.container]

_KERNELS = kernel_pythons()
_ID = "print(__import__('agent_magics').current_session().id)"


@pytest.fixture(params=list(_KERNELS.values()), ids=list(_KERNELS))
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FrontEnd]:
    environment = {
        "AGENT_MAGICS_MODEL": "demo/guide",
        "JPY_SESSION_NAME": str(tmp_path / "work.ipynb"),
        "OPENAI_API_KEY": "",
        "ANTHROPIC_API_KEY": "",
    }
    with started(request.param, tmp_path, environment) as front_end:
        yield front_end
        kill_engine(front_end)


def begin_and_kill(front: FrontEnd) -> str:
    """A turn that asks, in a kernel that dies; the session's id."""
    assert front.run("%load_ext agent_magics") == ""
    session = front.run(_ID)
    front.execute("%%agent\nlook around")
    card = TurnCard(front)
    card.shows()
    card.asked()
    front.kill_and_restart()
    assert front.run("%load_ext agent_magics") == ""
    return session


def finishes(front: FrontEnd, cell: str) -> str:
    """The cell shows the turn from its beginning, and its buttons work; the static record."""
    card = TurnCard(front)
    card.shows()
    card.reply(card.asked(), "once")
    front.until(lambda: front.is_done(cell), what="the end of the turn")
    record = str(front.outputs(cell)[0]["text/plain"])
    assert "I am the built-in demo model" in record and "Python 3." in record
    return record


def test_resume_shows_the_turn_that_went_on(front: FrontEnd) -> None:
    session = begin_and_kill(front)
    said = front.run("%%agent\nsomething else")
    assert "busy with another turn. %agent_session resume shows it" in said
    front.messages.clear()
    finishes(front, front.execute("%agent_session resume"))
    assert front.run(_ID) == session


def test_running_the_cell_again_finds_its_turn(front: FrontEnd) -> None:
    session = begin_and_kill(front)
    assert front.run("%agent_messages") == ""  # looks first: no error, and nothing is begun
    finishes(front, front.execute("%%agent\nlook around"))
    assert front.run(_ID) == session
    asked = "print([m.text for m in s.get_messages() if m.info.role == 'user'])"
    code = f"s = __import__('agent_magics').current_session()\n{asked}"
    assert front.run(code) == "['look around']\n"


def test_vs_code_names_its_notebook_late(front: FrontEnd, tmp_path: Path) -> None:
    """VS Code sets a variable after the kernel has started; there is no such environment."""
    sessions = []
    for name in ("code.ipynb", "code.ipynb", "other.ipynb"):
        if sessions:
            front.kill_and_restart()
        variable = f"__vsc_ipynb_file__ = {str(tmp_path / name)!r}"
        unset = "import os; del os.environ['JPY_SESSION_NAME']"
        assert front.run(f"{unset}\n%load_ext agent_magics\n{variable}") == ""
        sessions.append(front.run(_ID))
    assert sessions[0] == sessions[1] != sessions[2]


def test_a_run_that_a_notebook_starts_is_not_that_notebook(tmp_path: Path) -> None:
    """papermill from a cell inherits the cell's environment, and yet has a session of its own."""
    cell = (
        "from agent_magics.notebook._memory import notebook_path\n"
        "print(repr(notebook_path(get_ipython())))"
    )
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(book, source)
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "-k", "python3", str(source), str(target)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JPY_SESSION_NAME": "/home/me/a.ipynb"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    (output,) = nbformat.read(target, as_version=4).cells[-1].outputs
    assert output.text == "''\n"
