"""Real engines in hard times: a full disk, removed directories, a dead writer, a SIGKILL."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.client import EngineLauncher, EngineStartError, StateDir
from tests.support.engine_harness import eventually
from tests.support.engine_process import ROOT, EngineProcess, started
from tests.support.restart_rounds import restart_rounds
from tests.support.scripted_llm import ThreadedLLM

SCRIPT: dict[str, Any] = {
    "api_keys": ["sk-scripted-0123456789"],
    "default": "text",
    "scenarios": {
        "text": {"turns": [{"do": [{"text": "Once upon a time"}, {"wait": 60}]}]},
        "quick": {"turns": [{"do": [{"text": "Done."}]}]},
    },
}


@pytest.fixture(scope="module")
def llm() -> Iterator[ThreadedLLM]:
    with ThreadedLLM(SCRIPT) as llm:
        yield llm


def may_write(engine: EngineProcess, size: int) -> None:
    """Bound the size of its files, which is a full disk that needs no file system of its own."""
    assert engine.process is not None
    _, hard = resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (size, hard))


async def messages(client: httpx.AsyncClient, session: str) -> list[dict[str, Any]]:
    response = await client.get(f"/session/{session}/message")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found


async def prompt(client: httpx.AsyncClient, session: str, message_id: str) -> httpx.Response:
    body = {"messageID": message_id, "parts": [{"type": "text", "text": "go on"}]}
    return await client.post(f"/session/{session}/prompt_async", json=body)


async def test_a_full_disk_in_mid_turn(llm: ThreadedLLM) -> None:
    """The turn ends with the reason; reading works; with room all goes on, in the same process."""
    with EngineProcess(model_url=llm.base_url, model="text") as engine:
        async with started(engine) as client:
            session = (await client.post("/session", json={"title": "one"})).json()["id"]
            assert (await prompt(client, session, "msg_cut")).status_code == 204
            await eventually(lambda: client_sees_text(client, session))
            may_write(engine, 1)
            refused = await client.patch(f"/session/{session}", json={"title": "two"})
            assert (refused.status_code, refused.json()["name"]) == (507, "NoSpaceError")
            message = refused.json()["data"]["message"]
            assert "may not grow" in message and "\n" not in message
            refused = await prompt(client, session, "msg_refused")
            assert (refused.status_code, refused.json()["name"]) == (507, "NoSpaceError")
            assert (await client.post("/session", json={})).status_code == 507
            assert len(await messages(client, session)) == 2
            assert (await client.get("/session")).status_code == 200
            await eventually(lambda: is_idle(client))
            may_write(engine, resource.RLIM_INFINITY)
            await eventually(lambda: is_renamed(client, session))
            answer = (await messages(client, session))[-1]["info"]
            assert answer["error"]["name"] == "NoSpaceError"
            assert "The turn was stopped" in answer["error"]["data"]["message"]
            assert len(await messages(client, session)) == 2
            assert (await prompt(client, session, "msg_next")).status_code == 204
            await engine.end(signal.SIGTERM)


async def client_sees_text(client: httpx.AsyncClient, session: str) -> bool:
    found = await messages(client, session)
    return any(p["type"] == "text" for m in found[1:] for p in m["parts"])


async def is_idle(client: httpx.AsyncClient) -> bool:
    return bool((await client.get("/session/status")).json() == {})


async def is_renamed(client: httpx.AsyncClient, session: str) -> bool:
    response = await client.patch(f"/session/{session}", json={"title": "three"})
    return response.status_code == 200


async def test_a_data_directory_that_is_removed(llm: ThreadedLLM) -> None:
    """Nothing more is acknowledged, and the engine leaves by itself."""
    with EngineProcess(model_url=llm.base_url, model="text") as engine:
        async with started(engine) as client:
            session = (await client.post("/session", json={})).json()["id"]
            await prompt(client, session, "msg_cut")
            shutil.rmtree(engine.data)
            with suppress(httpx.TransportError):
                assert (await client.post("/session", json={})).status_code >= 500
            assert await engine.ended() == 1
            assert f"The data directory {engine.data} was removed" in engine.log
            assert not (engine.state / "engine.sock").exists()


async def test_a_state_directory_that_is_removed(llm: ThreadedLLM) -> None:
    """It is made again, and no second engine is started meanwhile."""
    with EngineProcess(model_url=llm.base_url, model="quick") as engine:
        async with started(engine) as client:
            await client.get("/session")
            shutil.rmtree(engine.state)
            endpoint = await asyncio.to_thread(launcher(engine, engine.state).ensure)
            assert engine.process is not None and endpoint.pid == engine.process.pid
            # The watch has put all of it back, the log with the next line.
            assert json.loads((engine.state / "engine.json").read_text())["pid"] == endpoint.pid
            (engine.state / "engine.json").unlink()
            await eventually((engine.state / "engine.json").exists)
            assert (await client.get("/session")).status_code == 200
            assert await engine.end(signal.SIGTERM) == 0
        assert "the state directory had been removed" in engine.log


async def test_two_state_directories_on_one_data_directory(llm: ThreadedLLM) -> None:
    """The second client talks to the first one's engine; the next engine is its own again."""
    with EngineProcess(model_url=llm.base_url, model="quick") as engine:
        other = engine.directory / "other"
        async with started(engine):
            assert engine.process is not None
            for _ in range(2):
                endpoint = await asyncio.to_thread(launcher(engine, other).ensure)
                assert endpoint.pid == engine.process.pid
                assert endpoint.uds == str(engine.state / "engine.sock")
            await engine.end(signal.SIGTERM)
        endpoint = await asyncio.to_thread(launcher(engine, other).ensure)
        assert endpoint.uds == str(other / "engine.sock") and endpoint.pid is not None
        os.kill(endpoint.pid, signal.SIGKILL)


