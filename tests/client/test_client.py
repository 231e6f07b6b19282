"""Requests: what is sent, what comes back, and what happens to errors."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magics.client import (
    AgentError,
    ApiError,
    AsyncClient,
    AuthError,
    BadRequest,
    Busy,
    Conflict,
    ConnectionFailed,
    EngineStartError,
    FileMissing,
    MessageRemoved,
    ModelNotFound,
    NotFound,
    NotText,
    PermissionNotFound,
    ProtocolError,
    ProtocolMismatch,
    ProviderAuth,
    RateLimited,
    SandboxUnavailable,
    ServerError,
    SessionNotFound,
    TooLarge,
)
from tests.support.fake_engine import FakeEngine
from tests.support.fake_launcher import FakeLauncher, async_client
from tests.support.waiting import until

HEALTH = {"healthy": True, "version": "9", "engine": "agent-magics", "protocol": 1}

Handler = Callable[[httpx.Request], httpx.Response]


def mocked(handler: Handler, health: Any = HEALTH, **options: Any) -> AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/global/health":
            return httpx.Response(200, json=health)
        return handler(request)

    return AsyncClient("http://agent", transport=httpx.MockTransport(answer), **options)


def refusing(status: int, body: Any = None, **headers: str) -> AsyncClient:
    content = json.dumps(body) if body is not None else "<html>"
    return mocked(lambda request: httpx.Response(status, content=content, headers=headers))


# -- what users ask for ---------------------------------------------------------------------------


async def test_sessions(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        assert (await client.health()).engine == "agent-magics"
        assert await client.providers() == {"providers": [], "default": {}}
        session = await client.create_session("A title", model="demo/guide/x", sandbox="local")
        sent = engine.seen("POST", "/session")[0].json
        assert sent["model"] == {"providerID": "demo", "id": "guide/x"}
        assert (sent["title"], sent["sandbox"]) == ("A title", "local")
        assert Path(sent["python"]["executable"]).exists()
        assert sent["python"]["prefixes"]
        info = await session.get_info()
        assert (info.id, info.title, info.status) == (session.id, "A title", "idle")
        assert (info.sandbox, info.isolated) == ("bubblewrap", True)
        assert [i.id for i in await client.list_sessions()] == [session.id]
        await session.update(title="Other", archived=True)
        assert (await session.get_info()).archived
        await session.update(archived=False)
        assert not (await session.get_info()).archived
        requests = len(engine.requests)
        await session.update()
        assert len(engine.requests) == requests
        assert (await session.get_metrics()).messages == 2
        assert [todo.content for todo in await session.get_todos()] == ["one"]
        assert await session.get_messages() == []
        assert await session.get_permissions() == []
        assert not await session.abort()
        await session.end()
        await session.end()
        with pytest.raises(SessionNotFound, match="no such session"):
            await session.get_info()


async def test_options_of_a_session(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        rules = [{"permission": "bash", "pattern": "*", "action": "allow"}]
        await client.create_session(permission=rules, python=None)
        assert engine.seen("POST", "/session")[-1].json == {"permission": rules}
        python = {"executable": "/usr/bin/python3", "prefixes": ["/usr"]}
        await client.create_session(python=python)
        assert engine.seen("POST", "/session")[-1].json == {"python": python}
        with pytest.raises(BadRequest, match="provider/model-id"):
            await client.create_session(model="gpt")


async def test_what_is_no_text_or_no_json(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(BadRequest, match=r"can't be sent: .*surrogates"):
            await session.send("a file named \udcff")
        with pytest.raises(BadRequest, match=r"can't be sent: .*surrogates"):
            await session.get_file("/workspace/\ud800")
        with pytest.raises(BadRequest, match=r"can't be sent: .*surrogates"):
            async for _ in session.shell_stream("echo \udcff"):
                pass
        with pytest.raises(BadRequest, match=r"can't be sent: .*JSON"):
            await client.create_session(permission=[{"permission": "bash", "x": float("nan")}])


async def test_the_status_of_a_retrying_session_is_busy(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        for status, expected in [("retry", "busy"), ("compacting", "compacting")]:
            engine.sessions[session.id].status = status
            assert (await session.get_info()).status == expected


async def test_files_are_exact_bytes(engine: FakeEngine, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "local.bin").write_bytes(data)
    async with async_client(engine) as client:
        session = await client.create_session()
        for path in ["/workspace/a b&c=ü?#.bin", "/workspace/x.html"]:
            await session.put_file(path, data)
            assert await session.get_file_buffer(path) == data
        await session.put_file("/workspace/b", tmp_path / "local.bin")
        assert await session.get_file_buffer("/workspace/b") == data
        await session.put_file("/workspace/t", "  grüße\r\n")
        for wrong in (5, None, [1]):  # bytes() would take them
            with pytest.raises(TypeError):
                await session.put_file("/workspace/w", wrong)  # type: ignore[arg-type]
        assert await session.get_file("/workspace/t") == "  grüße\r\n"
        with pytest.raises(NotText, match=r"get_file_buffer\(\) has its bytes"):
            await session.get_file("/workspace/b")
        with pytest.raises(FileMissing, match="No file /nope"):
            await session.get_file_buffer("/nope")
        entries = await session.list_files(recursive=True)
        assert [(e.path, e.size) for e in entries][:2] == [
            ("/workspace/a b&c=ü?#.bin", 256_000),
            ("/workspace/b", 256_000),
        ]
        assert engine.requests[-1].query == {"path": "/workspace", "recursive": "true"}


async def test_an_id_cannot_lead_elsewhere(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        await client.create_session()
        with pytest.raises(SessionNotFound):
            await client.session("../session/ses_1").get_info()
        with pytest.raises(PermissionNotFound):
            await client.session("ses_1").reply_to_permission("../x", "once")
        assert engine.seen("POST", "/permission/..%2Fx/reply")


async def test_commands(engine: FakeEngine) -> None:
    snowman = "☃".encode()
    engine.exec_frames = [
        ("stdout", b"a" + snowman[:1]),
        ("stderr", b"oops\n"),
        ("stdout", snowman[1:] + b"\xff"),
        ("stdout", snowman[:2]),
        ("exit", {"exitCode": 3, "timedOut": False, "truncated": True}),
    ]
    async with async_client(engine) as client:
        session = await client.create_session()
        got: list[tuple[str, str]] = []
        result = await session.shell(
            "x", cwd="/tmp", env={"A": "b"}, stdin=b"in", timeout=timedelta(seconds=2),
            on_output=lambda stream, text: got.append((stream, text)),
        )  # fmt: skip
        assert (result.stdout, result.stderr) == ("a☃\ufffd\ufffd", "oops\n")
        assert (result.exit_code, result.truncated, result.timed_out) == (3, True, False)
        assert "".join(text for stream, text in got if stream == "stdout") == result.stdout
        assert engine.requests[-1].json == {
            "command": "x", "cwd": "/tmp", "env": {"A": "b"}, "stdin": "aW4=", "timeout": 2000,
        }  # fmt: skip
        async with session.shell_stream("x", timeout_ms=5) as stream:
            data = b"".join([output.data async for output in stream if output.stream == "stdout"])
        assert data == b"a" + snowman + b"\xff" + snowman[:2]
        assert stream.result == result

        async def later(stream: str, text: str) -> None:
            got.append((stream, text))

        got.clear()
        await session.shell("x", on_output=later, timeout=0.4)
        assert ("stderr", "oops\n") in got
        assert engine.requests[-1].json["timeout"] == 1


async def test_a_command_that_cannot_run(engine: FakeEngine) -> None:
    error = {"name": "NotADirectoryError", "data": {"message": "no such cwd"}}
    engine.exec_frames = [("error", error)]
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(ApiError, match="no such cwd"):
            await session.shell("x")
        engine.exec_frames = [("stdout", b"x")]
        with pytest.raises(ConnectionFailed, match="lost while the command ran"):
            await session.shell("x")
        engine.exec_frames = [("exit", {})]
        with pytest.raises(ProtocolError):
            await session.shell("x")
        engine.exec_frames = [("stdout", "no object")]
        with pytest.raises(ProtocolError):
            await session.shell("x")
        for wrong in [
            *({"timeout": 0}, {"timeout_ms": -1}, {"timeout": timedelta(0)}),
            *({"timeout": 5, "timeout_ms": 5}, {"timeout": math.inf}, {"timeout": math.nan}),
        ]:
            with pytest.raises(BadRequest, match=r"positive|two timeouts"):
                await session.shell("x", **wrong)
        with pytest.raises(BadRequest, match="empty"):
            await session.shell(" ")


async def test_leaving_a_command_ends_the_request(engine: FakeEngine) -> None:
    engine.exec_frames = [("stdout", b"x")]
    engine.exec_hangs = True

    def fail(stream: str, text: str) -> None:
        raise ZeroDivisionError

    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(ZeroDivisionError):
            await session.shell("x", on_output=fail)
        assert engine.exec_left.wait(30)


async def test_a_command_whose_engine_dies(engine: FakeEngine) -> None:
    engine.exec_frames = [("stdout", b"x")]
    engine.exec_hangs = True
    async with async_client(engine) as client:
        session = await client.create_session()
        with pytest.raises(ConnectionFailed, match="while the command ran"):
            await session.shell("x", on_output=lambda *_: engine.break_streams())


async def test_raw_events(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send("hi")
        last = len(engine.sessions[session.id].log)
        body = b""
        chunks = session.events(last - 2)
        async for chunk in chunks:
            body += chunk
            if f"id: {last}\n".encode() in body and body.endswith(b"\n\n"):
                break
        await chunks.aclose()
        assert body.startswith(b"event: message\ndata: ")
        assert body.count(b"id: ") == 2
        with pytest.raises(ConnectionFailed):
            async for _ in session.events():
                engine.break_streams()


async def test_parsed_events_survive_a_cut_at_every_byte(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send("hi")
        log = engine.sessions[session.id].log
        first, last = len(log) - 3, len(log)
        size = 0
        async for chunk in session.events(first):
            size += len(chunk)
            if f"id: {last}\n".encode() in chunk:
                break
        for cut in range(1, size, 3):
            engine.cuts = [cut]
            async with session.parsed_events(first) as events:
                seen = [await anext(events) for _ in range(last - first)]
            assert [event.seq for event in seen] == list(range(first + 1, last + 1)), cut
            assert [event.type for event in seen] == [event["type"] for event in log[first:]]


async def test_parsed_events_go_on_from_now(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        session = await client.create_session()
        await session.send("one")
        past = len(engine.sessions[session.id].log)
        async with session.parsed_events() as events:
            coming = asyncio.create_task(anext(events))
            await until(lambda: len(engine.seen("GET", "/event")) == 2)
            await session.send("two")
            assert (await coming).seq == past + 1
        with pytest.raises(SessionNotFound):
            await anext(client.session("ses_unknown").parsed_events())


# -- errors ---------------------------------------------------------------------------------------

REFUSALS = [
    (400, {"name": "BadRequest", "data": {"message": "m"}}, BadRequest),
    (401, {"name": "ProviderAuthError", "data": {"message": "m"}}, ProviderAuth),
    (401, {"name": "UnauthorizedError", "data": {"message": "m"}}, AuthError),
    (403, {"name": "ForbiddenError", "data": {"message": "m"}}, AuthError),
    (403, {"name": "FilePermissionError", "data": {"message": "m"}}, ApiError),
    (404, {"name": "NotFoundError", "data": {"message": "m"}}, SessionNotFound),
    (404, {"name": "ModelNotFoundError", "data": {"message": "m"}}, ModelNotFound),
    (404, {"_tag": "PermissionNotFoundError", "message": "m"}, PermissionNotFound),
    (409, {"name": "SessionBusyError", "data": {"message": "m"}}, Busy),
    (409, {"name": "ConflictError", "data": {"message": "m"}}, Conflict),
    (409, {"name": "MessageRemovedError", "data": {"message": "m"}}, MessageRemoved),
    (413, {"name": "TooLargeError", "data": {"message": "m"}}, TooLarge),
    (418, {"name": "Teapot", "data": {"message": "m"}}, ApiError),
    (422, {"name": "X", "data": {"message": "m"}}, BadRequest),
    (429, {"name": "X", "data": {"message": "m"}}, RateLimited),
    (500, {"name": "UnknownError", "data": {"message": "m", "ref": "err_1"}}, ServerError),
    (503, {"name": "SandboxUnavailableError", "data": {"message": "m"}}, SandboxUnavailable),
    (503, {"name": "SandboxGoneError", "data": {"message": "m"}}, ServerError),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
async def test_refusals_have_types(status: int, body: Any, kind: type[ApiError]) -> None:
    async with refusing(status, body) as client:
        with pytest.raises(AgentError) as caught:
            await client.session("ses_1").get_messages()
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.status, str(error)) == (status, "m")
    assert error.name == (body.get("name") or body["_tag"])


@pytest.mark.parametrize(("body", "kind"), [(None, NotFound), ([], NotFound), ({}, NotFound)])
async def test_refusals_without_a_sensible_body(body: Any, kind: type[ApiError]) -> None:
    async with refusing(404, body) as client:
        with pytest.raises(kind, match="404"):
            await client.providers()


async def test_retry_after_and_next_step() -> None:
    async with refusing(429, {}, **{"retry-after": "7"}) as client:
        with pytest.raises(RateLimited) as limited:
            await client.providers()
    assert limited.value.retry_after == 7.0
    assert RateLimited("m").retry_after is None
    data = {"message": "No user namespaces.", "nextStep": "Ask your administrator."}
    async with refusing(503, {"name": "SandboxUnavailableError", "data": data}) as client:
        with pytest.raises(SandboxUnavailable) as unavailable:
            await client.create_session()
    assert str(unavailable.value) == "No user namespaces. Ask your administrator."
    assert str(SandboxUnavailable("m")) == "m"


@pytest.mark.parametrize(
    "answer", [{"nonsense": 1}, [], 5, None, {"id": 1, "time": 3}, [{"info": {}}], "<html>"]
)
async def test_answers_that_make_no_sense(answer: Any) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/session/status":
            return httpx.Response(200, json={})
        if answer == "<html>":
            return httpx.Response(200, html="<html>")
        return httpx.Response(200, json=answer)

    async with mocked(handler) as client:
        session = client.session("ses_1")
        with pytest.raises(ProtocolError):
            await session.get_info()
        with pytest.raises(ProtocolError):
            await client.create_session()
        if answer != []:
            with pytest.raises(ProtocolError):
                await session.get_messages()


@pytest.mark.parametrize(
    ("status", "health", "kind"),
    [
        (200, "nonsense", ProtocolError),
        (200, {**HEALTH, "protocol": 2}, ProtocolMismatch),
        (404, None, ProtocolError),
        (401, None, AuthError),
        (403, None, AuthError),
        (500, None, ProtocolError),
    ],
)
async def test_servers_that_are_none(status: int, health: Any, kind: type[AgentError]) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=health))
    async with AsyncClient("http://agent", transport=transport, token="t") as client:
        with pytest.raises(kind):
            await client.health()


async def test_nobody_at_the_url() -> None:
    async with AsyncClient("http://127.0.0.1:1") as client:
        with pytest.raises(ConnectionFailed, match="No agent server at"):
            await client.health()


async def test_a_server_that_wants_basic() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        if not seen[-1].startswith("Basic "):
            return httpx.Response(401, headers={"www-authenticate": 'Basic realm="x"'})
        return httpx.Response(200, json={"healthy": True, "version": "1.18.33"})

    client = AsyncClient("http://agent", transport=httpx.MockTransport(answer), token="secret")
    async with client:
        assert (await client.health()).engine == ""
    assert seen == ["Bearer secret", *["Basic b3BlbmNvZGU6c2VjcmV0"] * 2]


async def test_a_url_server_that_goes_away() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut")

    async with mocked(handler) as client:
        with pytest.raises(ConnectionFailed, match="does not answer: the connection broke"):
            await client.providers()


# -- the embedded engine --------------------------------------------------------------------------


async def test_a_lease_is_held_while_the_client_lives(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        assert engine.leases == 0
        await client.health()
        assert engine.leases == 1
    await until(lambda: engine.leases == 0)


async def test_a_lost_lease_is_taken_again(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        await client.health()
        engine.break_streams()
        await until(lambda: len(engine.seen("GET", "/lease")) == 2 and engine.leases == 1)


async def test_an_engine_that_refuses_leases_is_given_up(engine: FakeEngine) -> None:
    engine.refusals["GET", "lease"] = [(503, {})] * 3
    async with async_client(engine) as client:
        with pytest.raises(EngineStartError, match="does not stay"):
            await client.health()


async def test_an_engine_that_needs_a_second_try(engine: FakeEngine) -> None:
    engine.refusals["GET", "health"] = [(500, {}), (200, {"nothing": 1})]
    async with async_client(engine) as client:
        assert (await client.health()).healthy


async def test_where_the_embedded_engine_is_looked_for(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_MAGICS_STATE_DIR", str(short_dir / ("x" * 100)))
    for client in [AsyncClient(), AsyncClient(state_dir=short_dir / ("x" * 100))]:
        with pytest.raises(EngineStartError, match="too long"):
            await client.health()


async def test_an_engine_that_was_replaced_is_found_again(short_dir: Path) -> None:
    engines = [FakeEngine(short_dir)]
    engines[0].__enter__()

    def relaunch() -> FakeEngine:
        engines.append(FakeEngine(short_dir))
        return engines[-1].__enter__()

    async with async_client(engines[0], relaunch=relaunch) as client:
        await client.create_session()
        engines[0].die()
        with pytest.raises(SessionNotFound):
            await client.session("ses_1").get_messages()
        assert len(engines) == 2
        engines[1].die()
        session = await client.create_session()
        assert len(engines) == 3
        assert (await session.get_info()).id == session.id
    engines[2].die()


async def test_an_engine_that_is_gone_for_good(engine: FakeEngine) -> None:
    async with async_client(engine) as client:
        await client.health()
        engine.die()
        with pytest.raises(EngineStartError):
            await client.health()


async def test_a_connection_replaced_meanwhile(engine: FakeEngine) -> None:
    """Another task's renewal closed it between getting it and using it."""
    async with async_client(engine) as client:
        connection = await client._api.connection()
        await connection.http.aclose()
        assert (await client.health()).healthy


