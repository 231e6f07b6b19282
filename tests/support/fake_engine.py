"""
A stand-in for the engine, on a Unix socket and a thread of its own.

It speaks just enough HTTP, byte by byte, to misbehave on purpose: it cuts an event stream after a
given number of bytes, repeats events, forgets merged deltas, falls silent, and refuses requests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from agent_magics.client import Endpoint
from tests.support.turn_events import Event, TurnEvents, numbered

TOKEN = "a-token"

Script = Callable[["FakeTurn"], Awaitable[None]]


class _Cut(Exception):
    """Close the connection here and now."""


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeSession:
    id: str
    title: str = ""
    log: list[Event] = field(default_factory=list)
    merged: set[int] = field(default_factory=set)
    messages: list[dict[str, Any]] = field(default_factory=list)
    status: str = "idle"
    files: dict[str, bytes] = field(default_factory=dict)
    permissions: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    archived: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def append(self, events: list[Event]) -> None:
        self.log += numbered(events, self.id, len(self.log) + 1)
        self.changed.set()
        self.changed = asyncio.Event()


class FakeTurn:
    """What a script sees: the prompt, and ways to tell the session's readers."""

    def __init__(self, session: FakeSession, body: dict[str, Any]) -> None:
        self.session = session
        self.body = body
        self.prompt = "".join(part.get("text", "") for part in body["parts"])
        self.events = TurnEvents(session.id, body["messageID"], self.prompt)
        self._published = 0

    def publish(self) -> None:
        """Send what was added to `events` so far."""
        offset = len(self.session.log) - self._published
        self.session.merged |= {index + offset + 1 for index in self.events.merged}
        self.session.append(self.events.events[self._published :])
        self._published = len(self.events.events)

    async def ask(self, request_id: str) -> str:
        """Ask for a permission and wait for the reply."""
        future = asyncio.get_running_loop().create_future()
        self.session.permissions[request_id] = future
        self.events.ask(request_id)
        self.publish()
        reply: str = await future
        self.events.replied(request_id, reply)
        self.publish()
        return reply


async def hello(turn: FakeTurn) -> None:
    turn.events.begin().write("Hello", " world").step().end()


