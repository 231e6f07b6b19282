"""The engine as a process: start, crash in mid-turn and recovery, leases, signals, its log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engine_harness import eventually
from tests.support.engine_process import PATIENCE, EngineProcess, started
from tests.support.scripted_llm import ThreadedLLM

KEY = "sk-scripted-0123456789"
TOOL = {"tool": {"name": "bash", "args": {"command": "echo begun; sleep 60"}, "id": "call_1"}}
READ = {"tool": {"name": "todoread", "args": {}, "id": "call_0"}}
RULE = [{"permission": "bash", "pattern": "*", "action": "allow"}]
SCRIPT: dict[str, Any] = {
    "api_keys": [KEY],
    "default": "text",
    "scenarios": {
        "text": {"turns": [{"do": [{"text": "Once upon a time"}, {"wait": 60}]}]},
        "tool": {"turns": [{"do": [{"text": "Let me look. "}, READ, TOOL]}]},
        "quick": {"turns": [{"do": [{"text": "Done."}]}]},
        "sum": {"turns": [{"do": [{"text": "Half a summary"}, {"wait": 60}]}]},
        "refuse": {"turns": [{"fail": [{"status": 401, "message": f"bad key {KEY}"}]}]},
    },
}


@pytest.fixture(scope="module")
def llm() -> Iterator[ThreadedLLM]:
    with ThreadedLLM(SCRIPT) as llm:
        yield llm


def engine_for(llm: ThreadedLLM, model: str) -> EngineProcess:
    return EngineProcess(model_url=llm.base_url, model=model)


async def session_of(client: httpx.AsyncClient, **values: Any) -> str:
    response = await client.post("/session", json=values)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def send(
    client: httpx.AsyncClient, session: str, message_id: str, model: str | None = None
) -> None:
    body: dict[str, Any] = {"messageID": message_id, "parts": [{"type": "text", "text": "go on"}]}
    if model is not None:
        body["model"] = {"providerID": "scripted", "modelID": model}
    response = await client.post(f"/session/{session}/prompt_async", json=body)
    assert response.status_code == 204, response.text


class Watch:
    """All events of a session, from the first, read until something comes."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.connected = asyncio.Event()

    async def until(self, client: httpx.AsyncClient, session: str, type: str, **state: Any) -> None:
        last = self.events[-1]["seq"] if self.events else 0
        path = f"/session/{session}/event?lastEventId={last}"
        async with asyncio.timeout(PATIENCE), client.stream("GET", path) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = json.loads(line[6:])
                self.connected.set()
                if "seq" in event:
                    self.events.append(event)
                if event["type"] == type and state.items() <= event["properties"].items():
                    return

    def of(self, type: str) -> list[dict[str, Any]]:
        return [e["properties"] for e in self.events if e["type"] == type]


# Crashes


@pytest.mark.parametrize(
    ("model", "when"),
    [("text", "message.part.delta"), ("tool", "tool.output"), ("ask", "permission.asked")],
)
async def test_sigkill_in_mid_turn(llm: ThreadedLLM, model: str, when: str) -> None:
    with engine_for(llm, "tool" if model == "ask" else model) as engine:
        watch = Watch()
        async with started(engine) as client:
            rules = [] if model == "ask" else RULE
            session = await session_of(client, permission=rules)
            await send(client, session, "msg_cut")
            await watch.until(client, session, when)
            await engine.end(signal.SIGKILL)
        before = watch.events[-1]["seq"]
        async with started(engine) as client:
            await watch.until(client, session, "session.idle")
            check_recovery(watch, before, model)
            info = (await client.get(f"/session/{session}")).json()
            assert info["error"] == watch.of("turn.ended")[-1]["error"]
            await send(client, session, "msg_next", "quick")
            await watch.until(client, session, "turn.ended", messageID="msg_next")
            assert watch.of("turn.ended")[-1]["outcome"] == "completed"
            messages = (await client.get(f"/session/{session}/message")).json()
            assert [m["info"]["role"] for m in messages] == ["user", "assistant"] * 2
            assert (await client.get("/permission")).json() == []
            assert (await client.get("/session/status")).json() == {}
            assert "error" not in (await client.get(f"/session/{session}")).json()
            assert await engine.end(signal.SIGTERM) == 0
        numbers = [e["seq"] for e in watch.events]
        assert numbers == sorted(set(numbers))
        check_history(llm.log[-1]["body"]["messages"], model)
        if model != "text":
            return
        # The turn is closed for good: another start adds nothing.
        async with started(engine) as client:
            ended = len(watch.of("turn.ended"))
            await client.patch(f"/session/{session}", json={"title": "last"})
            await watch.until(client, session, "session.updated")
            assert watch.of("session.updated")[-1]["info"]["title"] == "last"
            assert len(watch.of("turn.ended")) == ended == 2
            await engine.end(signal.SIGTERM)


