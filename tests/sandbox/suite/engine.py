"""An engine whose sessions have containers of the provider under test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_magics.engine._network_config import NetworkConfig
from agent_magics.sandbox import Sandbox
from tests.support.engine_harness import Step, call, engine_in, say
from tests.support.processes import with_argument
from tests.support.proxied import SERVER, server

PATIENCE = 60.0
IDLE = 600.0
FREE = [{"permission": "bash", "pattern": "*", "action": "allow"}]


async def test_other_hosts_are_asked_about(tmp_path: Path, opens: Callable[..., Sandbox]) -> None:
    """Once, always and reject; what is listed and what is denied is no question."""

    async def resolve(host: str, port: int) -> list[str]:
        return [SERVER]

    def opened(root: Path, **options: Any) -> Sandbox:
        return opens(root, **{**options, "network": replace(options["network"], resolve=resolve)})

    def fetch(host: str, port: int) -> Step:
        url = f"http://{host}.example.org:{port}/"
        code = f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"
        return call(("bash", {"command": f'python3 -c "{code}" 2>&1'}))

    replies: dict[str, Any] = {"once": "once", "always": "always", "no": "reject"}
    config = NetworkConfig(private=(SERVER,), deny=("paste.example.org",))
    async with server() as port:
        hosts = ("listed", "once", "once", "always", "always", "no", "paste")
        steps = [*(fetch(host, port) for host in hosts), say("done")]
        async with (
            asyncio.timeout(PATIENCE),
            engine_in(tmp_path, steps, open_sandbox=opened, network=config) as harness,
        ):
            listed = f"listed.example.org:{port}"
            session = await harness.session(rules=FREE, network=(listed,))
            message = await harness.prompt(session)
            asked = []
            for count in range(1, 5):
                event = await harness.recorder.wait("permission.asked", count)
                request = event["properties"]
                asked.append(request["metadata"]["host"].partition(".")[0])
                answer = replies[asked[-1]]
                harness.engine.permissions.reply(request["id"], answer, None, session_id=None)
            await harness.recorder.wait("turn.ended", messageID=message)
            assert asked == ["once", "once", "always", "no"]
            shown = [part["state"]["output"] for part in harness.recorder.parts("tool")]
            assert [text.count("hello") for text in shown] == [1, 1, 1, 1, 1, 0, 0]
            assert "was not allowed" in shown[5] and "is not allowed here" in shown[6]
            await harness.engine.delete_session(session)


async def test_a_turn_is_taken_back(tmp_path: Path, opens: Callable[..., Sandbox]) -> None:
    """With its files, by snapshots that the agent program takes."""
    command = "echo new > kept; mkdir -p d/.git; echo x > d/.git/f; ln -s kept l; chmod 600 kept"
    steps = [call(("bash", {"command": command})), say("done")]
    async with (
        asyncio.timeout(PATIENCE),
        engine_in(tmp_path, steps, open_sandbox=opens) as harness,
    ):
        session = await harness.session(rules=FREE)
        box = await harness.engine.containers.started(session)
        await box.run("echo old > kept; chmod 640 kept")
        message = await harness.prompt(session)
        await harness.recorder.wait("turn.ended", messageID=message)
        look = "cat kept; stat -c %a kept; ls -AR"
        after = b"new\n600\n.:\nd\nkept\nl\n\n./d:\n.git\n\n./d/.git:\nf\n"
        assert (await box.run(look)).stdout == after
        path = f"/session/{session.id}"
        taken = await harness.http.post(f"{path}/revert", json={"messageID": message})
        assert taken.status_code == 200, taken.text
        assert (await box.run(look)).stdout == b"old\n640\n.:\nkept\n"
        assert (await harness.http.post(f"{path}/unrevert")).status_code == 200
        assert (await box.run(look)).stdout == after
        await harness.engine.delete_session(session)


async def test_a_container_rests_and_names_its_jobs(
    tmp_path: Path, opens: Callable[..., Sandbox], seconds: str
) -> None:
    """When nobody uses it; the next use starts it again, with its files."""
    now = 1000.0
    steps = [call(("bash", {"command": "cat kept"})), say("done")]
    async with (
        asyncio.timeout(PATIENCE),
        engine_in(tmp_path, steps, open_sandbox=opens, idle=IDLE, clock=lambda: now) as harness,
    ):
        engine = harness.engine
        session = await harness.session(rules=FREE)
        box = await engine.containers.started(session)
        await box.run(f"echo x > kept; (setsid sleep {seconds} > /dev/null 2>&1 &)")
        while await box.background() != [f"sleep {seconds}"]:
            await asyncio.sleep(0.02)  # it is not there when the command returns
        await engine.idle.look()
        now += IDLE
        await engine.idle.look()
        assert not box.alive and not with_argument(seconds)
        event = await harness.recorder.wait("container.status", status="stopped")
        lost = f"Processes that ended with it: sleep {seconds}."
        assert event["properties"]["message"].endswith(lost)
        await harness.turn(session)
        (part,) = harness.recorder.parts("tool")
        assert part["state"]["output"].startswith("x\n\n[The container was stopped after 10 min")
        assert part["state"]["output"].endswith(f"{lost}]")
        assert box.alive and engine.containers.take_notice(session) == ""
        await engine.delete_session(session)
