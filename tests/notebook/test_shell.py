"""Commands in the container, seen from the cell."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent_magics.notebook import TurnFailed, TurnInterrupted
from agent_magics.notebook import _shell as shell_module
from agent_magics.notebook._shell import ShellSettings, run_shell
from agent_magics.wire import ShellResult
from tests.support.fake_session import FakeSession, hello
from tests.support.signals import stop_when


def run(session: FakeSession, command: str = "ls", **settings: Any) -> ShellResult:
    return run_shell(lambda: session, command, ShellSettings(**settings))  # type: ignore[arg-type,return-value]


@pytest.fixture
def session() -> FakeSession:
    return FakeSession(hello)


def test_output_and_result(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(session, "ls -l", timeout=1.5, cwd="/tmp")
    assert result is session.shell_result
    assert session.calls == [("shell", "ls -l", timedelta(seconds=1.5), "/tmp")]
    assert tuple(capsys.readouterr()) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (ShellResult("", "", 3), "[exit code 3]\n"),
        (ShellResult("", "", 124, timed_out=True), "[timed out after 2 s, exit code 124]\n"),
        (ShellResult("", "", 0, truncated=True), "[output truncated]\n"),
        (ShellResult("", "", 137, truncated=True), "[exit code 137, output truncated]\n"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(
    session: FakeSession, capsys: pytest.CaptureFixture[str], result: ShellResult, line: str
) -> None:
    session.shell_result = result
    run(session, timeout=2.0)
    assert capsys.readouterr().err == line


def test_endless_output_is_cut(
    session: FakeSession, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "_SHOWN", 10)
    session.shell_result = ShellResult("x" * 25, "", 0)
    assert len(run(session).stdout) == 25
    assert capsys.readouterr().out == "x" * 10 + "\n[15 more characters are not shown]\n"


def test_stop_ends_the_command(session: FakeSession) -> None:
    session.shell_hangs = True
    stop_when(lambda: session.calls)
    with pytest.raises(TurnInterrupted, match="the command was stopped"):
        run(session)
    assert session.shell_closed.wait(30)


def test_a_command_that_cannot_run_is_one_line() -> None:
    def acquire() -> Any:
        raise ConnectionError("no engine")

    with pytest.raises(TurnFailed) as raised:
        run_shell(acquire, "ls", ShellSettings())
    assert raised.value._render_traceback_() == ["agent: ConnectionError: no engine"]