def check_recovery(watch: Watch, before: int, model: str) -> None:
    (ended,) = watch.of("turn.ended")
    assert ended["messageID"] == "msg_cut" and ended["outcome"] == "error"
    assert ended["error"]["name"] == "EngineStoppedError"
    after = [e["type"] for e in watch.events if e["seq"] > before]
    assert after[-3:] == ["turn.ended", "session.status", "session.idle"]
    parts = {p["part"]["id"]: p["part"] for p in watch.of("message.part.updated")}
    for part in parts.values():
        if part["type"] == "tool":
            assert part["state"]["status"] in ("completed", "error")
    answer = watch.of("message.updated")[-1]["info"]
    assert answer["time"]["completed"] and answer["error"] == ended["error"]
    texts = [p["text"] for p in parts.values() if p["type"] == "text"]
    assert texts[1].startswith("Once" if model == "text" else "Let me look.")
    if model == "tool":
        states = {p["tool"]: p["state"] for p in parts.values() if p["type"] == "tool"}
        assert states["todoread"]["status"] == "completed"
        assert states["bash"]["metadata"]["output"] == "begun\n"
    if model == "ask":
        (asked,), (replied,) = watch.of("permission.asked"), watch.of("permission.replied")
        assert replied["requestID"] == asked["id"] and replied["reply"] == "reject"


def check_history(messages: list[dict[str, Any]], model: str) -> None:
    """What the model was sent for the turn after the crash."""
    assert [m["content"] for m in messages if m["role"] == "user"] == ["go on"] * 2
    if model == "text":
        assert "Once" in next(m["content"] for m in messages if m["role"] == "assistant")
        return
    results = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    assert set(results) == {"call_0", "call_1"}
    assert "stopped" in results["call_1"]


