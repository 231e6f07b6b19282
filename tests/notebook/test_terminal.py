"""IPython without a kernel: on a terminal a person answers, in a pipe the policy does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.kernel import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning")

IPYTHON = ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"]
START = (
    "from tests.support import fake_session; "
    "fake = fake_session.install(get_ipython(), fake_session.{script})\n"
    "%load_ext agent_magics\n"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "NO_COLOR": "1"}


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Callable[[str], pexpect.spawn]]:
    spawned: list[pexpect.spawn] = []

    def start(script: str) -> pexpect.spawn:
        child = pexpect.spawn(
            sys.executable, IPYTHON, env=environment, encoding="utf-8", timeout=30, echo=False
        )
        spawned.append(child)
        for line in START.format(script=script).splitlines():
            child.expect(r"In \[\d+\]: ")
            child.sendline(line)
        child.expect(r"In \[\d+\]: ")
        return child

    yield start
    for child in spawned:
        child.close(force=True)


def test_the_keyboard_answers_and_the_text_streams(
    terminal: Callable[[str], pexpect.spawn],
) -> None:
    child = terminal("full")
    child.sendline("%agent what is here?")
    child.expect_exact("I will look around.")
    child.expect_exact("y = allow once, a = always allow rm *, n = reject: ")
    child.sendline("a")
    child.expect_exact("The answer was always.")
    child.expect_exact("[bash] ls /workspace")
    child.expect_exact("Done.")
    child.expect(r"In \[\d+\]: ")
    child.sendline("print(_agent.message_id)")
    child.expect_exact("msg_a")


def test_ctrl_c_stops_the_turn(terminal: Callable[[str], pexpect.spawn]) -> None:
    child = terminal("endless")
    child.sendline("%agent talk")
    child.expect_exact("word word word")
    child.sendintr()
    child.expect_exact("agent: the turn was stopped")
    child.expect(r"In \[\d+\]: ")
    child.sendline("print('al' 'ive')")
    child.expect_exact("alive")


def test_ctrl_c_at_the_question(terminal: Callable[[str], pexpect.spawn]) -> None:
    child = terminal("full")
    child.sendline("%agent go")
    child.expect_exact("n = reject: ")
    for _ in range(10):  # input() overlooks what comes between its prompt and its reading
        child.sendintr()
        stopped = child.expect_exact([pexpect.TIMEOUT, "agent: the turn was stopped"], timeout=3)
        if stopped:
            break
    assert stopped
    child.expect(r"In \[\d+\]: ")


def test_a_pipe_gets_plain_text_and_the_policy(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, *IPYTHON],
        input=START.format(script="full") + "%agent hi\n",
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert "The answer was reject." in done.stdout
    assert "nobody can be asked here" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.returncode == 0
