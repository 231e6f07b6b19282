"""
A model server that says what a script tells it: OpenAI- and Anthropic-compatible, stdlib only.

It answers POST /v1/chat/completions and /v1/messages (streaming or not) and GET /v1/models.

    script = {
        "scenarios": {
            "hello": {                       # chosen when the model is "hello" or ".../hello"
                "match": "say hello",        # ... or when this regex is in the last user text
                "turns": [                   # turn i answers after i assistant messages
                    {"do": [{"text": "Let me look."},
                            {"tool": {"name": "bash", "args": {"command": "ls"}, "id": "call_1"}}]},
                    {"do": [{"text": "Done."}], "usage": {"input": 100, "output": 20}},
                ],
            },
        },
        "default": "hello",
        "api_keys": ["sk-test"],             # optional: any other key gets 401
        "answers": {"/props": {...}},        # optional: what GET of other paths brings
    }
    with ThreadedLLM(script) as llm:
        llm.base_url, llm.anthropic_url, llm.log

Steps of `do`: text, reasoning (a text, or {"repeat": "tok ", "n": 1000}), tool (args may be a text,
also broken JSON), wait (seconds), error_chunk (an error inside the stream), disconnect. Each may
have `chunk` (characters per delta, 8) and `delay` (seconds before each delta). A turn may have
`delay`, `ttft` (seconds before the first byte), `finish`, `usage` {input, output, reasoning,
cache_read, cache_write} and `fail`: [{"status": 429, "headers": {"retry-after": "0"}, "message":
"slow down"}, {"disconnect": True}], answered first, one per attempt.

The turn follows from the request alone, so a conversation can be resumed. `log` has one entry per
request: api, scenario, turn, stream, body, headers and outcome ("complete", "client closed",
"http N", "scripted disconnect", "scripted error").
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from types import TracebackType
from typing import Any, Self

from tests.support.scripted_wire import (
    Api,
    Cut,
    Send,
    dumps,
    error_body,
    stream_actions,
    whole_reply,
)
from tests.support.tcp_server import TcpServer

Script = dict[str, Any]
_ECHO: Script = {"scenarios": {"ok": {"turns": [{"do": [{"text": "ok"}]}]}}, "default": "ok"}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\nrequest-id: req_scripted\r\n\r\n"
)
_JOIN = 1 << 16
_LARGEST_LAG = 0.05


class ClientClosedError(Exception):
    """The client went away."""


class ScriptedLLM:
    """The server, on the running event loop: `async with ScriptedLLM(script) as llm`."""

    def __init__(self, script: Script | None = None, host: str = "127.0.0.1") -> None:
        self.script = script or _ECHO
        self.host = host
        self.port = 0
        self.log: list[dict[str, Any]] = []
        self._failed: dict[tuple[str, str, int], int] = {}
        self._server = TcpServer(self._client)

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many were made."""
        return self._server.opened

    async def start(self, port: int = 0) -> Self:
        self.port = await self._server.start(self.host, port)
        return self

    async def stop(self) -> None:
        await self._server.stop()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        try:
            while (request := await connection.request()) is not None:
                if not await self._route(connection, *request):
                    break
        except ClientClosedError:
            pass
        finally:
            connection.close()

    async def _route(
        self, connection: _Connection, path: str, headers: dict[str, str], raw: bytes
    ) -> bool:
        if path in (answers := self.script.get("answers", {})):
            await connection.reply(200, answers[path])
        elif path.endswith("/models"):
            models = [{"id": name, "object": "model"} for name in self.script["scenarios"]]
            await connection.reply(200, {"object": "list", "data": models})
        elif path.endswith("/chat/completions"):
            return await self._answer(connection, headers, json.loads(raw), "openai")
        elif path.endswith("/messages"):
            return await self._answer(connection, headers, json.loads(raw), "anthropic")
        else:
            await connection.reply(404, {"error": {"message": f"no route {path}"}})
        return True

    async def _answer(
        self, connection: _Connection, headers: dict[str, str], body: dict[str, Any], api: Api
    ) -> bool:
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        name, index = choose_turn(self.script, body)
        entry: dict[str, Any] = {
            "api": api,
            "scenario": name,
            "turn": index,
            "stream": bool(body.get("stream")),
            "body": body,
            "headers": headers,
            "time": time.time(),
            "outcome": "running",
        }
        self.log.append(entry)
        keys = self.script.get("api_keys")
        if keys and key not in keys:
            message = f"Incorrect API key provided: {key[:4]}***"
            return await self._fail(connection, entry, {"status": 401, "message": message})
        turns = self.script["scenarios"][name]["turns"]
        turn = turns[min(index, len(turns) - 1)]
        attempt = self._failed.get((key, name, index), 0)
        if attempt < len(turn.get("fail", ())):
            self._failed[key, name, index] = attempt + 1
            return await self._fail(connection, entry, turn["fail"][attempt])
        connection.watch()
        try:
            await connection.sleep(float(turn.get("ttft", 0)))
            if body.get("stream"):
                return await self._stream(connection, entry, body, turn)
            await connection.reply(200, whole_reply(api, body["model"], turn, index))
        except ClientClosedError:
            entry["outcome"] = "client closed"
            return False
        entry["outcome"] = "complete"
        return True

    async def _fail(
        self, connection: _Connection, entry: dict[str, Any], failure: dict[str, Any]
    ) -> bool:
        if failure.get("disconnect"):
            entry["outcome"] = "scripted disconnect"
            connection.abort()
            return False
        status = int(failure["status"])
        entry["outcome"] = f"http {status}"
        message = failure.get("message", "scripted failure")
        body = error_body(entry["api"], status, message)
        await connection.reply(status, body, failure.get("headers"))
        return True

    async def _stream(
        self,
        connection: _Connection,
        entry: dict[str, Any],
        body: dict[str, Any],
        turn: dict[str, Any],
    ) -> bool:
        await connection.send(_STREAM_HEAD)
        waiting = bytearray()
        for action in stream_actions(entry["api"], body, turn, entry["turn"]):
            # Events without a delay go out together: the server shall not be the slow part.
            if waiting and (len(waiting) > _JOIN or not isinstance(action, Send) or action.delay):
                await connection.send(bytes(waiting))
                waiting.clear()
            if isinstance(action, Send) and not action.delay:
                waiting += _chunked(action.data)
                continue
            await connection.sleep(action.delay)
            if isinstance(action, Send):
                await connection.send(_chunked(action.data))
            elif isinstance(action, Cut):
                entry["outcome"] = "scripted disconnect" if action.abort else "scripted error"
                if action.abort:
                    connection.abort()
                    return False
                await connection.send(b"0\r\n\r\n")
                return True
        await connection.send(bytes(waiting) + b"0\r\n\r\n")
        entry["outcome"] = "complete"
        return True


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def choose_turn(script: Script, body: dict[str, Any]) -> tuple[str, int]:
    """The scenario, and how many assistant messages follow the last user's prompt."""
    index, prompt = 0, ""
    for message in reversed(body.get("messages", [])):
        content = message.get("content")
        kinds = {p.get("type") for p in content} if isinstance(content, list) else set()
        # Anthropic sends tool results as user messages; with text beside them it is a new prompt.
        only_results = "tool_result" in kinds and "text" not in kinds
        if message["role"] == "assistant":
            index += 1
        elif message["role"] == "user" and not only_results:
            prompt = _text(content)
            break
    scenarios = script["scenarios"]
    model = str(body.get("model", ""))
    for name in scenarios:
        if model == name or model.endswith("/" + name):
            return name, index
    for name, scenario in scenarios.items():
        if scenario.get("match") and re.search(scenario["match"], prompt):
            return name, index
    return script.get("default") or next(iter(scenarios)), index


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(p.get("text", "") for p in content if isinstance(p, dict))
    return content or ""


