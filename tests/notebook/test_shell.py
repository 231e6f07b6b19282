"""Commands in the container, seen from the cell."""

from __future__ import annotations

import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from agent_magics.notebook import TurnFailed, TurnInterrupted
from agent_magics.notebook._turn import _shell as shell_module
from agent_magics.notebook._turn._shell import ShellSettings, run_shell
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


@pytest.mark.parametrize("cell", ["", "a-cell"])
def test_a_console_with_a_kernel_is_a_terminal(
    session: FakeSession,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    cell: str,
) -> None:
    class Kernel:
        shell_streams = ()

        def get_parent(self, _: str) -> dict[str, Any]:
            return {"metadata": {"cellId": cell} if cell else {}}

    writers: list[shell_module._Writer] = []
    make = shell_module._Writer

    def made(*args: Any, **options: Any) -> Any:
        writers.append(make(*args, **options))
        return writers[-1]

    monkeypatch.setattr(shell_module, "_Writer", made)
    monkeypatch.setattr(shell_module, "current_shell", lambda: SimpleNamespace(kernel=Kernel()))
    run(session)
    capsys.readouterr()
    writers[0].write("\x1b]52;c;eA==\x07\x1b[31mred\x1b[0m")
    shown = capsys.readouterr().out
    assert shown.endswith("\x1b[31mred\x1b[0m")
    assert ("]52" in shown) is bool(cell)


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


def test_stop_shows_how_the_command_ended(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.shell_hangs, session.shell_patience = True, 1
    stop_when(session.shell_printed.is_set)
    with pytest.raises(TurnInterrupted, match="the command was stopped"):
        run(session)
    assert session.calls[1:] == [("interrupt", False)]
    assert tuple(capsys.readouterr()) == ("out\n^C", "err\n[exit code 130]\n")


def test_stop_before_the_command_has_begun(session: FakeSession) -> None:
    acquired = threading.Event()

    def acquire() -> Any:
        acquired.set()
        assert done.wait(30)
        return session

    done = threading.Event()
    stop_when(acquired.is_set)
    with pytest.raises(TurnInterrupted, match="the command was stopped"):
        run_shell(acquire, "ls", ShellSettings())
    done.set()
    assert [call[0] for call in session.calls if call[0] == "interrupt"] == []


def test_a_second_stop_kills_and_a_third_does_not_wait(session: FakeSession) -> None:
    session.shell_hangs = True
    stop_when(session.shell_printed.is_set)
    stop_when(lambda: len(session.calls) == 2)
    stop_when(lambda: len(session.calls) == 3)
    with pytest.raises(TurnInterrupted, match="the command was stopped"):
        run(session)
    assert session.calls[1:] == [("interrupt", False), ("interrupt", True)]
    assert session.shell_closed.wait(30)


def test_a_command_that_cannot_run_is_one_line() -> None:
    def acquire() -> Any:
        raise ConnectionError("no engine")

    with pytest.raises(TurnFailed) as raised:
        run_shell(acquire, "ls", ShellSettings())
    assert raised.value._render_traceback_() == ["agent: ConnectionError: no engine"]
