"""The conformance suite: over the embedded engine, and against servers that do it wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from agent_magics.client import AsyncClient, Client, ConnectionFailed
from agent_magics.testing.conformance import CHECKS, Check, Prompts, run
from agent_magics.testing.conformance.__main__ import main
from tests.support.engine_home import EngineHome

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def home() -> Iterator[EngineHome]:
    with EngineHome() as home, pytest.MonkeyPatch.context() as patch:
        for name, value in home.environ.items():
            patch.setenv(name, value)
        with Client() as client:
            client.health()
            yield home


class Spoiler(httpx.AsyncBaseTransport):
    """Passes everything on to the engine, but spoils what `spoil` makes of JSON answers."""

    def __init__(self, home: EngineHome, spoil: Callable[[str, object], object]) -> None:
        self._real = httpx.AsyncHTTPTransport(uds=str(home.state / "engine.sock"))
        self._spoil = spoil

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        if not response.headers.get("content-type", "").startswith("application/json"):
            return response
        body = self._spoil(request.url.path, json.loads(await response.aread()))
        return httpx.Response(response.status_code, json=body, request=request)

    async def aclose(self) -> None:
        await self._real.aclose()


def spoiled(home: EngineHome, spoil: Callable[[str, object], object]) -> AsyncClient:
    token = json.loads((home.state / "engine.json").read_text())["token"]
    return AsyncClient("http://agent", token=token, transport=Spoiler(home, spoil))


def test_names_and_promises() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names)) > 30
    assert all(check.promise.endswith(".") for check in CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_the_embedded_engine_keeps(home: EngineHome, check: Check) -> None:
    async with AsyncClient() as client:
        (outcome,) = await run(client, only=[check.name])
    assert (outcome.status, outcome.detail) == ("passed", "")


def wrong_title(path: str, body: object) -> object:
    return {**body, "title": "other"} if isinstance(body, dict) and "title" in body else body


def forgetful(path: str, body: object) -> object:
    return [] if path.endswith("/message") else body


@pytest.mark.parametrize(
    ("spoil", "name", "complaint"),
    [
        (wrong_title, "sessions_live", "'other'"),
        (forgetful, "send_returns_the_turn", "not enough values to unpack"),
        (forgetful, "forks_are_copies", "messages of the original: 0 instead of 2"),
    ],
)
async def test_a_server_that_does_it_wrong_fails(
    home: EngineHome, spoil: Callable[[str, object], object], name: str, complaint: str
) -> None:
    async with spoiled(home, spoil) as client:
        (outcome,) = await run(client, only=[name])
    assert outcome.status == "failed"
    assert complaint in outcome.detail


async def test_a_model_that_never_asks_leaves_checks_out(home: EngineHome) -> None:
    prompts = Prompts(asking=Prompts().simple)
    async with AsyncClient() as client:
        (outcome,) = await run(client, prompts=prompts, only=["allowed_tools_run"])
    assert outcome.status == "skipped"
    assert "another prompt" in outcome.detail


async def test_what_cannot_be_run() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="unknown checks: nonsense"):
            await run(client, only=["nonsense"])
        with pytest.raises(ConnectionFailed):
            await run(client)


def test_the_command_line(home: EngineHome, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "sessions_change"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("passed  sessions_change: update() changes the title")
    assert shown.endswith("1 passed\n")
    assert main(["--list"]) == 0
    assert "forks_are_copies: A fork has" in capsys.readouterr().out
    assert main(["http://127.0.0.1:9"]) == 2
    assert "conformance:" in capsys.readouterr().err
