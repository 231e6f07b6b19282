"""An engine in the test's own loop: scripted model, fake container, every event recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from agent_magics.engine._app import create_app
from agent_magics.engine._config import CompactionConfig, LimitsConfig
from agent_magics.engine._engine import Engine
from agent_magics.engine._policy import DEFAULT_RULES
from agent_magics.engine._presence import Presence
from agent_magics.engine._prompts import NewSession, Prompt
from agent_magics.engine._retry import RetryPolicy
from agent_magics.engine._serve import _Server
from agent_magics.engine._sessions import Session
from agent_magics.engine._store import Store
from agent_magics.engine._web import WebFetcher
from agent_magics.engine.models import ModelNotFound, ProviderAuth, ResolvedModel, Window
from agent_magics.engine.tools import INSTRUCTIONS, build_tools, tool_title
from tests.support.fake_sandbox import FakeSandbox

TOKEN = "test-token-0123456789"
PATIENCE = 60.0

Step = Callable[[list[ModelMessage], AgentInfo], AsyncIterator[Any]]


def say(*texts: str) -> Step:
    """A step that streams these texts."""

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for text in texts:
            yield text

    return step


def think(thought: str, text: str) -> Step:
    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaThinkingPart(content=thought[:3])}
        yield {0: DeltaThinkingPart(content=thought[3:])}
        yield text

    return step


def call(*calls: tuple[str, dict[str, Any] | str], text: str = "") -> Step:
    """A step that calls tools at the same time; arguments given as text are sent as they are."""

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if text:
            yield text
        for index, (name, arguments) in enumerate(calls):
            raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call_id = f"call_{len(messages)}_{index}"
            yield {index: DeltaToolCall(name, raw[:5], tool_call_id=call_id)}
            yield {index: DeltaToolCall(json_args=raw[5:])}

    return step


def hang(*texts: str) -> Step:
    """A step that streams these texts and then nothing more, for ever."""

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for text in texts:
            yield text
        await asyncio.Event().wait()

    return step


def wait_for(event: asyncio.Event, *texts: str) -> Step:
    """A step that streams these texts, the last one when the event is set."""

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for text in texts[:-1]:
            yield text
        await event.wait()
        yield texts[-1]

    return step


def fail(error: Exception, *texts: str) -> Step:
    """A step that raises, after these texts."""

    async def step(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for text in texts:
            yield text
        raise error

    return step


@dataclass
class Model:
    """
    Plays its steps one after the other.

    `seen` has the messages of each request, `infos` its instructions and tools.
    """

    steps: list[Step] = field(default_factory=list)
    seen: list[list[ModelMessage]] = field(default_factory=list)
    infos: list[AgentInfo] = field(default_factory=list)

    async def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.seen.append(list(messages))
        self.infos.append(info)
        step = self.steps.pop(0) if self.steps else say("nothing more to say")
        async for item in step(messages, info):
            yield item


class FakeRegistry:
    """One model, `fake/main`; `fake/locked` has no key."""

    def __init__(self, model: Model) -> None:
        self.environs: list[dict[str, str]] = []
        self.window = Window(1000)
        self._model = FunctionModel(stream_function=model.__call__, model_name="main")

    def default(self) -> str:
        return "fake/main"

    def resolve(self, name: str | None) -> ResolvedModel:
        name = name or self.default()
        if name == "fake/locked":
            raise ProviderAuth("Fake needs a key: set FAKE_API_KEY.", providerID="fake")
        if name != "fake/main":
            raise ModelNotFound(f"There is no {name}. There is: fake/main.")
        return ResolvedModel(name, "fake", "main", self._model, self.window)

    def providers(self) -> list[dict[str, Any]]:
        return [{"id": "fake", "name": "Fake", "models": {"main": {"id": "main"}}}]

    def with_environ(self, extra: dict[str, str]) -> FakeRegistry:
        self.environs.append(dict(extra))
        return self


class Recorder:
    """All events of the log, in order, and waiting for them."""

    def __init__(self, engine: Engine) -> None:
        self.events: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._record(engine))

    async def _record(self, engine: Engine) -> None:
        subscription = engine.log.subscribe()
        async for batch in subscription:
            async with self._changed:
                self.events += [json.loads(e.json(e.seq)) for e in batch]
                self._changed.notify_all()

    async def wait(self, type: str, count: int = 1, **properties: Any) -> dict[str, Any]:
        """The `count`th event of this type whose properties have these values."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.of(type) if properties.items() <= e["properties"].items()]

        async with self._changed, asyncio.timeout(PATIENCE):
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self._changed, asyncio.timeout(PATIENCE):
            await self._changed.wait_for(condition)

    def of(self, *types: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["type"] in types]

    @property
    def types(self) -> list[str]:
        return [e["type"] for e in self.events]

    def parts(self, type: str | None = None) -> list[dict[str, Any]]:
        """The last state of every part, in order of appearance."""
        found: dict[str, dict[str, Any]] = {}
        for event in self.of("message.part.updated"):
            part = event["properties"]["part"]
            found[part["id"]] = part
        return [p for p in found.values() if type in (None, p["type"])]

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@dataclass
class Harness:
    engine: Engine
    model: Model
    registry: FakeRegistry
    presence: Presence
    recorder: Recorder
    http: httpx.AsyncClient
    sandboxes: list[FakeSandbox]

    async def session(self, **values: Any) -> Session:
        return await self.engine.create_session(NewSession(**values))

    async def prompt(self, session: Session, text: str = "go", **values: Any) -> str:
        parts = [{"type": "text", "text": text}]
        return await self.engine.prompt(session, Prompt(parts, **values))

    async def turn(self, session: Session, text: str = "go", **values: Any) -> dict[str, Any]:
        """Prompt and wait; the properties of `turn.ended`."""
        message_id = await self.prompt(session, text, **values)
        ended = await self.recorder.wait("turn.ended", messageID=message_id)
        await self.recorder.wait("session.idle", len(self.recorder.of("turn.ended")))
        return ended["properties"]