async def test_an_engine_on_a_port_is_named(llm: ThreadedLLM) -> None:
    with EngineProcess(model_url=llm.base_url, model="quick") as engine:
        engine.start("--port", "0")
        await engine.ready()
        assert engine.process is not None
        with pytest.raises(
            EngineStartError, match=f"process {engine.process.pid}\\) uses"
        ) as caught:
            await asyncio.to_thread(launcher(engine, engine.directory / "other").ensure)
        assert "http://127.0.0.1:" in str(caught.value) and "Traceback" not in str(caught.value)
        await engine.end(signal.SIGTERM)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
async def test_a_data_directory_without_the_right_to_write(llm: ThreadedLLM) -> None:
    with EngineProcess(model_url=llm.base_url, model="quick") as engine:
        engine.data.mkdir(mode=0o500)
        try:
            with pytest.raises(EngineStartError, match="may not write") as caught:
                await asyncio.to_thread(launcher(engine, engine.state).ensure)
        finally:
            engine.data.chmod(0o700)
        assert "Traceback" not in str(caught.value)


async def test_a_data_directory_that_cannot_be_made(llm: ThreadedLLM) -> None:
    with EngineProcess(model_url=llm.base_url, model="quick") as engine:
        engine.data.write_text("")
        with pytest.raises(EngineStartError, match="The engine can't start") as caught:
            await asyncio.to_thread(launcher(engine, engine.state).ensure)
        assert "Traceback" not in str(caught.value)


async def test_a_writer_that_dies_ends_the_engine(llm: ThreadedLLM, tmp_path: Path) -> None:
    """Whatever it dies of: clients are answered, nothing is acknowledged, and a new one starts."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from agent_magics.engine import _store\n"
        "commit = _store.Store._commit\n"
        "def fail(self, items):\n"
        f"    if os.path.exists({str(tmp_path / 'now')!r}): raise MemoryError\n"
        "    return commit(self, items)\n"
        "_store.Store._commit = fail\n"
    )
    with EngineProcess(model_url=llm.base_url, model="quick") as engine:
        engine.python_path = (str(tmp_path),)
        async with started(engine) as client:
            kept = (await client.post("/session", json={})).json()["id"]
            (tmp_path / "now").touch()
            with suppress(httpx.TransportError):
                response = await client.post("/session", json={})
                assert (response.status_code, response.json()["name"]) == (503, "StoreError")
            assert await engine.ended() == 1
            assert "MemoryError" in engine.log
        (tmp_path / "now").unlink()
        async with started(engine) as client:
            assert [s["id"] for s in (await client.get("/session")).json()] == [kept]
            await engine.end(signal.SIGTERM)


def test_a_start_right_after_a_kill(tmp_path: Path) -> None:
    assert restart_rounds(3) == (3, 3)


def launcher(engine: EngineProcess, state: Path) -> EngineLauncher:
    environ = {**engine.environ, "AGENT_MAGICS_DATA_DIR": str(engine.data)}
    return EngineLauncher(StateDir(state), environ=environ)


def test_a_disk_that_is_really_full() -> None:
    """Reading and deleting work, nothing is taken, and room brings everything back."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace of its own for a small file system")
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.support.full_disk"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "14 of 14\n"), done.stderr
