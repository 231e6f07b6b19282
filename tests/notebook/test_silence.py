"""An engine that does not answer, seen from the cells that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from agent_magics.notebook._turn import _silence
from agent_magics.notebook._turn._silence import hear_silence, tell_silence
from agent_magics.notebook._turn._wait import patiently


@pytest.fixture(autouse=True)
def _answering() -> Iterator[None]:
    yield
    tell_silence("")


def test_a_cell_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    def call() -> int:
        tell_silence("The engine (process 7) has not answered for 5 s.")
        tell_silence("")
        return 3

    assert patiently(call) == 3
    assert capsys.readouterr().err == (
        "The engine (process 7) has not answered for 5 s. Waiting for it.\n"
        "The wait for the engine is over.\n"
    )


def test_a_cell_that_comes_later_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    tell_silence("The engine (process 7) is silent.")
    assert patiently(lambda: 3) == 3
    assert capsys.readouterr().err == "The engine (process 7) is silent. Waiting for it.\n"


def test_who_has_left_hears_nothing() -> None:
    heard: list[str] = []
    with hear_silence(heard.append):
        threading.Thread(target=tell_silence, args=("x",)).run()
    tell_silence("")
    tell_silence("")
    assert heard == ["x. Waiting for it."]
    assert _silence._listeners == []
