"""
Kill an engine and use it again within milliseconds, again and again.

    python -m tests.support.restart_rounds ROUNDS

In each round the engine gets SIGKILL, in mid-start every third time, and the same client asks for
the sessions at once. Prints how many rounds went well of how many.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from agent_magics.client import AgentError, Client, EngineLauncher, StateDir
from tests.support.engine_home import EngineHome


def restart_rounds(rounds: int) -> tuple[int, int]:
    """The number of rounds that went well, and of all."""
    good = 0
    with EngineHome() as home:
        launcher = EngineLauncher(StateDir(home.state), environ={**os.environ, **home.environ})
        with Client(launcher=launcher, timeout=120) as client:
            kept = client.create_session("kept", sandbox="local").id
            for number in range(rounds):
                try:
                    good += _round(home, client, kept, number)
                except AgentError:
                    traceback.print_exc()
    return good, rounds


def _round(home: EngineHome, client: Client, kept: str, number: int) -> bool:
    before = home.engine_pid()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    if number % 3 == 2:  # and its successor, which has hardly begun
        successor = home.engine_pid()
        if successor not in (None, before):
            os.kill(successor or 0, signal.SIGKILL)
    found = [session.id for session in client.list_sessions()]
    return found == [kept] and home.engine_pid() not in (None, before)


if __name__ == "__main__":
    good, rounds = restart_rounds(int(sys.argv[1]))
    sys.stdout.write(f"{good} of {rounds}\n")
    sys.exit(good != rounds)
