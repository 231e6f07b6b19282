"""The HTTP API, called directly: shapes, access, and every mistake a client can make."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from agent_magics.engine import _body
from agent_magics.engine._access import Access
from agent_magics.sandbox import Limits
from agent_magics.wire import Message, SessionInfo, SessionMetrics
from tests.support.engine_harness import TOKEN, Harness, call, engine_in, hang, say

TEXT = [{"type": "text", "text": "go"}]


async def create(harness: Harness, **values: Any) -> str:
    response = await harness.http.post("/session", json=values)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def test_health_needs_no_token(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        response = await harness.http.get("/global/health", headers={"Authorization": ""})
        assert response.json() == {
            "healthy": True,
            "version": "0.1.0",
            "engine": "agent-magics",
            "protocol": 1,
        }


async def test_sessions(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        http = harness.http
        python = {"executable": "/usr/bin/python3", "prefixes": ["/usr"]}
        first = await create(harness, title="First", python=python, metadata={"a": "é"})
        second = await create(harness, parentID=first, sandbox="local")
        assert harness.sandboxes[0].python.executable == "/usr/bin/python3"
        info = SessionInfo.from_json((await http.get(f"/session/{second}")).json())
        assert info.parent_id == first and info.sandbox == "local" and not info.isolated
        assert [s["id"] for s in (await http.get("/session")).json()] == [second, first]
        assert [s["id"] for s in (await http.get("/session?limit=1")).json()] == [second]
        assert [s["id"] for s in (await http.get("/session?search=FIRST")).json()] == [first]
        children = (await http.get(f"/session/{first}/children")).json()
        assert [s["id"] for s in children] == [second]
        await http.patch(f"/session/{first}", json={"title": "New", "time": {"archived": 5}})
        info = SessionInfo.from_json((await http.get(f"/session/{first}")).json())
        assert info.title == "New" and info.archived
        await http.patch(f"/session/{first}", json={"time": {"archived": 0}})
        assert "archived" not in (await http.get(f"/session/{first}")).json()["time"]
        assert (await http.delete(f"/session/{first}")).json() is True
        assert (await http.get("/session")).json() == []
        assert (await http.get(f"/session/{first}")).status_code == 404


async def test_a_turn_over_http(tmp_path: Path) -> None:
    async with engine_in(
        tmp_path, [call(("bash", {"command": "echo hi"})), say("Done.")]
    ) as harness:
        http, session = harness.http, await create(harness)
        response = await http.post(
            f"/session/{session}/prompt_async", json={"messageID": "msg_1", "parts": TEXT}
        )
        assert response.status_code == 204 and response.content == b""
        await harness.recorder.wait("permission.asked")
        assert (await http.get("/session/status")).json() == {session: {"type": "busy"}}
        (request,) = (await http.get(f"/permission?sessionID={session}")).json()
        assert (await http.get("/permission?sessionID=ses_other")).json() == []
        reply = await http.post(f"/permission/{request['id']}/reply", json={"reply": "always"})
        assert reply.json() is True
        await harness.recorder.wait("session.idle")
        assert (await http.get("/session/status")).json() == {}
        messages = (await http.get(f"/session/{session}/message")).json()
        user, assistant = (Message.from_json(m) for m in messages)
        assert user.info.id == "msg_1" and user.text == "go"
        assert assistant.info.parent_id == "msg_1" and assistant.text == "Done."
        assert assistant.info.model == "fake/main" and assistant.info.finish == "stop"
        one = await http.get(f"/session/{session}/message/{assistant.info.id}")
        assert one.json() == messages[1]
        last = await http.get(f"/session/{session}/message?limit=1")
        assert last.json() == messages[1:]
        metrics = SessionMetrics.from_json((await http.get(f"/session/{session}/metrics")).json())
        assert (metrics.messages, metrics.steps, metrics.tool_calls) == (2, 2, 1)
        assert metrics.cost is None
        (rule,) = (await http.get(f"/session/{session}/rule")).json()
        assert (rule["permission"], rule["pattern"], rule["action"]) == ("bash", "echo *", "allow")
        assert (await http.delete(f"/session/{session}/rule")).json() == []
        assert (await http.post(f"/session/{session}/abort")).json() is False


async def test_prompt_and_wait(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [say("Hello.")]) as harness:
        session = await create(harness)
        body = {"parts": TEXT, "model": {"providerID": "fake", "modelID": "main"}, "agent": "build"}
        response = await harness.http.post(f"/session/{session}/message", json=body)
        assert Message.from_json(response.json()).text == "Hello."


async def test_the_older_way_to_reply(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [call(("bash", {"command": "x"})), say("Ok.")]) as harness:
        http, session, other = harness.http, await create(harness), await create(harness)
        await http.post(f"/session/{session}/prompt_async", json={"parts": TEXT})
        asked = (await harness.recorder.wait("permission.asked"))["properties"]
        path = f"permissions/{asked['id']}"
        wrong = await http.post(f"/session/{other}/{path}", json={"response": "once"})
        assert wrong.status_code == 404
        right = await http.post(f"/session/{session}/{path}", json={"response": "reject"})
        assert right.json() is True
        await harness.recorder.wait("session.idle")


async def test_what_clients_of_opencode_ask_for(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        for path, keys in {
            "/config": {"model"},
            "/config/providers": {"providers", "default"},
            "/provider": {"all", "default", "connected"},
            "/path": {"home", "state", "config", "worktree", "directory"},
            "/project/current": {"id", "worktree", "time", "sandboxes"},
        }.items():
            assert set((await harness.http.get(path)).json()) == keys
        agents = (await harness.http.get("/agent")).json()
        assert [a["name"] for a in agents] == ["build", "plan", "general", "explore"]
        assert agents[0]["permission"]
        commands = (await harness.http.get("/command")).json()
        assert {"name", "template", "hints", "source"} <= set(commands[0])


# The container


async def test_exec(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        session = await create(harness)
        body = {
            "command": "cat; echo $X; pwd >&2; exit 7",
            "stdin": base64.b64encode(b"in ").decode(),
            "env": {"X": "y"},
        }
        response = await harness.http.post(f"/session/{session}/exec", json=body)
        result = response.json()
        assert result["stdout"] == "in y\n" and result["stderr"].endswith("workspace\n")
        assert result["exitCode"] == 7 and not result["timedOut"] and not result["truncated"]
        slow = {"command": "sleep 30", "timeout": 50}
        result = (await harness.http.post(f"/session/{session}/exec", json=slow)).json()
        assert result["timedOut"] and result["exitCode"] == 124
        # It never becomes a part of the conversation.
        assert (await harness.http.get(f"/session/{session}/message")).json() == []


async def test_files_are_exact_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    async with engine_in(tmp_path) as harness:
        http, session = harness.http, await create(harness)
        at = f"/session/{session}/fs"
        path = {"path": "/workspace/dir/a é&.bin"}
        written = await http.put(at, params=path, content=data)
        assert written.json() == {"path": path["path"], "size": len(data)}
        read = await http.get(at, params=path)
        assert read.content == data and read.headers["content-type"] == "application/octet-stream"
        for wanted, expected in {
            "bytes=0-9": data[:10],
            "bytes=1279990-": data[1279990:],
            "bytes=-5": data[-5:],
            "bytes=5-99999999": data[5:],
        }.items():
            part = await http.get(at, params=path, headers={"Range": wanted})
            assert part.status_code == 206 and part.content == expected
        beyond = await http.get(at, params=path, headers={"Range": "bytes=9999999-"})
        assert beyond.status_code == 416
        assert beyond.headers["content-range"] == f"bytes */{len(data)}"
        listing = (await http.get(f"{at}/list", params={"recursive": "true"})).json()
        assert [(f["path"], f["kind"]) for f in listing] == [
            ("/workspace/dir", "directory"),
            ("/workspace/dir/a é&.bin", "file"),
        ]
        assert (await http.delete(at, params=path)).json() is True
        missing = await http.get(at, params=path)
        assert missing.status_code == 404 and missing.json()["name"] == "FileNotFoundError"


async def test_files_whose_names_are_no_utf8(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        session = await create(harness)
        (harness.sandboxes[0].workspace / "a\udcff.txt").write_text("x")
        (entry,) = (await harness.http.get(f"/session/{session}/fs/list")).json()
        assert entry["path"] == "/workspace/a\udcff.txt"
        read = await harness.http.get(f"/session/{session}/fs?path=/workspace/a%FF.txt")
        assert read.content == b"x"


async def test_files_are_never_run_by_a_browser(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        session = await create(harness)
        at, path = f"/session/{session}/fs", {"path": "page.html"}
        await harness.http.put(at, params=path, content=b"<script>alert(1)</script>")
        headers = (await harness.http.get(at, params=path)).headers
        assert headers["content-security-policy"] == "sandbox"
        assert headers["x-content-type-options"] == "nosniff"


async def test_no_container_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_in(tmp_path) as harness:
        from tests.support.fake_sandbox import FakeSandbox

        monkeypatch.setattr(FakeSandbox, "unavailable", "User namespaces are off.")
        response = await harness.http.post("/session", json={})
        assert response.status_code == 503
        assert response.json() == {
            "name": "SandboxUnavailableError",
            "data": {"message": "User namespaces are off.", "nextStep": "Install it."},
        }
        assert (await harness.http.get("/session")).json() == []
        assert list((tmp_path / "sessions").iterdir()) == []
        assert harness.recorder.events == []


# Access


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Token {TOKEN}",
        "Basic ???",
        "Basic " + base64.b64encode(b"user:wrong").decode(),
        "Basic " + base64.b64encode(TOKEN.encode()).decode(),
        "Bearer \xff\xfe",
    ],
)
async def test_wrong_tokens(tmp_path: Path, authorization: str) -> None:
    async with engine_in(tmp_path) as harness:
        headers = {"Authorization": authorization.encode("latin-1")}
        for path in ("/session", "/event", "/nothing/here", "/lease"):
            response = await harness.http.get(path, headers=headers)
            assert response.status_code == 401, path
            assert response.json()["name"] == "UnauthorizedError"
            assert "www-authenticate" in response.headers


async def test_the_token_as_a_password(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as harness:
        response = await harness.http.get("/session", auth=("opencode", TOKEN))
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "10.1.2.3"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "127.0.0.1:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "agent"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8888"}, 403),
        ({"Origin": "http://agent"}, 200),
    ],
)
async def test_foreign_hosts_and_pages(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with engine_in(tmp_path) as harness:
        for path in ("/session", "/global/health"):
            assert (await harness.http.get(path, headers=headers)).status_code == status


def test_hosts_of_a_public_address() -> None:
    async def app(*_: object) -> None: ...

    access = Access(app, token="t", private=False, hosts=["agents.example.org"])
    assert access._is_ours("agents.example.org:443") and access._is_ours("192.0.2.7:80")
    assert not access._is_ours("evil.example") and not access._is_ours("agents")


# Mistakes

SES = "/session/{id}"
MISTAKES: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/nothing", {}, 404),
    ("GET", "/session/", {}, 404),
    ("GET", "/session/ses_nobody", {}, 404),
    ("GET", "/session/%00%ff", {}, 404),
    ("PUT", "/session", {}, 405),
    ("DELETE", "/event", {}, 405),
    ("PATCH", "/session/ses_nobody", {"json": {"title": "x"}}, 404),
    ("DELETE", "/session/ses_nobody", {}, 404),
    ("GET", "/session?limit=-1", {}, 400),
    ("GET", "/session?limit=99999999999999999999", {}, 400),
    ("GET", "/event?lastEventId=x", {}, 400),
    ("GET", "/session/ses_nobody/event", {}, 404),
    ("GET", SES + "/event", {"headers": {"Last-Event-ID": "-5"}}, 400),
    ("GET", SES + "/event?lastEventId=1e9", {}, 400),
    ("POST", "/session", {"content": b"{"}, 400),
    ("POST", "/session", {"content": b"\xff\xfe{}"}, 400),
    ("POST", "/session", {"content": b'{"a": NaN}'}, 400),
    ("POST", "/session", {"content": b"[" * 200_000}, 400),
    ("POST", "/session", {"content": b'{"a":' + b"9" * 10_000 + b"}"}, 400),
    ("POST", "/session", {"json": []}, 400),
    ("POST", "/session", {"json": "x"}, 400),
    ("POST", "/session", {"json": {"title": 1}}, 400),
    ("POST", "/session", {"content": b'{"title": "\\ud800"}'}, 400),
    ("POST", "/session", {"json": {"parentID": "ses_nobody"}}, 404),
    ("POST", "/session", {"json": {"sandbox": "chroot"}}, 400),
    ("POST", "/session", {"json": {"model": "fake/main"}}, 400),
    ("POST", "/session", {"json": {"model": {"providerID": "x", "id": "y"}}}, 404),
    ("POST", "/session", {"json": {"python": {"executable": "python"}}}, 400),
    ("POST", "/session", {"json": {"permission": [{"permission": "x"}]}}, 400),
    (
        "POST",
        "/session",
        {"json": {"permission": [{"permission": "x", "pattern": "*", "action": "maybe"}]}},
        400,
    ),
    ("POST", "/session", {"json": {"metadata": 5}}, 400),
    ("POST", "/session", {"json": {"agent": "nobody"}}, 404),
    ("POST", "/session", {"json": {"agent": 5}}, 400),
    ("POST", "/session", {"json": {"agentConfig": "build"}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"name": "a b"}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"name": 5}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"colour": "red"}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"model": "main"}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"model": "fake/nope"}}}, 404),
    ("POST", "/session", {"json": {"agentConfig": {"instructions": 5}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"temperature": 9}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"temperature": True}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"tools": {"bash": "no"}}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"mode": "sub"}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"permission": {"bash": "maybe"}}}}, 400),
    ("POST", "/session", {"json": {"agentConfig": {"permission": [{"pattern": "*"}]}}}, 400),
    ("POST", "/session", {"content": b'{"agentConfig": {"instructions": "\\ud800"}}'}, 400),
    ("GET", "/session?roots=perhaps", {}, 400),
    ("DELETE", SES + "/rule?id=rul_nothing", {}, 404),
    ("POST", SES + "/abort", {"json": {"messageID": 5}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "agent": "nobody"}}, 404),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "onPermission": "always"}}, 400),
    ("PATCH", SES, {"json": {"time": {"archived": "x"}}}, 400),
    ("PATCH", SES, {"json": {"time": {"archived": True}}}, 400),
    ("PATCH", SES, {"content": b'{"time": {"archived": 1e400}}'}, 400),
    ("PATCH", SES, {"content": b""}, 400),
    ("GET", SES + "/message?limit=x", {}, 400),
    ("GET", SES + "/message/msg_nothing", {}, 404),
    ("POST", SES + "/message", {"json": {}}, 400),
    ("POST", "/session/ses_nobody/message", {"json": {"parts": TEXT}}, 404),
    ("POST", SES + "/prompt_async", {"json": {"parts": []}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": [{"type": "text", "text": " \n"}]}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": "x"}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": ["x"]}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": [{"type": "audio"}]}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": [{"type": "text"}]}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT * 1001}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "messageID": "x"}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "messageID": "msg_" + "x" * 99}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "messageID": "msg_a\n"}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "environ": {"A": 1}}}, 400),
    ("POST", SES + "/prompt_async", {"json": {"parts": TEXT, "environ": []}}, 400),
    (
        "POST",
        SES + "/prompt_async",
        {"json": {"parts": TEXT, "model": {"providerID": "fake", "modelID": "nope"}}},
        404,
    ),
    (
        "POST",
        SES + "/prompt_async",
        {"json": {"parts": TEXT, "model": {"providerID": "fake", "modelID": "locked"}}},
        401,
    ),
    ("POST", "/permission/per_nothing/reply", {"json": {"reply": "once"}}, 404),
    ("POST", "/permission/per_nothing/reply", {"json": {"reply": "perhaps"}}, 400),
    ("POST", "/permission/per_nothing/reply", {"json": {}}, 400),
    ("POST", SES + "/permissions/per_nothing", {"json": {"response": "once"}}, 404),
    ("POST", SES + "/command", {"json": {}}, 400),
    ("POST", SES + "/command", {"json": {"command": "nothing"}}, 404),
    ("POST", SES + "/command", {"json": {"command": "review", "arguments": 5}}, 400),
    ("POST", SES + "/command", {"json": {"command": "review", "model": "fake"}}, 404),
    (
        "POST",
        SES + "/command_async",
        {"content": b'{"command":"review","arguments":"\\ud800"}'},
        400,
    ),
    ("POST", SES + "/command_async", {"json": {"command": "review", "parts": ["x"]}}, 400),
    ("POST", "/session/ses_nobody/command", {"json": {"command": "review"}}, 404),
    ("GET", "/command?sessionID=ses_nobody", {}, 404),
    ("GET", SES + "/artifact/none", {}, 404),
    ("GET", SES + "/artifact/", {}, 404),
    ("GET", SES + "/artifact/%2E%2E/%2E%2E/etc/passwd", {}, 404),
    ("GET", SES + "/artifact/%00", {}, 404),
    ("GET", SES + "/artifact/" + "x" * 300, {}, 404),
    ("PUT", SES + "/artifact/a", {"content": b"x"}, 405),
    ("GET", "/session/ses_nobody/artifact", {}, 404),
    ("GET", "/session/ses_nobody/artifact/a", {}, 404),
    ("POST", SES + "/exec", {"json": {}}, 400),
    ("POST", SES + "/exec", {"json": {"command": ""}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "a\0b"}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "x", "timeout": "1"}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "x", "timeout": -1}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "x", "stdin": "%"}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "x", "env": {"A=B": "x"}}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "x", "env": {"A": "\0"}}}, 400),
    ("POST", SES + "/exec", {"json": {"command": "x", "cwd": "/no/such"}}, 404),
    ("POST", "/session/ses_nobody/exec", {"json": {"command": "x"}}, 404),
    ("POST", "/session/ses_nobody/exec/exe_1/interrupt", {}, 404),
    ("POST", SES + "/exec/exe_1/interrupt", {"json": {"kill": "yes"}}, 400),
    ("GET", SES + "/fs", {}, 400),
    ("GET", SES + "/fs?path=%00", {}, 400),
    ("GET", SES + "/fs?path=/workspace", {}, 400),
    ("GET", SES + "/fs?path=/workspace/none", {}, 404),
    ("GET", SES + "/fs?path=/workspace/" + "x" * 300, {}, 400),
    ("DELETE", SES + "/fs?path=/workspace/none", {}, 404),
    ("PUT", SES + "/fs?path=/proc/nope/x", {"content": b"x"}, 404),
    ("GET", SES + "/fs/list?path=/none", {}, 404),
    ("GET", SES + "/fs/list?recursive=perhaps", {}, 400),
    ("GET", SES + "/fs/list?limit=many", {}, 400),
]


@pytest.mark.parametrize(("method", "path", "request_", "status"), MISTAKES)
async def test_mistakes(
    tmp_path: Path,
    method: str,
    path: str,
    request_: dict[str, Any],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with engine_in(tmp_path) as harness:
        session = await create(harness)
        response = await harness.http.request(method, path.format(id=session), **request_)
        assert response.status_code == status, response.text
        error = response.json()
        assert error["name"] and error["data"]["message"]
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
        # And the session is as usable as before.
        assert (await harness.http.get(f"/session/{session}")).status_code == 200
        assert harness.engine.status() == {}


async def test_bodies_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_in(tmp_path, container_limits=Limits(file_size=1000)) as harness:
        session = await create(harness)
        read_body = _body.read_body.__defaults__
        monkeypatch.setattr(_body.read_body, "__defaults__", (1000,))

        async def chunks() -> Any:
            for _ in range(20):
                yield b"x" * 100

        for content in (b"x" * 2000, chunks()):
            response = await harness.http.put(f"/session/{session}/fs?path=a", content=content)
            assert response.status_code == 413
            assert response.json()["name"] == "TooLargeError"
            assert response.json()["data"]["limit"] == 1000
        assert (await harness.http.get(f"/session/{session}/fs?path=a")).status_code == 404
        response = await harness.http.post("/session", content=b"x" * 2000)
        assert response.status_code == 413
        assert read_body == (64 << 20,)


async def test_busy_is_a_conflict(tmp_path: Path) -> None:
    async with engine_in(tmp_path, [hang()]) as harness:
        session = await create(harness)
        at = f"/session/{session}"
        await harness.http.post(f"{at}/prompt_async", json={"parts": TEXT})
        for path in ("prompt_async", "message"):
            response = await harness.http.post(f"{at}/{path}", json={"parts": TEXT})
            assert response.status_code == 409 and response.json()["name"] == "SessionBusyError"
        assert (await harness.http.post(f"{at}/abort")).json() is True


async def test_the_unforeseen_has_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_in(tmp_path) as harness:

        def broken() -> str:
            raise ZeroDivisionError("what the user said")

        monkeypatch.setattr(harness.registry, "default", broken)
        response = await harness.http.get("/config")
        assert response.status_code == 500
        ref = response.json()["data"]["ref"]
        assert ref in caplog.text and "ZeroDivisionError" in caplog.text
        assert "what the user said" not in response.text + caplog.text


async def test_keys_are_nowhere_but_in_the_turn(tmp_path: Path) -> None:
    key = "sk-secret-abcdefghijk"
    async with engine_in(tmp_path, [say("ok")]) as harness:
        session = await create(harness)
        body = {"parts": TEXT, "environ": {"OPENAI_API_KEY": key}}
        await harness.http.post(f"/session/{session}/message", json=body)
        assert harness.registry.environs == [{"OPENAI_API_KEY": key}]
        assert key not in json.dumps(harness.recorder.events)
    assert key.encode() not in b"".join(p.read_bytes() for p in tmp_path.glob("engine.db*"))