async def test_sigkill_while_a_summary_is_written(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        watch = Watch()
        async with started(engine) as client:
            session = await session_of(client)
            await send(client, session, "msg_first")
            await watch.until(client, session, "session.idle")
            body = {"providerID": "scripted", "modelID": "sum"}
            path = f"/session/{session}/summarize"
            asking = asyncio.create_task(client.post(path, json=body))
            await watch.until(client, session, "message.part.delta")
            await engine.end(signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                await asking
        async with started(engine) as client:
            await watch.until(client, session, "session.idle")
            first, ended = watch.of("turn.ended")
            assert first["outcome"] == "completed"
            assert ended["error"]["name"] == "EngineStoppedError"
            summary = (await client.get(f"/session/{session}/message")).json()[-1]
            assert summary["info"]["summary"] is True
            assert summary["info"]["error"] == ended["error"]
            assert summary["parts"][1]["text"].startswith("Half")
            await send(client, session, "msg_next", "quick")
            await watch.until(client, session, "turn.ended", messageID="msg_next")
            assert watch.of("turn.ended")[-1]["outcome"] == "completed"
            assert watch.of("session.compacted") == []
            await engine.end(signal.SIGTERM)
        said = [m["content"] for m in llm.log[-1]["body"]["messages"] if m["role"] != "system"]
        assert said == ["go on", "Done.", "go on"]


async def test_accepted_means_durable(llm: ThreadedLLM) -> None:
    """Whatever was acknowledged is there after a SIGKILL right after the acknowledgement."""
    with engine_for(llm, "quick") as engine:
        async with started(engine) as client:
            session = await session_of(client, title="kept")
            await send(client, session, "msg_kept")
            await engine.end(signal.SIGKILL)
        async with started(engine) as client:
            assert (await client.get(f"/session/{session}")).json()["title"] == "kept"
            watch = Watch()
            await watch.until(client, session, "session.idle")
            assert len(watch.of("turn.ended")) == 1
            assert watch.of("message.updated")[0]["info"]["id"] == "msg_kept"
            await engine.end(signal.SIGTERM)


# Start and end


async def test_files_of_a_running_engine_are_private(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        async with started(engine) as client:
            modes = {p.name: stat.S_IMODE(p.lstat().st_mode) for p in engine.state.iterdir()}
            assert set(modes) == {f"engine.{name}" for name in ("sock", "json", "log", "work")}
            assert set(modes.values()) == {0o600}
            assert stat.S_IMODE(engine.state.lstat().st_mode) == 0o700
            assert stat.S_IMODE((engine.data / "engine.db").lstat().st_mode) == 0o600
            assert set(engine.info) == {"pid", "version", "protocol", "token", "birth"}
            assert engine.process is not None and engine.info["pid"] == engine.process.pid
            assert (await client.get("/global/health")).json()["healthy"]
            assert await engine.end(signal.SIGTERM) == 0
        assert [p.name for p in engine.state.iterdir()] == ["engine.log"]


async def test_what_stands_beside_the_configuration(llm: ThreadedLLM) -> None:
    """Commands, skills and MCP servers of the user."""
    with engine_for(llm, "quick") as engine:
        command = engine.directory / "commands" / "plot.md"
        skill = engine.directory / "skills" / "maps" / "SKILL.md"
        for path in (command, skill):
            path.parent.mkdir(parents=True)
            path.write_text("---\ndescription: About it\n---\nText $1")
        with engine.config.open("a") as file:
            file.write('[commands.test]\ntemplate = "Test $path"\n')
            file.write('[mcp.off]\ncommand = "server"\nenabled = false\n')
        async with started(engine) as client:
            found = {c["name"]: c["template"] for c in (await client.get("/command")).json()}
            assert found["plot"] == "Text $1" and found["test"] == "Test $path"
            assert (await client.get("/mcp")).json() == {"off": {"status": "disabled"}}
            session = (await client.post("/session", json={})).json()["id"]
            body = {"command": "plot", "arguments": "x"}
            await client.post(f"/session/{session}/command", json=body)
        request = llm.log[-1]
        names = {t["function"]["name"]: t["function"] for t in request["body"]["tools"]}
        assert "maps: About it" in names["skill"]["description"]
        assert {"batch", "webfetch", "artifact"} <= set(names)


async def test_clients_may_come_before_it_is_ready(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        engine.start()
        await eventually(lambda: (engine.state / "engine.json").exists())
        async with engine.client() as client:
            assert (await client.get("/session")).json() == []
        await engine.ready()
        await engine.end(signal.SIGTERM)


async def test_it_leaves_after_the_last_lease(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        async with started(engine, grace=0.5) as client:
            async with client.stream("GET", "/lease") as response:
                lines = response.aiter_lines()
                await anext(lines)
                async with client.stream("GET", "/lease") as second:
                    await anext(more := second.aiter_lines())
                    await more.aclose()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.5):
                        await engine.ended()
            assert await engine.ended() == 0
        assert "nobody was here" in engine.log
        assert not (engine.state / "engine.sock").exists()


async def test_a_command_ends_with_its_caller(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        async with started(engine, grace=1) as client:
            path = f"/session/{await session_of(client)}"
            body = {"command": "touch begun; sleep 600", "timeout": 600_000}
            calling = asyncio.create_task(client.post(f"{path}/exec", json=body))
            async with asyncio.timeout(PATIENCE):
                while (await client.get(f"{path}/fs?path=begun")).status_code != 200:
                    assert not calling.done()
            calling.cancel()
            await asyncio.wait([calling])
        assert await engine.ended() == 0  # it is held by a command as long as that runs


async def test_it_stays_while_a_turn_runs(llm: ThreadedLLM) -> None:
    with engine_for(llm, "text") as engine:
        async with started(engine, grace=0.3) as client:
            session = await session_of(client)
            await send(client, session, "msg_long")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await engine.ended()
        async with engine.client() as client:
            assert (await client.post(f"/session/{session}/abort")).json() is True
        assert await engine.ended() == 0


async def test_sigterm_in_mid_tool_tells_the_readers(llm: ThreadedLLM) -> None:
    with engine_for(llm, "tool") as engine:
        async with started(engine) as client:
            session = await session_of(client, permission=RULE)
            await send(client, session, "msg_1")
            watch = Watch()
            await watch.until(client, session, "tool.output")
            watch.connected.clear()
            rest = asyncio.create_task(watch.until(client, session, "session.idle"))
            await watch.connected.wait()
            pids = _sleepers(engine)
            assert pids
            assert await engine.end(signal.SIGTERM) == 0
            await rest
            assert watch.of("turn.ended")[0]["outcome"] == "aborted"
            await eventually(lambda: not any(Path(f"/proc/{p}").exists() for p in pids))
        async with started(engine) as client:
            messages = (await client.get(f"/session/{session}/message")).json()
            assert messages[1]["info"]["error"]["name"] == "MessageAbortedError"
            await engine.end(signal.SIGTERM)


def _sleepers(engine: EngineProcess) -> list[int]:
    """Processes of the session's command."""
    assert engine.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                cwd = os.readlink(entry / "cwd")
            except OSError:
                continue
            if command.startswith(b"sleep\x0060") and str(engine.data) in cwd:
                found.append(int(entry.name))
    return found


async def test_one_engine_per_directory(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine, engine_for(llm, "quick") as other:
        async with started(engine):
            first = engine.process
            engine.start()
            assert await engine.ended() == 0
            assert first is not None
            assert f"process {first.pid} serves {engine.data} already" in engine.stderr
            engine.process = first
            async with engine.client() as client:
                assert (await client.get("/global/health")).status_code == 200
            await engine.end(signal.SIGTERM)
        assert other.process is None


@pytest.mark.parametrize("mode", [0o755, 0o701])
async def test_an_open_state_directory_is_refused(llm: ThreadedLLM, mode: int) -> None:
    with engine_for(llm, "quick") as engine:
        engine.state.mkdir()
        engine.state.chmod(mode)
        engine.start()
        assert await engine.ended() == 1
        assert "open to other users" in engine.stderr


async def test_a_link_as_state_directory_is_refused(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        (engine.directory / "elsewhere").mkdir(mode=0o700)
        engine.state.symlink_to(engine.directory / "elsewhere")
        engine.start()
        assert await engine.ended() == 1
        assert "not a directory" in engine.stderr


async def test_a_bad_configuration_is_explained(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        engine.config.write_text("modle = 1")
        engine.start()
        assert await engine.ended() == 1
        assert "modle" in engine.stderr and "Traceback" not in engine.stderr


async def test_a_stale_socket_is_replaced(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        engine.state.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(engine.state / "engine.sock"))
        async with started(engine) as client:
            assert (await client.get("/session")).json() == []
            await engine.end(signal.SIGTERM)


async def test_tcp(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        process = engine.start("--host", "127.0.0.1", "--port", "0")
        await engine.ready()
        assert process.stdout is not None
        info = json.loads(process.stdout.readline())
        headers = {"Authorization": f"Bearer {info['token']}"}
        async with httpx.AsyncClient(base_url=info["url"], headers=headers) as client:
            assert (await client.get("/session")).json() == []
            foreign = await client.get("/session", headers={"Host": "evil.example"})
            assert foreign.status_code == 403
        assert not (engine.state / "engine.sock").exists()
        await engine.end(signal.SIGINT)


async def test_what_deleted_sessions_left_is_swept(llm: ThreadedLLM) -> None:
    with engine_for(llm, "quick") as engine:
        async with started(engine) as client:
            session = await session_of(client)
            await client.put(f"/session/{session}/fs?path=kept.txt", content=b"kept")
            await engine.end(signal.SIGTERM)
        stale = engine.data / "sessions" / "ses_stale"
        (stale / "workspace" / "locked").mkdir(parents=True)
        (stale / "workspace" / "locked").chmod(0)
        (stale / ".ended").touch()  # its end was asked for when the store was full
        async with started(engine) as client:
            assert not stale.exists()
            kept = await client.get(f"/session/{session}/fs?path=kept.txt")
            assert kept.content == b"kept"
            await engine.end(signal.SIGTERM)


async def test_keys_prompts_and_tokens_are_not_in_log_and_database(llm: ThreadedLLM) -> None:
    with engine_for(llm, "refuse") as engine:
        async with started(engine) as client:
            session = await session_of(client)
            body = {"parts": [{"type": "text", "text": "a very private prompt"}]}
            answer = (await client.post(f"/session/{session}/message", json=body)).json()
            assert answer["info"]["error"]["name"] == "ProviderAuthError"
            assert KEY not in json.dumps(answer)
            token = engine.info["token"]
            await engine.end(signal.SIGTERM)
        assert "private" not in engine.log + engine.stderr
        for secret in (KEY, token):
            assert secret not in engine.log + engine.stderr
            for path in engine.data.glob("engine.db*"):
                assert secret.encode() not in path.read_bytes()
