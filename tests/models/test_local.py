"""The small local model: its process, and one real turn."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic_ai.exceptions import ModelAPIError

from agent_magics.engine._config import EngineConfig
from agent_magics.engine.models import ModelRegistry, price
from agent_magics.engine.models._local import LocalModels, LocalServer, LocalServerError
from agent_magics.engine.models._local_model import LocalModel
from tests.support.agent_loop import Record, run_turn
from tests.support.scripted_llm import ScriptedLLM

READY = """
import json, os, sys
assert os.environ["AGENT_MAGICS_LOCAL_KEY"]
assert "OPENAI_API_KEY" not in os.environ
print(json.dumps({"port": PORT}), flush=True)
sys.stdin.buffer.read()
"""


def server(tmp_path: Path, program: str, port: int = 1) -> LocalServer:
    path = tmp_path / "program.py"
    path.write_text(program.replace("PORT", str(port)))
    return LocalServer(path)


def pid_of(server: LocalServer) -> int:
    assert server._process is not None
    return server._process.pid


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_one_process_serves_all_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    local = server(tmp_path, READY, port=4711)
    addresses = await asyncio.gather(*(local.ensure() for _ in range(3)))
    assert len(set(addresses)) == 1
    url, key = addresses[0]
    assert url == "http://127.0.0.1:4711/v1"
    assert len(key) == 32
    pid = pid_of(local)
    await local.aclose()
    assert not running(pid)
    await local.aclose()


async def test_a_dead_process_is_replaced(tmp_path: Path) -> None:
    local = server(tmp_path, READY)
    _, key = await local.ensure()
    assert local._process is not None
    os.kill(local._process.pid, signal.SIGKILL)
    await local._process.wait()
    _, other = await local.ensure()
    assert other != key
    await local.aclose()


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    local = server(tmp_path, "raise SystemExit('no weights here')")
    with pytest.raises(LocalServerError, match="no weights here"):
        await local.ensure()
    model = LocalModel("gemma-3-270m", local)
    with pytest.raises(ModelAPIError, match="did not start: no weights here"):
        await model._ready()


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    program = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    local = server(tmp_path, program)
    starting = asyncio.create_task(local.ensure())
    async with asyncio.timeout(30):
        while not marker.exists() or not marker.read_text():
            await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not running(int(marker.read_text()))


def test_the_process_ends_with_the_engine(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(READY.replace("PORT", "1"))
    engine = (
        "import asyncio, os, pathlib, sys\n"
        "from agent_magics.engine.models._local import LocalServer\n"
        "async def main():\n"
        f"    local = LocalServer(pathlib.Path({str(program)!r}))\n"
        "    await local.ensure()\n"
        "    print(local._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", engine], capture_output=True, timeout=60)
    pid = int(done.stdout)
    for _ in range(500):
        if not running(pid):
            return
        signal.sigtimedwait([], 0.01)
    pytest.fail("the model's process outlived the engine")


async def test_the_model_talks_to_the_process(tmp_path: Path, record: Record) -> None:
    async with ScriptedLLM() as llm:
        local = server(tmp_path, READY, port=llm.port)
        model = LocalModel("gemma-3-270m", local)
        await run_turn(record, model, "hi")
        _, key = await local.ensure()
        await local.aclose()
        await model.client.close()
    assert record.said == "ok"
    assert llm.log[0]["headers"]["authorization"] == f"Bearer {key}"
    assert llm.log[0]["body"]["stop"] == ["\nUser:", "\n\n"]
    assert llm.log[0]["body"]["parallel_tool_calls"] is False


@pytest.fixture
async def registry() -> AsyncIterator[ModelRegistry]:
    registry = ModelRegistry(EngineConfig(), {})
    yield registry
    await registry.aclose()


@pytest.mark.local_model
@pytest.mark.skipif(not LocalModels().installed, reason="the extra `local` is not installed")
@pytest.mark.timeout(300)
async def test_a_real_turn(registry: ModelRegistry, record: Record) -> None:
    resolved = registry.resolve("local")
    assert resolved.window.size() == 8192
    await run_turn(record, resolved.model, "What is Python?")
    replies = [message for message in record.messages if message.kind == "response"]
    assert replies
    assert replies[0].usage.output_tokens > 0
    assert price(replies[0]) == 0.0
    assert record.said or record.calls