def sandboxes_into(made: list[FakeSandbox]) -> Callable[..., FakeSandbox]:
    def open_sandbox(root: Path, **options: Any) -> FakeSandbox:
        made.append(FakeSandbox(root, **options))
        return made[-1]

    return open_sandbox


@asynccontextmanager
async def engine_in(
    directory: Path,
    steps: Iterable[Step] = (),
    *,
    environ: dict[str, str] | None = None,
    retry: RetryPolicy | None = None,
    fetcher: WebFetcher | None = None,
    compaction: CompactionConfig | None = None,
    limits: LimitsConfig | None = None,
    open_sandbox: Callable[..., Any] | None = None,
    **options: Any,
) -> AsyncIterator[Harness]:
    """
    An engine whose data is in `directory`, with an HTTP client that calls it directly.

    Summaries are made on demand only, if `compaction` doesn't say otherwise. `fetcher` stands for
    the web, `open_sandbox` for containers, `options` are more of the engine's.
    """
    directory.mkdir(exist_ok=True)
    model = Model(list(steps))
    registry = FakeRegistry(model)
    made: list[FakeSandbox] = []
    engine = await Engine.open(
        Store(directory / "engine.db"),
        registry,
        tools=build_tools(fetcher),
        instructions=INSTRUCTIONS,
        tool_title=tool_title,
        rules=DEFAULT_RULES,
        open_sandbox=open_sandbox or sandboxes_into(made),
        sessions_dir=directory / "sessions",
        environ=environ or {},
        retry=retry or replace(RetryPolicy(), first_wait=0.01),
        compaction=compaction or CompactionConfig(auto=False),
        limits=limits,
        **options,
    )
    presence = Presence()
    app = create_app(engine, presence, token=TOKEN)
    recorder = Recorder(engine)
    await asyncio.sleep(0)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://agent",
        headers={"Authorization": f"Bearer {TOKEN}"},
    ) as http:
        try:
            yield Harness(engine, model, registry, presence, recorder, http, made)
        finally:
            await engine.close()
            await recorder.close()


@asynccontextmanager
async def served(harness: Harness, directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the same engine over a real server on a Unix socket."""
    import socket

    import uvicorn

    path = directory / "test.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    app = create_app(harness.engine, harness.presence, token=TOKEN)
    config = uvicorn.Config(
        app,
        access_log=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)),
            base_url="http://agent",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE,
        ) as client:
            yield client
    finally:
        harness.presence.closing.set()
        server.should_exit = True
        await task
        listener.close()
        path.unlink()


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until the condition holds; for what no event tells."""
    async with asyncio.timeout(PATIENCE):
        while True:
            result = condition()
            if await result if isinstance(result, Awaitable) else result:
                return
            await asyncio.sleep(0.01)