class FakeEngine:
    """
    Use as a context manager. `script` says what a prompt brings; what it leaves unpublished is
    published at its end.
    """

    def __init__(self, directory: Path, script: Script = hello) -> None:
        self.socket = directory / "fake.sock"
        self.script = script
        self.health: dict[str, Any] = {
            "healthy": True,
            "version": "0.1.0",
            "engine": "agent-magics",
            "protocol": 1,
        }
        self.sessions: dict[str, FakeSession] = {}
        self.requests: list[Request] = []
        self.cuts: list[int | None] = []
        """For each next event stream, the number of bytes after which it is cut."""
        self.overlap = 0
        """How many events a resumed stream repeats."""
        self.forget_deltas = False
        """Whether a resumed stream lacks the deltas of closed parts."""
        self.silent = False
        """Whether event streams say nothing at all, not even a heartbeat."""
        self.refusals: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        """By method and last segment of the path: statuses and bodies to answer with, once each."""
        self.lose_answers: set[str] = set()
        """Last segments of paths whose next request is carried out and never answered."""
        self.leases = 0
        self.exec_frames: list[tuple[str, Any]] = []
        self.exec_hangs = False
        self.exec_left = threading.Event()
        self.event_streams = 0
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._dead = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._main, daemon=True)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(uds=str(self.socket), token=TOKEN, pid=1)

    def __enter__(self) -> FakeEngine:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.die()

    def die(self) -> None:
        """Like SIGKILL: every connection breaks, nobody listens any more."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(60)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` on the engine's loop."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def seen(self, method: str, suffix: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and r.path.endswith(suffix)]

    def break_streams(self) -> None:
        """Cut every connection, keep listening."""

        def cut() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self.call(cut)

    # -- the server ------------------------------------------------------------------------------

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self.socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connection, str(self.socket))
        self._ready.set()
        await self._stopped.wait()
        self._dead = True
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        self.socket.unlink(missing_ok=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
        except (_Cut, ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:
            pass  # The engine died; a stream server reports cancelled handlers as errors.
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; false when the connection is not to be used again."""
        if request.path != "/global/health" and request.headers.get("authorization") not in (
            f"Bearer {TOKEN}",
        ):
            await _reply(writer, 401, {"name": "UnauthorizedError", "data": {"message": "no"}})
            return True
        last = request.path.rpartition("/")[2]
        if refusals := self.refusals.get((request.method, last)):
            await _reply(writer, *refusals.pop(0))
            return True
        if last in ("event", "lease", "exec"):
            await getattr(self, f"_{last}")(request, writer)
            return False
        status, body = self._route(request)
        if last in self.lose_answers:
            self.lose_answers.discard(last)
            raise _Cut
        await _reply(writer, status, body)
        return True

    async def _lease(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.leases += 1
        try:
            await _head(writer)
            await _chunk(writer, b": lease\n\n")
            while True:
                await asyncio.sleep(0.02)
                if writer.transport.is_closing():
                    return
                await _chunk(writer, b":\n\n")
        finally:
            self.leases -= 1

    async def _event(self, request: Request, writer: asyncio.StreamWriter) -> None:
        is_global = request.path == "/event"
        session = (
            next(iter(self.sessions.values()))
            if is_global
            else self.sessions.get(unquote(request.path.split("/")[2]))
        )
        if session is None:
            await _reply(writer, 404, {"name": "NotFoundError", "data": {"message": "no session"}})
            return
        self.event_streams += 1
        budget = self.cuts.pop(0) if self.cuts else None
        await _head(writer)
        if self.silent:
            await asyncio.Event().wait()
        sink = _Sink(writer, budget)
        await sink.write(_frame({"id": "evt_0", "type": "server.connected", "properties": {}}))
        last_id = request.headers.get("last-event-id")
        resumed = last_id is not None and not is_global
        position = max(0, int(last_id) - self.overlap) if resumed else len(session.log)
        history = len(session.log) if resumed else 0
        while True:
            changed = session.changed
            while position < len(session.log):
                event = session.log[position]
                position += 1
                forgotten = event["seq"] in session.merged and event["seq"] <= history
                if forgotten and self.forget_deltas:
                    continue
                if is_global:
                    event = {key: event[key] for key in ("id", "type", "properties")}
                await sink.write(_frame(event))
            await changed.wait()

    async def _exec(self, request: Request, writer: asyncio.StreamWriter) -> None:
        await _head(writer)
        await _chunk(writer, b": running\n\n")
        for name, data in self.exec_frames:
            if isinstance(data, bytes):
                data = {"data": base64.b64encode(data).decode()}
            await _chunk(writer, f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        try:
            while self.exec_hangs and not writer.transport.is_closing():
                await asyncio.sleep(0.01)
                await _chunk(writer, b":\n\n")
        finally:
            self.exec_left.set()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    # -- the routes ------------------------------------------------------------------------------

    def _route(self, request: Request) -> tuple[int, Any]:
        method, path = request.method, request.path
        if path == "/global/health":
            return 200, self.health
        if path == "/config/providers":
            return 200, {"providers": [], "default": {}}
        if path == "/permission":
            return 200, [
                {"id": key, "sessionID": session.id, "permission": "bash"}
                for session in self.sessions.values()
                for key, future in session.permissions.items()
                if not future.done()
            ]
        if path.startswith("/permission/"):
            return self._reply_to(unquote(path.split("/")[2]), request.json)
        if path == "/session/status":
            return 200, {
                s.id: {"type": s.status} for s in self.sessions.values() if s.status != "idle"
            }
        if path == "/session":
            if method == "GET":
                return 200, [self._info(s) for s in self.sessions.values()]
            session = FakeSession(f"ses_{len(self.sessions) + 1}", request.json.get("title", ""))
            self.sessions[session.id] = session
            return 200, self._info(session)
        segments = [unquote(segment) for segment in path.split("/")[2:]]
        found = self.sessions.get(segments[0])
        if found is None:
            return 404, {"name": "NotFoundError", "data": {"message": "There is no such session."}}
        return self._session_route(found, request, segments[1:])

    def _session_route(
        self, session: FakeSession, request: Request, rest: list[str]
    ) -> tuple[int, Any]:
        match request.method, *rest:
            case "GET", *none if not none:
                return 200, self._info(session)
            case "PATCH", *none if not none:
                changes = request.json
                session.title = changes.get("title", session.title)
                session.archived = changes.get("time", {}).get("archived", session.archived)
                return 200, self._info(session)
            case "DELETE", *none if not none:
                del self.sessions[session.id]
                return 200, True
            case "POST", "prompt_async":
                return self._prompt(session, request.json)
            case "POST", "abort":
                return 200, self._abort(session)
            case "GET", "message":
                return 200, session.messages
            case "GET", "message", message_id:
                known = [m for m in session.messages if m["info"]["id"] == message_id]
                return (200, known[0]) if known else (404, {"name": "NotFoundError", "data": {}})
            case "GET", "todo":
                return 200, [{"content": "one", "status": "pending", "priority": "low"}]
            case "GET", "metrics":
                return 200, {"sessionID": session.id, "messages": 2, "steps": 1, "toolCalls": 0}
            case method, "fs":
                return self._file(session, method, request)
            case "GET", "fs", "list":
                return 200, [
                    {"path": path, "kind": "file", "size": len(data), "mtime": 1}
                    for path, data in sorted(session.files.items())
                ]
        return 404, {"name": "NotFoundError", "data": {"message": "There is no such path."}}

    def _file(self, session: FakeSession, method: str, request: Request) -> tuple[int, Any]:
        path = request.query["path"]
        if method == "PUT":
            session.files[path] = request.body
            return 200, {"path": path}
        if path not in session.files:
            return 404, {"name": "FileNotFoundError", "data": {"message": f"No file {path}."}}
        return 200, session.files[path]

    def _info(self, session: FakeSession) -> dict[str, Any]:
        return {
            "id": session.id,
            "title": session.title,
            "time": {"created": 1, "updated": 2, "archived": session.archived},
            "sandbox": {"provider": "bubblewrap", "isolated": True},
        }

    def _prompt(self, session: FakeSession, body: dict[str, Any]) -> tuple[int, Any]:
        if session.status != "idle":
            return 409, {"name": "SessionBusyError", "data": {"message": "A turn is running."}}
        session.status = "busy"
        session.task = asyncio.create_task(self._run(FakeTurn(session, body)))
        return 204, b""

    async def _run(self, turn: FakeTurn) -> None:
        session = turn.session
        session.messages.append(
            {"info": {"id": turn.events.message_id, "sessionID": session.id, "role": "user"}}
        )
        try:
            await self.script(turn)
        except asyncio.CancelledError:
            if self._dead:
                raise
            for request_id, future in session.permissions.items():
                if not future.done():
                    turn.events.replied(request_id, "reject")
            error = {"name": "MessageAbortedError", "data": {"message": "The turn was aborted."}}
            turn.events.end("aborted", error)
        session.messages = [m for m in session.messages if "parts" in m] + turn.events.messages()
        session.status = "idle"
        turn.publish()

    def _abort(self, session: FakeSession) -> bool:
        running = session.task is not None and not session.task.done()
        if running and session.task is not None:
            session.task.cancel()
        return running

    def _reply_to(self, request_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        for session in self.sessions.values():
            future = session.permissions.get(request_id)
            if future is not None and not future.done():
                future.set_result(body["reply"])
                return 200, True
        return 404, {"name": "PermissionNotFoundError", "data": {"message": "It is settled."}}


class _Sink:
    """Writes chunks until its budget of bytes is used up, then cuts the connection."""

    def __init__(self, writer: asyncio.StreamWriter, budget: int | None) -> None:
        self._writer = writer
        self._budget = budget

    async def write(self, data: bytes) -> None:
        if self._budget is not None and len(data) >= self._budget:
            if self._budget:
                await _chunk(self._writer, data[: self._budget])
            # An orderly shutdown of the socket, so that what was sent arrives before the end.
            self._writer.write_eof()
            raise _Cut
        if self._budget is not None:
            self._budget -= len(data)
        await _chunk(self._writer, data)


def _frame(event: Event) -> bytes:
    head = f"id: {event['seq']}\n" if "seq" in event else ""
    return f"{head}event: message\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


async def _head(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


async def _reply(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n"
    if status != 204:
        head += f"content-length: {len(data)}\r\n"
    writer.write(head.encode() + b"\r\n" + data)
    await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    return Request(method, url.path, query, headers, body)
