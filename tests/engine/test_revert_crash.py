"""SIGKILL of a real engine in the middle of a revert: it is finished at the next start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engine_process import EngineProcess, started
from tests.support.scripted_llm import ThreadedLLM
from tests.support.waiting import until

FILES = 100
CHANGE = f"for i in $(seq {FILES}); do echo new > f$i; done; rm -r old; mkdir new"
CALL = {"tool": {"name": "bash", "args": {"command": CHANGE}, "id": "call_1"}}
SCRIPT: dict[str, Any] = {
    "scenarios": {"work": {"turns": [{"do": [CALL]}, {"do": [{"text": "Done."}]}]}},
    "default": "work",
}


@pytest.fixture(scope="module")
def llm() -> Iterator[ThreadedLLM]:
    with ThreadedLLM(SCRIPT) as llm:
        yield llm


def texts(workspace: Path) -> list[str]:
    return [p.read_text() for p in sorted(workspace.glob("f*"))]


def check(workspace: Path, messages: list[Any], *, reverted: bool) -> None:
    """Files and messages tell the same."""
    assert texts(workspace) == ["old\n" if reverted else "new\n"] * FILES
    assert (workspace / "old/deep").is_dir() == reverted
    assert (workspace / "new").is_dir() != reverted
    assert len(messages) == (0 if reverted else 2)


async def messages_of(client: httpx.AsyncClient, path: str) -> list[Any]:
    return list((await client.get(f"{path}/message")).json())


async def test_sigkill(llm: ThreadedLLM) -> None:
    with EngineProcess(model_url=llm.base_url, model="work") as engine:
        async with started(engine) as client:
            rules = [{"permission": "*", "pattern": "*", "action": "allow"}]
            session = (await client.post("/session", json={"permission": rules})).json()["id"]
            path = f"/session/{session}"
            workspace = engine.data / "sessions" / session / "workspace"
            make = f"mkdir -p old/deep; for i in $(seq {FILES}); do echo old > f$i; done"
            await client.post(f"{path}/exec", json={"command": make})
            parts = [{"type": "text", "text": "go"}]
            answer = await client.post(f"{path}/message", json={"parts": parts})
            body = {"messageID": answer.json()["info"]["parentID"]}
            check(workspace, await messages_of(client, path), reverted=False)
            task = asyncio.create_task(client.post(f"{path}/revert", json=body))
            await until(lambda: texts(workspace).count("old\n") >= 10)
            await engine.end(signal.SIGKILL)
            await asyncio.wait([task])
            task.exception()
        async with started(engine) as client:
            assert "revert" in (await client.get(path)).json()
            check(workspace, await messages_of(client, path), reverted=True)
            assert (await client.post(f"{path}/unrevert")).status_code == 200
            check(workspace, await messages_of(client, path), reverted=False)
            assert await engine.end(signal.SIGTERM) == 0