class _Connection:
    """One HTTP/1.1 connection; notices at once when the client closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._watcher: asyncio.Task[bytes] | None = None
        self._due = 0.0

    async def request(self) -> tuple[str, dict[str, str], bytes] | None:
        """Path, headers and body of the next request; None at the end."""
        start = b""
        if self._watcher is not None:  # it may have read the next request's first byte
            start, self._watcher = await self._watcher, None
            if not start:
                return None
        try:
            head = start + await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode("latin1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        return first.split(" ")[1].split("?")[0], headers, await self._body(headers)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int((await self._reader.readline()).split(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readline()
        return body

    async def reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = dumps(value).encode()
        extra = "".join(f"{name}: {text}\r\n" for name, text in (headers or {}).items())
        head = (
            f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{extra}\r\n"
        )
        await self.send(head.encode() + body)

    def watch(self) -> None:
        """From here on a close by the client is noticed, even in a pause."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._first_byte())

    async def _first_byte(self) -> bytes:
        try:
            return await self._reader.read(1)
        except ConnectionError:
            return b""

    def _check(self) -> None:
        if self._watcher is not None and self._watcher.done() and not self._watcher.result():
            raise ClientClosedError

    async def sleep(self, seconds: float) -> None:
        """Wait; a pause that took too long (timers count in ms) makes the next ones shorter."""
        now = asyncio.get_running_loop().time()
        self._due = (self._due if now - self._due < _LARGEST_LAG else now) + seconds
        if self._due > now:
            if self._watcher is None:
                await asyncio.sleep(self._due - now)
            else:
                await asyncio.wait({self._watcher}, timeout=self._due - now)
        self._check()

    async def send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            raise ClientClosedError from None
        self._check()

    def abort(self) -> None:
        self._writer.transport.abort()

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()


class ThreadedLLM:
    """The server on a thread and loop of its own: `with ThreadedLLM(script) as llm`."""

    def __init__(self, script: Script | None = None) -> None:
        self.llm = ScriptedLLM(script)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="scripted-llm")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.llm.start(), self._loop).result(60)
        self.base_url, self.anthropic_url = self.llm.base_url, self.llm.anthropic_url

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    @property
    def log(self) -> list[dict[str, Any]]:
        return self.llm.log

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shutdown(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    async def _shutdown(self) -> None:
        await self.llm.stop()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