async def test_a_request_that_may_have_been_done_is_not_repeated(engine: FakeEngine) -> None:
    engine.lose_answers = {"session"}
    async with async_client(engine) as client:
        with pytest.raises(ConnectionFailed):
            await client.create_session()
        assert len(engine.sessions) == 1
        engine.lose_answers = {"providers"}
        await client.providers()


async def test_concurrent_first_requests_connect_once(engine: FakeEngine) -> None:
    launcher = FakeLauncher(engine)
    async with async_client(engine, launcher=launcher) as client:
        await asyncio.gather(*(client.health() for _ in range(10)))
        assert len(launcher.__dict__["launches"]) == 1
        assert engine.leases == 1


@pytest.mark.parametrize("requests", [2, 10])
async def test_one_failed_start_answers_all_who_waited_for_it(
    engine: FakeEngine, requests: int
) -> None:
    launcher = FakeLauncher(engine)
    engine.die()
    async with async_client(engine, launcher=launcher) as client:
        calls = [client.health() for _ in range(requests)]
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(failure) for failure in failures} == {EngineStartError}
        assert len(launcher.__dict__["launches"]) == 1
        with pytest.raises(EngineStartError):
            await client.health()
        assert len(launcher.__dict__["launches"]) == 2


async def test_a_closed_client_says_so(engine: FakeEngine) -> None:
    client = async_client(engine)
    await client.health()
    await client.aclose()
    await client.aclose()
    with pytest.raises(ConnectionFailed, match="closed"):
        await client.health()
