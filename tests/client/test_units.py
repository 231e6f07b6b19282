"""Small parts on their own."""

from __future__ import annotations

import asyncio
import base64
import pickle
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import agent_magics.client as client_package
from agent_magics.client import (
    AgentError,
    ApiError,
    BadRequest,
    ConnectionFailed,
    Endpoint,
    FileInput,
    FileMissing,
    NotFound,
    RateLimited,
    SessionNotFound,
    TaskNotFound,
    TextInput,
)
from agent_magics.client import _errors as errors
from agent_magics.client._async_client import _connector
from agent_magics.client._channel import Channel
from agent_magics.client._connection import UrlConnector
from agent_magics.client._daemon import run_in_daemon_thread
from agent_magics.client._errors import error_from_response
from agent_magics.client._ids import new_message_id, new_opencode_message_id
from agent_magics.client._inputs import prompt_parts
from agent_magics.client._loop_thread import LoopThread
from agent_magics.client._python import current_python
from tests.support.waiting import until

# -- the package ----------------------------------------------------------------------------------


def test_the_exported_names_are_sorted_and_there() -> None:
    names = client_package.__all__
    assert names == sorted(names)
    assert all(hasattr(client_package, name) for name in names)
    public = {
        name
        for name, value in vars(client_package).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("agent_magics")
    }
    assert public - set(names) == set()


def test_importing_it_imports_no_network_library_and_no_engine() -> None:
    code = (
        "import sys, agent_magics.client;"
        "heavy = ['httpx', 'httpx_sse', 'anyio', 'starlette', 'uvicorn', 'pydantic',"
        " 'agent_magics.engine', 'agent_magics.sandbox'];"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- errors ---------------------------------------------------------------------------------------


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    stack: list[str] = []
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([ │├└─]*)(\w+)(  |$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        stack[depth:] = [match[2]]
        drawn[match[2]] = stack[depth - 1] if depth else "Exception"
    real = {
        name: getattr(errors, name).__bases__[0].__name__
        for name in errors.__all__
        if name[0].isupper()
    }
    assert drawn == real


def test_errors_survive_pickling() -> None:
    error = RateLimited("m", status=429, name="X", data={"retryAfter": 3})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RateLimited
    assert (str(copy), copy.status, copy.name, copy.retry_after) == ("m", 429, "X", 3.0)


def test_an_error_without_a_name_is_called_by_its_type() -> None:
    assert BadRequest("m").name == "BadRequest"
    assert issubclass(ApiError, AgentError)


# -- inputs ---------------------------------------------------------------------------------------


def test_text_inputs() -> None:
    expected = [{"type": "text", "text": " a {b} "}]
    assert prompt_parts(" a {b} ") == expected
    assert prompt_parts([" a {b} "]) == expected
    assert prompt_parts([TextInput(" a {b} ")]) == expected


def test_inputs_as_json() -> None:
    file = {"type": "file", "url": "data:,x", "mime": "text/plain"}
    text = {"type": "text", "text": "a"}
    assert prompt_parts({"parts": [text, file]}) == [text, file]
    assert prompt_parts(["b", {**file, "filename": "f"}])[1]["filename"] == "f"
    for wrong in (
        *({}, {"parts": ["a"], "text": "b"}, {"text": "a"}, {"parts": []}),
        *([{}], [{"type": "text"}], [{"type": "image"}], [{**text, "x": 1}], [{"text": "a"}]),
        *([{**file, "mime": None}], [{"type": ["text"], "text": "a"}], [{"type": "file"}]),
    ):
        with pytest.raises(BadRequest):
            prompt_parts(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "missing", "kind"),
    [
        ({"sessionID": "ses_1"}, FileMissing, SessionNotFound),
        ({"sessionID": "ses_1"}, TaskNotFound, TaskNotFound),
        ({}, FileMissing, FileMissing),
    ],
)
def test_a_missing_session_is_no_missing_file(
    body: dict[str, Any], missing: type[NotFound], kind: type[NotFound]
) -> None:
    error = {"name": "NotFoundError", "data": {"message": "m", **body}}
    response = httpx.Response(404, json=error)
    assert type(error_from_response(response, missing=missing)) is kind


async def test_the_server_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_MAGICS_URL", "http://there:1/")
    monkeypatch.setenv("AGENT_MAGICS_TOKEN", "t")

    def endpoint(*arguments: Any, **options: Any) -> tuple[str, str | None] | None:
        values: dict[str, Any] = dict.fromkeys(("token", "transport", "state_dir", "launcher"))
        found = _connector(*arguments, **{"timeout": 1.0, **values, **options})
        if not isinstance(found, UrlConnector):
            return None
        return found._endpoint.url, found._endpoint.token

    assert endpoint(None) == ("http://there:1", "t")
    assert endpoint("http://here", token="x") == ("http://here", "x")
    assert endpoint(None, state_dir="/tmp/x") is None
    monkeypatch.delenv("AGENT_MAGICS_URL")
    assert endpoint(None) is None and endpoint("http://here") == ("http://here", "t")


@pytest.mark.parametrize(
    ("name", "data", "mime"),
    [
        ("x.png", b"\x89PNG", "image/png"),
        ("x.csv", b"a,b", "text/csv"),
        ("x.pdf", b"%PDF", "application/pdf"),
        ("Makefile", b"all:\n", "text/plain"),
        ("x.unknown", b"\xff\xfe\x00", "application/octet-stream"),
    ],
)
def test_file_inputs(tmp_path: Path, name: str, data: bytes, mime: str) -> None:
    (tmp_path / name).write_bytes(data)
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    expected = {"type": "file", "mime": mime, "url": url, "filename": name}
    assert prompt_parts([FileInput(tmp_path / name)]) == [expected]
    assert prompt_parts([FileInput(str(tmp_path / name))]) == [expected]
    assert prompt_parts([FileInput(data, filename=name)]) == [expected]
    (part,) = prompt_parts([FileInput(data, "a/b")])
    assert (part["mime"], part.get("filename")) == ("a/b", None)


def test_data_urls_pass_unchanged() -> None:
    url = "data:image/svg+xml;charset=utf-8,%3Csvg%3E"
    assert prompt_parts([FileInput(url)]) == [{"type": "file", "mime": "image/svg+xml", "url": url}]
    assert prompt_parts([FileInput("data:,x")])[0]["mime"] == "text/plain"


def test_inputs_that_are_none() -> None:
    with pytest.raises(TypeError, match="not int"):
        prompt_parts([5])  # type: ignore[list-item]
    with pytest.raises(FileNotFoundError):
        prompt_parts([FileInput("/nonexistent")])


# -- ids and endpoints ----------------------------------------------------------------------------


def test_ids_ascend_and_have_the_form() -> None:
    ids = [new_message_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"msg_[0-9a-f]{24}", id) for id in ids)
    others = [new_opencode_message_id() for _ in range(1000)]
    assert others == sorted(set(others))
    # The form of one that such a server made, in November 2026.
    assert others[0] > "msg_20382ab4c001ILvUzOzAtE2QSR"


