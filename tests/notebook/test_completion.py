"""Tab completion in the agent's magics, through IPython's own completer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from agent_magics.notebook._manage import _completion as completion
from tests.support.fake_session import FakeClient, hello, install


class KnowingClient(FakeClient):
    """A client that has something to list."""

    asked = 0

    def list_sessions(self) -> list[Any]:
        self.asked += 1
        return [SimpleNamespace(id="ses_1"), SimpleNamespace(id="ses_2")]

    def list_agents(self) -> list[Any]:
        return [SimpleNamespace(name="plan"), SimpleNamespace(name="build")]

    def list_commands(self) -> list[Any]:
        return [SimpleNamespace(name="profile")]

    def providers(self) -> dict[str, Any]:
        return {"providers": [{"id": "demo", "models": {"guide": {}, "other": {}}}]}


@pytest.fixture
def client(shell: Any) -> Iterator[KnowingClient]:
    install(shell, hello)
    client = KnowingClient(hello)
    shell._agent_magics_keeper._open_client = lambda connection: client
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


def offered(shell: Any, code: str) -> set[str]:
    """The text of the whole cell for each completion at its end."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(code, len(code)))
    return {code[: item.start] + item.text for item in found}


CASES = {
    "an option": ("%agent --mod", {"%agent --model"}),
    "in a cell magic": ("%%agent --per", {"%%agent --permissions"}),
    "a value": ("%agent --permissions re", {"%agent --permissions reject"}),
    "a value with =": ("%agent --sandbox=lo", {"%agent --sandbox=local"}),
    "a model": ("%agent --model demo/g", {"%agent --model demo/guide"}),
    "an agent": ("%%agent --agent pl", {"%%agent --agent plan"}),
    "a session": ("%agent_session use ses_", {f"%agent_session use ses_{n}" for n in (1, 2)}),
    "an action": ("%agent_session fo", {"%agent_session fork"}),
    "after an option": ("%agent_session --all li", {"%agent_session --all list"}),
    "a command": ("%agent_run pro", {"%agent_run profile"}),
    "the notebook's model": ("%agent_model demo/o", {"%agent_model demo/other"}),
    "a variable": ("%%agent\nLook at {pengu", {"%%agent\nLook at {penguins"}),
    "in a line": ("%agent Look at {pengu", {"%agent Look at {penguins"}),
    "data by @": ("%%agent\nCompare @pengu", {"%%agent\nCompare @penguins"}),
    "a file by @": ("%agent Compare @table.c", {"%agent Compare @table.csv"}),
    "data": ("%agent --with pengu", {"%agent --with penguins"}),
    "a shape": ("%agent --json pengu", {"%agent --json penguins"}),
    "a recording": ("%agent --replay sub/t", {"%agent --replay sub/turn.jsonl"}),
    "out": ("%agent --out pengu", {"%agent --out penguins"}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_offered(
    shell: Any,
    client: KnowingClient,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    for file in ("table.csv", "with blank.csv", "sub/turn.jsonl", "sub/turn.txt"):
        Path(file).touch()
    shell.run_cell("penguins = 1")
    shell.run_line_magic("agent", "hi")
    code, expected = CASES[name]
    assert offered(shell, code) == expected


def test_prose_and_python_are_left_alone(shell: Any, client: KnowingClient) -> None:
    shell.run_cell("penguins = 1")
    assert "penguins" in offered(shell, "pengu")
    matcher = shell.Completer.custom_matchers[-1]
    context = SimpleNamespace(
        full_text="%%agent\nplease pengu", text_until_cursor="please pengu", cursor_line=1
    )
    assert matcher(context) == {
        "completions": [],
        "matched_fragment": "",
        "suppress": False,
        "ordered": False,
    }


def test_no_engine_is_started_and_answers_are_kept(shell: Any, client: KnowingClient) -> None:
    assert not {c for c in offered(shell, "%agent --session ses_") if "ses_1" in c}
    assert client.asked == 0
    shell.run_line_magic("agent", "hi")
    for _ in range(3):
        assert len(offered(shell, "%agent --session ses_")) == 2
    assert client.asked == 1


@pytest.mark.parametrize(
    "end", ["\n!rm -rf .", "\r!x", "\t--force", " x", "\u2028x", "\u202ecod", "\x1b[8m", "\u200b"]
)
def test_a_name_brings_no_code_into_the_cell(
    shell: Any, client: KnowingClient, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    shell.run_line_magic("agent", "hi")
    session = shell._agent_magics_keeper.current
    entries = [SimpleNamespace(path=f"/workspace/{name}") for name in ("report.csv", f"rep{end}")]
    monkeypatch.setattr(session, "list_files", lambda **_: entries, raising=False)
    models: dict[str, Any] = {"models": {"guide": {}, f"gui{end}": {}}}
    monkeypatch.setattr(client, "providers", lambda: {"providers": [{"id": "demo", **models}]})
    assert offered(shell, "%agent_get rep") == {"%agent_get report.csv"}
    assert offered(shell, "%agent_model demo/gui") == {"%agent_model demo/guide"}


def test_an_engine_that_does_not_answer(
    shell: Any, client: KnowingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "_PATIENCE", 0.01)
    shell.run_line_magic("agent", "hi")

    def broken() -> list[Any]:
        raise RuntimeError("gone")

    monkeypatch.setattr(client, "list_sessions", broken)
    assert not {c for c in offered(shell, "%agent --session ses_") if "ses_1" in c}


def test_loading_twice_asks_once(shell: Any, client: KnowingClient) -> None:
    shell.extension_manager.reload_extension("agent_magics")
    assert len(shell.Completer.custom_matchers) == 1
