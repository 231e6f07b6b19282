"""An embedded engine that can't start again: everybody is told, and it is not tried for each."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from agent_magics.client import (
    AsyncClient,
    Endpoint,
    EngineLauncher,
    EngineStartError,
    StateDir,
)
from agent_magics.client._connection import Connection, EmbeddedConnector
from agent_magics.client._protocol import why_lost


class Failing(EngineLauncher):
    """Each start takes until `go` is set, and fails."""

    def __init__(self, directory: Path) -> None:
        super().__init__(StateDir(directory))
        object.__setattr__(self, "starts", [])
        object.__setattr__(self, "go", threading.Event())

    def ensure(self, timeout: float | None = None, **options: Any) -> Endpoint:
        self.__dict__["starts"].append(timeout)
        if (tell := options.get("on_silent")) is not None:
            tell("The engine is silent.")
        assert self.__dict__["go"].wait(60)
        raise EngineStartError(f"It can't start: {len(self.__dict__['starts'])}.")


async def test_a_failed_start_answers_all_who_waited(tmp_path: Path) -> None:
    launcher = Failing(tmp_path)
    starts, go = launcher.__dict__["starts"], launcher.__dict__["go"]
    async with AsyncClient(launcher=launcher) as client:
        asking = [asyncio.create_task(client.health()) for _ in range(10)]
        while not starts:
            await asyncio.sleep(0)
        late = [asyncio.create_task(client.health()) for _ in range(10)]
        for _ in range(20):  # all of them wait
            await asyncio.sleep(0)
        go.set()
        errors = await asyncio.gather(*asking, *late, return_exceptions=True)
        assert all(isinstance(error, EngineStartError) for error in errors)
        assert len(starts) <= 3, "one for those who came before it, one for those after"
        with pytest.raises(EngineStartError):
            await client.health()
        assert len(starts) <= 4, "who comes later tries again"


async def test_what_failed_is_not_waited_for_any_more(tmp_path: Path) -> None:
    launcher = Failing(tmp_path)
    told: list[str] = []
    async with AsyncClient(launcher=launcher, on_silence=told.append) as client:
        asking = asyncio.create_task(client.health())
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0.01)
        launcher.__dict__["go"].set()
        with pytest.raises(EngineStartError):
            await asking
    assert told == ["The engine is silent.", ""]


async def test_a_dead_engine_is_not_silent(tmp_path: Path) -> None:
    """Nobody is told to end a process that has ended."""
    told: list[str] = []
    connector = EmbeddedConnector(Failing(tmp_path), timeout=5, on_silence=told.append)
    child = await asyncio.create_subprocess_exec("true")
    await child.wait()
    endpoint = Endpoint(pid=child.pid)
    gone = Connection(endpoint, cast("Any", None), cast("Any", None))
    assert not await connector.is_silent(gone, 5.0)
    assert told == []
    assert "for 5 s." in str(connector.no_answer(gone, 5.0123))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.RemoteProtocolError("incomplete chunked read"), "it closed the connection"),
        (httpx.ReadError("[Errno 104]"), "the connection broke"),
        (httpx.ReadTimeout(""), "nothing came in time"),
        (httpx.ConnectError(""), "no connection can be made"),
        (httpx.StreamClosed(), "the connection broke"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_why_a_connection_was_lost(error: Exception, words: str) -> None:
    assert why_lost(error) == words
