"""Limits of containers: from the file, per session, over HTTP, and in what commands may do."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from agent_magics.client import AsyncClient, BadRequest
from agent_magics.engine._config import ConfigError, EngineConfig
from agent_magics.engine._container_limits import limits_text, lowered, read_limits
from agent_magics.sandbox import Limits
from agent_magics.sandbox._types import machine_memory
from agent_magics.wire import SessionInfo
from tests.support.engine_harness import TOKEN, Harness, call, engine_in, say

MB, GB = 1 << 20, 1 << 30
SMALL = Limits(memory=512 * MB, process_memory=256 * MB, processes=100, output=8192, timeout=30)


def load(tmp_path: Path, text: str) -> EngineConfig:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return EngineConfig.load(path, {})


def test_every_limit_can_be_configured(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        sandbox = "auto"
        [limits]
        steps = 7
        [limits.container]
        memory = "1.5 GB"
        process_memory = "512mb"
        processes = 99
        background = 0
        file_size = "unlimited"
        disk = 104857600
        shared_memory = "1024 KB"
        files = 5000
        open_files = 128
        cpu_seconds = 60
        output = "64 KB"
        timeout = 2.5
        longest_timeout = 10
        """,
    )
    assert config.container_limits == Limits(
        memory=3 * GB // 2,
        process_memory=512 * MB,
        processes=99,
        background=0,
        file_size=None,
        disk=100 * MB,
        shared_memory=MB,
        files=5000,
        open_files=128,
        cpu_seconds=60,
        output=64 << 10,
        timeout=2.5,
        longest_timeout=10,
    )
    assert (config.sandbox, config.limits.steps) == ("auto", 7)
    assert len(asdict(config.container_limits)) == 13
    assert load(tmp_path, "").container_limits == Limits()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("container = 1", "limits.container: must be a table"),
        ("container.ram = 1", "limits.container.ram: unknown key; known are memory,"),
        ("container.memory = '2 PB'", "limits.container.memory: must be a size such as"),
        ("container.memory = 4", 'memory: must be a size such as "2 GB" or a number of bytes, '),
        ("container.memory = true", "limits.container.memory: must be a size"),
        ("container.memory = -1", "limits.container.memory: must be a size"),
        ("container.shared_memory = 'unlimited'", "container.shared_memory: must be a size"),
        ("container.processes = '9'", "limits.container.processes: must be a whole number"),
        ("container.processes = 1.5", "limits.container.processes: must be a whole number"),
        ("container.timeout = nan", "limits.container.timeout: must be a number of seconds"),
        ("container.timeout = 0", "limits.container.timeout: must be a number of seconds"),
        (
            "container = {timeout = 9, longest_timeout = 8}",
            "limits.container.timeout: must not be above longest_timeout",
        ),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[limits]\n{text}")
    assert str(tmp_path / "config.toml") in str(caught.value) and message in str(caught.value)


def test_times_stay_in_order() -> None:
    assert read_limits({"timeout": 10**5}).longest_timeout == 10**5
    assert read_limits({"longest_timeout": 5}).timeout == 5
    assert lowered(Limits(), {"longest_timeout": 5}).timeout == 5


def test_lowered_never_raises_a_limit() -> None:
    wanted = {"memory": GB, "processes": 10**6, "disk": MB * 64, "removed_later": 1}
    found = lowered(SMALL, wanted)
    assert found == replace(SMALL, disk=64 * MB)
    assert lowered(Limits(memory=None), {"memory": GB}).memory == GB


def test_defaults_leave_room_for_others() -> None:
    limits = Limits()
    assert limits.memory is not None and limits.memory <= machine_memory() * 6 // 10
    assert limits.memory <= 4 * GB
    text = limits_text(replace(limits, memory=3 * GB // 2))
    assert text.startswith("memory 1.5 GB, ") and "cpu_seconds unlimited" in text
    assert "output 8 MB, timeout 120 s" in text


# over HTTP


async def create(harness: Harness, limits: Any, status: int = 200) -> Any:
    response = await harness.http.post("/session", json={"limits": limits})
    assert response.status_code == status, response.text
    return response.json()


async def test_a_session_asks_for_less(tmp_path: Path) -> None:
    async with engine_in(tmp_path, container_limits=SMALL) as harness:
        made = await create(harness, {"memory": "100 MB", "processes": None, "timeout": 5})
        expected = replace(SMALL, memory=100 * MB, timeout=5)
        assert harness.sandboxes[-1].limits == expected
        info = SessionInfo.from_json(made)
        assert info.limits == asdict(expected)
        for limits, complaint in [
            ({"memory": "1 GB"}, "limits.memory: may only be lowered; this server allows 512 MB"),
            ({"disk": "unlimited"}, "limits.disk: may only be lowered; this server allows 5 GB"),
            ({"memory": "much"}, "limits.memory: must be a size"),
            ({"ram": 1}, "limits.ram: unknown key"),
            ([1], "limits: must be a JSON object"),
        ]:
            error = await create(harness, limits, 400)
            assert complaint in error["data"]["message"]
    # what was asked for holds after a restart, and so does what the configuration says now
    async with engine_in(tmp_path, container_limits=replace(SMALL, processes=50)) as harness:
        session = harness.engine.sessions.get(info.id)
        await harness.engine.containers.started(session)
        assert harness.sandboxes[-1].limits == replace(expected, processes=50)
        copy, _ = await harness.engine.forks.fork(session, None)
        assert harness.sandboxes[-1].limits == replace(expected, processes=50)
        assert copy.bounds == session.bounds


async def test_times_of_commands(tmp_path: Path) -> None:
    limits = replace(SMALL, timeout=0.3, longest_timeout=20)
    steps = [call(("bash", {"command": "sleep 60"})), say("Done.")]
    async with engine_in(tmp_path, steps, container_limits=limits) as harness:
        session = await harness.session(
            rules=[{"permission": "*", "pattern": "*", "action": "allow"}]
        )
        path = f"/session/{session.id}/exec"
        answer = await harness.http.post(path, json={"command": "sleep 60"})
        assert answer.json()["timedOut"]
        refused = await harness.http.post(path, json={"command": "true", "timeout": 21_000})
        assert refused.status_code == 400
        assert "timeout: must be between 1 and 20000" in refused.text
        await harness.turn(session)
        (part,) = harness.recorder.parts("tool")
        assert part["state"]["output"].endswith("[killed after the timeout of 300 ms]")


async def test_through_the_client(tmp_path: Path) -> None:
    async with engine_in(tmp_path, container_limits=SMALL) as harness:
        transport = harness.http._transport
        async with AsyncClient("http://agent", token=TOKEN, transport=transport) as client:
            session = await client.create_session(limits={"processes": 20})
            found = (await session.get_info()).limits
            assert (found["processes"], found["memory"], found["cpu_seconds"]) == (
                20,
                512 * MB,
                None,
            )
            with pytest.raises(BadRequest, match=r"limits\.processes: may only be lowered"):
                await client.create_session(limits={"processes": 2000})
