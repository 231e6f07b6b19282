"""`%agent_fix` and `--code`: the failed cell goes to the agent, its code into the next cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest

from agent_magics.notebook._data._code import proposed_code
from agent_magics.notebook._data._facts import facts_of
from tests.support.fake_session import FakeClient, FakeTurn, install

ANSWER = "It divides by zero. Use this:\n\n```python\nprint(1 / 2)\n```\n\nThat is all."


def answering(turn: FakeTurn) -> None:
    turn.say(ANSWER)


@pytest.fixture
def client(shell: Any) -> Iterator[FakeClient]:
    client = install(shell, answering)
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


def sent(client: FakeClient) -> str:
    return str(next(iter(client.sessions.values())).turns[-1].prompt)


@pytest.fixture
def next_cells(shell: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    cells: list[str] = []
    monkeypatch.setattr(shell, "set_next_input", cells.append)
    return cells


def test_the_failed_cell_and_its_error(
    shell: Any, client: FakeClient, next_cells: list[str]
) -> None:
    shell.run_cell("secret = 'not to be sent'")
    shell.run_cell("def f(x):\n    return 1 / x\n\nf(0)  # ``` ticks")
    shell.run_cell("print('fine')")
    assert shell.run_cell("%agent_fix keep it short").success
    prompt = sent(client)
    assert "return 1 / x" in prompt and "ZeroDivisionError: division by zero" in prompt
    assert "The user adds: keep it short" in prompt
    assert "````python\n" in prompt
    assert "not to be sent" not in prompt and "\x1b" not in prompt
    assert next_cells == ["print(1 / 2)"]


def test_the_variables_that_the_cell_names(shell: Any, client: FakeClient) -> None:
    shell.user_ns |= {"sales": pandas.DataFrame({"city": ["hidden"], "price": [1.5]}), "rate": 7}
    shell.user_ns |= {"other": "not named", "key": "sk-hidden"}
    shell.run_cell("%matplotlib_is_no_magic_here\nsales['prize'] * rate + missing + len(key)")
    assert shell.run_cell("%agent_fix").success
    prompt = sent(client)
    assert "sales: DataFrame, 1 rows, columns: city (str), price (float64)" in prompt
    assert "rate: int, 7" in prompt and "key: str of length 9" in prompt
    assert "hidden" not in prompt and "other" not in prompt
    assert shell.run_cell("%agent_fix --bare").success
    assert "DataFrame," not in sent(client)


def test_what_variables_are() -> None:
    class Broken:
        @property
        def dtype(self) -> Any:
            raise RuntimeError("no")

    Broken.__module__ = "numpy"
    values = {
        "array": numpy.zeros((2, 3)),
        "broken": Broken(),
        "column": pandas.Series([1]),
        "frame": polars.DataFrame({"a": [1]}),
        "function": sent,
        "known": {"a": "hidden", 1: 2},
        "module": json,
        "number": True,
        "table": pyarrow.table({"a": [1]}),
        "values": [1, "hidden", 2],
        "wide": pandas.DataFrame({f"c{n}": [1] for n in range(100)}),
    }
    found = facts_of(["unknown", *values], values).splitlines()
    assert found[:-1] == [
        "array: ndarray, shape (2, 3), dtype float64",
        "broken: Broken",
        "column: Series, 1 rows, dtype int64",
        "frame: DataFrame, 1 rows, columns: a (Int64)",
        "function: function sent(client: 'FakeClient') -> 'str'",
        "known: dict with 2 entries, keys: 'a', 1",
        "module: the module json",
        "number: bool, True",
        "table: Table, 1 rows, columns: a (int64)",
        "values: list with 3 entries of int, str",
    ]
    assert found[-1].endswith("c39 (int64) and 60 more")


def test_a_syntax_error(shell: Any, client: FakeClient) -> None:
    shell.run_cell("for x in:\n    pass")
    assert shell.run_cell("%agent_fix").success
    assert "SyntaxError" in sent(client) and "for x in:" in sent(client)


def test_long_cells_are_cut_in_the_middle(shell: Any, client: FakeClient) -> None:
    shell.run_cell(f"first = '{'x' * 100_000}'\n1 / 0\nlast = 1")
    shell.run_cell("%agent_fix")
    prompt = sent(client)
    assert "characters left out" in prompt and "last = 1" in prompt
    assert len(prompt) < 60_000


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "%agent", "%agent_revert --preview"])
def test_what_is_no_failure_of_the_users_code(shell: Any, client: FakeClient, code: str) -> None:
    shell.run_cell("1 / 0")
    shell.run_cell(code)
    shell.run_cell("%agent_fix")
    assert "ZeroDivisionError" in sent(client)


def test_nothing_has_failed(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not shell.run_cell("%agent_fix").success
    assert "no cell has failed" in capsys.readouterr().err
    assert not client.sessions


def test_code_of_any_turn(shell: Any, client: FakeClient, next_cells: list[str]) -> None:
    shell.run_cell("%agent hello")
    assert next_cells == []
    shell.run_cell("%agent --code hello")
    assert next_cells == ["print(1 / 2)"]


def test_no_code_to_propose(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str], next_cells: list[str]
) -> None:
    client.script = lambda turn: turn.say("Just words.")
    assert shell.run_cell("%agent --code hello").success
    assert "no block of Python" in capsys.readouterr().err
    assert next_cells == []


def test_after_unloading_nothing_is_watched(shell: Any, client: FakeClient) -> None:
    before = len(shell.events.callbacks["post_run_cell"])
    shell.extension_manager.unload_extension("agent_magics")
    assert len(shell.events.callbacks["post_run_cell"]) == before - 2
    shell.extension_manager.load_extension("agent_magics")
    shell.extension_manager.reload_extension("agent_magics")
    assert len(shell.events.callbacks["post_run_cell"]) == before


PROPOSALS = {
    "the last block": ("```python\na\n```\n```py\nb\n```", "b"),
    "no language": ("```\na\n```", "a"),
    "another language": ("```python\na\n```\n```bash\nrm -rf /\n```", "a"),
    "unclosed": ("```python\na\nb", "a\nb"),
    "in a list": ("1. so:\n\n   ```python\n   a\n   ```\n", "a"),
    "tildes and ticks": ("~~~~python\nx = '```'\n~~~~", "x = '```'"),
    "none": ("only `inline`", ""),
}


@pytest.mark.parametrize("name", PROPOSALS)
def test_the_block_that_is_taken(name: str) -> None:
    text, code = PROPOSALS[name]
    assert proposed_code(text) == code
