"""The magics that manage sessions, in a real IPython shell, on a real engine with its container."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.oinspect import getdoc

from agent_magics.client import Client, EngineLauncher, StateDir
from agent_magics.notebook import TurnFailed
from agent_magics.notebook._manage._magics import HOMES
from agent_magics.notebook._manage._options import PARSERS
from agent_magics.notebook._memory import SessionMemory
from agent_magics.notebook._options import TURN_PARSERS
from agent_magics.notebook._session import SessionKeeper
from tests.support.engine_home import EngineHome
from tests.support.waiting import wait_until

pytestmark = pytest.mark.container

ROOT = Path(__file__).resolve().parents[2]
HELLO = "Write a small hello function and a test, and run it"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineLauncher]:
    with EngineHome() as home:
        environ = {"PATH": os.environ["PATH"], "HOME": str(home.root), "PYTHONPATH": str(ROOT)}
        yield EngineLauncher(StateDir(home.state), environ={**environ, **home.environ})


@pytest.fixture
def run(shell: Any, engine: EngineLauncher, tmp_path: Path) -> Iterator[Any]:
    """Runs a line magic and returns what it returns; errors of the cell are raised."""
    keeper = SessionKeeper(lambda connection: Client(launcher=engine))
    shell._agent_magics_keeper = keeper
    shell.extension_manager.load_extension("agent_magics")
    yield lambda line: shell.run_line_magic(*line.partition(" ")[::2])
    if keeper.current is not None:
        keeper.current.end()
    keeper.close()
    shell.extension_manager.unload_extension("agent_magics")


def ids(sessions: list[Any]) -> set[str]:
    return {info.id for info in sessions}


def test_a_session_from_new_to_end(run: Any) -> None:
    with pytest.raises(Exception, match="no session yet"):
        run("agent_session")
    made = run("agent_session new A long title").value
    assert (made.title, made.status, made.isolated) == ("A long title", "idle", True)
    assert run("agent_session").value == made
    assert made.id in ids(run("agent_session list"))
    assert "▸" in run("agent_session list").text()

    assert run("agent_session rename 'Quoted  title'").value.title == "Quoted  title"
    copy = run("agent_session fork Copy").value
    assert copy.title == "Copy" and copy.id != made.id
    assert run("agent_session").value.id == copy.id
    assert run(f"agent_session use {made.id}").value.id == made.id

    assert run(f"agent_session archive {copy.id}").value.archived
    assert copy.id not in ids(run("agent_session list"))
    assert copy.id in ids(run("agent_session list --all"))
    assert not run(f"agent_session archive {copy.id} --undo").value.archived
    run(f"agent_session end {copy.id}")
    assert copy.id not in ids(run("agent_session list --all"))
    assert run("agent_session").value.id == made.id
    run("agent_session end")
    with pytest.raises(Exception, match="no session yet"):
        run("agent_session")


def test_a_restarted_kernel_knows_its_notebooks_session(
    shell: Any, engine: EngineLauncher, tmp_path: Path
) -> None:
    def kernel() -> SessionKeeper:
        memory = SessionMemory("/home/me/a.ipynb", tmp_path)
        return SessionKeeper(lambda connection: Client(launcher=engine), memory)

    first = shell._agent_magics_keeper = kernel()
    shell.extension_manager.load_extension("agent_magics")
    with pytest.raises(UsageError, match="no session yet"):
        shell.run_line_magic("agent_todos", "")
    made = shell.run_line_magic("agent_session", "new").value
    first.close()
    again = shell._agent_magics_keeper = kernel()
    assert shell.run_line_magic("agent_todos", "") == []
    assert shell.run_line_magic("agent_session", "").value.id == made.id
    shell.run_line_magic("agent_session", "end")
    with pytest.raises(UsageError, match="no session yet"):
        shell.run_line_magic("agent_todos", "")
    again.close()
    shell.extension_manager.unload_extension("agent_magics")


def test_the_network_of_a_session(run: Any) -> None:
    assert run("agent_session new").value.network is None
    made = run("agent_session new --network python,data.example.org")
    assert "data.example.org" in made.value.network and "data.example.org" in str(made)
    assert run("agent_session new --network off").value.network is None
    run("agent --new --network example.org look around")
    assert run("agent_session").value.network == ("example.org",)
    with pytest.raises(Exception, match="add --new"):
        run("agent --network example.org look around")
    for line in ("agent_session new --network ,", "agent_session new --network http://x/"):
        with pytest.raises(Exception, match=r"host|network"):
            run(line)


def test_what_a_turn_left(
    run: Any, shell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("agent_session new")
    run(f"agent --permissions once {HELLO}")
    assert [todo.status for todo in run("agent_todos")] == ["completed"] * len(run("agent_todos"))
    messages = run("agent_messages")
    assert [message.info.role for message in messages] == ["user", "assistant"]
    assert len(run("agent_messages -n 1")) == 1
    assert HELLO in messages.text() and "write" in messages._repr_html_()
    metrics = run("agent_metrics").value
    assert metrics.messages == 2 and metrics.tool_usage["write"] >= 1
    assert "tool calls" in repr(run("agent_metrics"))

    names = {Path(file.path).name for file in run("agent_files")}
    assert "hello.py" in names
    preview = run("agent_revert --preview")
    assert {"hello.py"} <= {change.path for change in preview}
    assert "would be" in preview.text()
    run("agent_revert")
    assert run("agent_messages") == [] and run("agent_files") == []
    capsys.readouterr()
    run("agent_revert --undo")
    assert "2 messages and their files are there again" in capsys.readouterr().out
    assert len(run("agent_messages")) == 2
    run("agent_revert --undo")
    assert "Nothing is taken back" in capsys.readouterr().out
    for name in ("talk.md", "talk.html", "talk.json"):
        assert run(f"agent_export '{tmp_path / name}'") == tmp_path / name
        assert HELLO in (tmp_path / name).read_text()
        with pytest.raises(Exception, match="--force"):
            run(f"agent_export '{tmp_path / name}'")
    assert len(json.loads((tmp_path / "talk.json").read_text())["messages"]) == 2


def test_files_there_and_back(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b.csv", "c.csv", "d.txt"):
        Path(name).write_bytes(name.encode() + bytes(range(256)))
    put = run("agent_put *.csv 'd.txt' --to data")
    assert [file.path for file in put] == [
        f"/workspace/data/{n}" for n in ("a b.csv", "c.csv", "d.txt")
    ]
    assert len(run("agent_files data")) == 3
    assert len(run("agent_files -r")) == 4
    assert run("agent_get 'data/a b.csv' out/").read_bytes() == Path("a b.csv").read_bytes()
    with pytest.raises(Exception, match="--force"):
        run("agent_get data/c.csv")
    assert run("agent_get data/c.csv --force") == Path("c.csv")
    with pytest.raises(TurnFailed, match=r"nothing\.csv"):
        run("agent_get data/nothing.csv")
    with pytest.raises(Exception, match="no such file"):
        run("agent_put nothing*.csv")
    with pytest.raises(Exception, match="a directory"):
        run("agent_put out")
    assert run("agent_artifacts") == []
    run("agent_shell mkdir artifacts && cp data/c.csv artifacts")
    (artifact,) = run("agent_artifacts")
    assert artifact.key == "c.csv"
    assert run("agent_artifacts c.csv copy.csv").read_bytes() == Path("c.csv").read_bytes()


def test_permissions(run: Any) -> None:
    run("agent_session new")
    run(f"agent --permissions always {HELLO}")
    assert run("agent_permissions") == []
    rules = run("agent_permissions rules")
    assert rules and {rule.permission for rule in rules} == {"bash"}
    assert len(run(f"agent_permissions withdraw {rules[0].id}")) == len(rules) - 1
    assert run("agent_permissions withdraw all") == []
    with pytest.raises(TurnFailed, match="no pending permission request"):
        run("agent_permissions once per_0")
    with pytest.raises(Exception, match="needs an id"):
        run("agent_permissions reject")


def test_models_and_settings(run: Any, shell: Any) -> None:
    assert {"model": "demo/guide", "provider": "Built-in demo", "default": True} in run(
        "agent_model"
    )
    assert "▸" in run("agent_model demo/guide").text()
    assert shell.magics_manager.registry["AgentMagics"].model == "demo/guide"
    run("agent_model default")
    assert shell.magics_manager.registry["AgentMagics"].model is None
    with pytest.raises(UsageError, match="provider/model-id"):
        run("agent_model gpt")
    with pytest.raises(UsageError, match=r"no provider 'nosuch' here, only .*demo"):
        run("agent_model nosuch/gpt")
    assert "does not list" in run("agent_model demo/another").text()
    settings = run("agent_config")
    assert "show_reasoning" in settings.text()


def test_a_command_with_a_name(run: Any, shell: Any, tmp_path: Path) -> None:
    assert {"explain", "profile", "review"} <= {command.name for command in run("agent_run")}
    run("agent_run --permissions reject --out answer explain the files")
    assert shell.user_ns["answer"].error is None
    with pytest.raises(TurnFailed, match="no command nothing"):
        run("agent_run nothing")


def test_nothing_to_stop_and_nothing_to_summarize(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("agent_session new")
    run("agent_abort")
    assert "No turn runs" in capsys.readouterr().out
    with pytest.raises(TurnFailed, match="nothing to summarize"):
        run("agent_summarize")


def test_checks_of_this_machine(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("agent_doctor")
    out = capsys.readouterr().out
    assert "container: bubblewrap" in out and "models" in out


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_help_and_wrong_words(run: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"{name} --help")
    assert f"usage: %{name}" in capsys.readouterr().out
    with pytest.raises(Exception, match="unknown option --nonsense"):
        run(f"{name} --nonsense")


@pytest.mark.parametrize("name", sorted({**PARSERS, **TURN_PARSERS}))
def test_the_documentation_is_the_help(shell: Any, run: Any, name: str) -> None:
    documented = getdoc(shell.find_line_magic(name))
    assert documented.startswith(f"usage: %{name}")
    assert "option_strings" not in documented  # a percent sign that argparse took for a format


def test_help_of_one_magic(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("agent_get", "%agent_get", "get"):
        run(f"agent_help {name}")
        assert "usage: %agent_get PATH" in capsys.readouterr().out
    with pytest.raises(UsageError, match="did you mean agent_get"):
        run("agent_help agent_gett")


def test_next_steps_after_wrong_sessions(run: Any) -> None:
    with pytest.raises(UsageError, match=r"no session id.*agent_session list"):
        run("agent_session use nosuch")
    with pytest.raises(TurnFailed, match=r"not found.*%agent_session list"):
        run("agent_session use ses_nosuch")
    with pytest.raises(UsageError, match="--all goes with list, not with end"):
        run("agent_session end --all")


def test_every_magic_is_listed_once(run: Any) -> None:
    assert sorted(name for names in HOMES.values() for name in names) == sorted(PARSERS)
    listed = run("agent_help")
    assert set(PARSERS) | {"agent", "agent_fix", "agent_run", "agent_shell"} == set(listed)
    assert "%agent and %%agent" in listed.text()


def test_going_on_after_the_kernel_was_restarted(
    run: Any, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run("agent_session new Before").value
    run(f"agent --permissions once {HELLO}")
    capsys.readouterr()
    shell._agent_magics_keeper._current = None  # as in a new kernel
    assert run("agent_session resume").value.id == made.id
    shown = capsys.readouterr().out
    assert "[write]" in shown and "[bash]" in shown
    run("agent_session new Empty")
    assert run("agent_session resume").value.title == "Empty"
    assert run(f"agent_session resume {made.id}").value.id == made.id


def test_a_turn_that_still_runs_is_followed_and_answered(
    run: Any, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("agent_session new Busy")
    session = shell._agent_magics_keeper.current
    session.start(HELLO, on_event=lambda event: None)
    wait_until(session.get_permissions)
    capsys.readouterr()
    run("agent_session resume")  # nobody is there to ask: the request is rejected
    shown = capsys.readouterr().out
    assert "[write]" in shown and "rejected: bash" in shown
    assert session.get_info().status == "idle"
