"""A cell whose agent uses a sub-agent: the notebook's turn over a real engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from agent_magics.client import Client
from agent_magics.notebook._turn._permissions import Policy
from agent_magics.notebook._turn._turn import TurnSettings, run_turn
from agent_magics.wire import SendResult
from tests.support.engine_harness import TOKEN, call, engine_in, say, served
from tests.support.fake_session import prompting


def a_cell(socket: Path) -> SendResult:
    """Runs on a thread of its own, like a user's loop would."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    with Client(transport=transport, token=TOKEN) as client:
        settings = TurnSettings(policy=Policy(turn="once"))
        return run_turn(client.create_session, prompting("go"), settings)


async def test_a_sub_agent_in_a_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"description": "Find it", "prompt": "Look.", "subagent_type": "explore"}
    steps = [
        call(("task", arguments), text="I ask."),
        call(("bash", {"command": "ls"}), text="child text"),
        say("child result"),
        say("It is there."),
    ]
    async with engine_in(tmp_path, steps) as harness, served(harness, tmp_path):
        result = await asyncio.to_thread(a_cell, tmp_path / "test.sock")
    out = capsys.readouterr().out
    assert result.text == "I ask.It is there." and result.error is None
    assert "allowed once: bash: ls for the sub-agent explore (Find it)" in out
    assert "[task] Find it (@explore)" in out and "bash: ls" in out
    assert "child text" not in out and "[permission] once" in out