def test_endpoints() -> None:
    endpoint = Endpoint(url="https://example.org", token="secret")
    assert "secret" not in repr(endpoint)
    assert endpoint.headers == {"Authorization": "Bearer secret"}
    assert Endpoint().headers == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://example.org", "https://example.org"])
async def test_certificates_are_loaded_only_for_tls(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    loaded: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *a, **k: loaded.append(a))
    async with Endpoint(url=url).async_client(timeout=5):
        pass
    assert bool(loaded) == url.startswith("https")


# -- channels and threads -------------------------------------------------------------------------


async def test_a_channel_hands_over_in_batches() -> None:
    channel: Channel[int] = Channel()
    await channel.put(1)
    await channel.put(2)
    assert await channel.take() == [1, 2]
    assert await channel.take(0.001) == []
    assert not channel.exhausted
    taken = asyncio.create_task(channel.take())
    await asyncio.sleep(0)
    await channel.put(3)
    assert await taken == [3]
    await channel.put(4)
    channel.finish()
    await channel.put(5)
    assert not channel.exhausted
    assert await channel.take() == [4]
    assert await channel.take() == []
    assert channel.exhausted


async def test_a_channels_error_comes_after_its_items_and_once() -> None:
    channel: Channel[int] = Channel()
    await channel.put(1)
    channel.finish(ZeroDivisionError())
    channel.finish(KeyError())
    assert await channel.take() == [1]
    with pytest.raises(ZeroDivisionError):
        await channel.take()
    assert await channel.take() == []


async def test_a_full_channel_holds_the_producer_back() -> None:
    channel: Channel[int] = Channel(size=2)
    done: list[int] = []

    async def produce() -> None:
        for number in range(5):
            await channel.put(number)
            done.append(number)

    task = asyncio.create_task(produce())
    await asyncio.sleep(0.01)
    assert done == [0, 1]
    assert await channel.take() == [0, 1]
    await asyncio.sleep(0.01)
    assert done == [0, 1, 2, 3]
    channel.finish()
    await task


async def test_a_blocking_call_elsewhere() -> None:
    assert await run_in_daemon_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await run_in_daemon_thread(lambda: 1 // 0)


def test_the_python_of_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path))
    found = current_python()
    assert found["executable"] == sys.executable
    assert {sys.prefix, sys.base_prefix, str(tmp_path)} <= set(found["prefixes"])
    monkeypatch.setattr("site.getusersitepackages", lambda: "/nonexistent")
    assert "/nonexistent" not in current_python()["prefixes"]


@pytest.mark.parametrize("is_open", [False, True])
def test_a_blocking_call_that_nobody_waits_for_any_more(is_open: bool) -> None:
    release = threading.Event()
    ended = threading.Event()

    def block() -> None:
        release.wait(60)
        ended.set()

    async def leave() -> None:
        task = asyncio.create_task(run_in_daemon_thread(block))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if is_open:
            release.set()
            await until(ended.is_set)
            await asyncio.sleep(0.01)

    asyncio.run(leave())
    release.set()
    assert ended.wait(30)


def test_a_loop_thread_is_closed_once() -> None:
    closed: list[bool] = []

    async def on_close() -> None:
        closed.append(True)

    thread = LoopThread(on_close)
    thread.close()
    thread.close()
    assert closed == [True]
    with pytest.raises(ConnectionFailed):
        thread.run(on_close())


def test_data_that_arrives_as_its_reader_is_cancelled_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: str) -> None:
        raise RuntimeError(message)

    async def race() -> None:
        loop = asyncio.get_running_loop()
        stream = await anyio.connect_unix(tmp_path / "socket")
        peer, _ = listener.accept()
        reading = asyncio.create_task(stream.receive())
        await until(lambda: stream._receive_future is not None)  # it waits for its socket
        peer.send(b"!")
        loop.call_soon(reading.cancel)  # runs first in the pass that finds the socket readable
        loop.call_soon(fail, "something else")
        await asyncio.wait([reading])
        peer.close()
        await stream.aclose()

    async def on_close() -> None:
        pass

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        thread = LoopThread(on_close)
        thread.run(race())
        thread.close()
    assert len(caplog.records) == 1
    assert "something else" in caplog.text
