"""The tool calls of one turn: their parts, and their live output."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import RetryPromptPart, ToolCallPart, ToolReturn, ToolReturnPart

from agent_magics.sandbox import Sandbox
from agent_magics.wire import ArtifactJSON, PartJSON, TodoJSON

from ._ids import new_id, now_ms
from ._messages import MessageBook, is_closed
from ._text import dumps

if TYPE_CHECKING:
    from ._permissions import Answer
    from ._services import Services
    from ._sessions import Session

__all__ = [
    "CallContext",
    "ToolCalls",
    "call_arguments",
    "complaints",
    "refusal_text",
    "result_text",
]

_LIVE_INTERVAL = 0.05
_LIVE_CHUNK = 16 << 10
_LIVE_LIMIT = 512 << 10
_LIVE_STOP = "\n[more output follows; it is not shown live]\n"


def call_arguments(call: ToolCallPart) -> dict[str, Any]:
    """The arguments as JSON; empty when they are not valid."""
    try:
        return call.args_as_dict()
    except (AssertionError, ValueError):
        return {}


def complaints(error: ValidationError) -> str:
    """What is wrong with a call's arguments, without the library's links."""
    return _sentence(error.errors(include_url=False))


def _sentence(errors: Iterable[Any]) -> str:
    found = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in errors)
    return "; ".join(found)


def refusal_text(part: ToolReturnPart | RetryPromptPart) -> str:
    """What a person reads of a call that was never executed; the model gets more."""
    content: Any = part.content
    if isinstance(content, list):
        return f"Wrong arguments: {_sentence(content)}"
    if isinstance(content, str) or not isinstance(part, ToolReturnPart):
        return str(content)
    return part.model_response_str()


def result_text(result: Any) -> str:
    """A tool's result as people read it."""
    if isinstance(result, ToolReturn):
        result = result.return_value
    if result is None or isinstance(result, str):
        return result or ""
    return dumps(json.loads(json.dumps(result, default=lambda value: f"[{type(value).__name__}]")))


class ToolCalls:
    """Parts of the calls by their id; a model that reuses an id means the newest call."""

    def __init__(self, book: MessageBook, session_id: str, message_id: str) -> None:
        self._book = book
        self._ids = (session_id, message_id)
        self._parts: list[PartJSON] = []
        self._by_call: dict[str, PartJSON] = {}

    def open(self, call: ToolCallPart) -> PartJSON:
        """A new call; its arguments are still to come."""
        session_id, message_id = self._ids
        part: PartJSON = {
            "id": new_id("prt"),
            "sessionID": session_id,
            "messageID": message_id,
            "type": "tool",
            "tool": call.tool_name,
            "callID": call.tool_call_id,
            "state": {"status": "pending", "input": {}, "raw": ""},
        }
        self._parts.append(part)
        self._by_call[call.tool_call_id] = part
        self._book.save_part(part)
        return part

    def arguments_complete(self, part: PartJSON, call: ToolCallPart) -> None:
        # The name and the id may have been completed while they streamed in.
        part["tool"], part["callID"] = call.tool_name, call.tool_call_id
        self._by_call[call.tool_call_id] = part
        part["state"]["input"] = call_arguments(call)
        part["state"]["raw"] = call.args if isinstance(call.args, str) else ""
        self._book.save_part(part)

    def get(self, call_id: str) -> PartJSON | None:
        return self._by_call.get(call_id)

    def find(self, call: ToolCallPart) -> PartJSON:
        """The call's part; a new one for a call that was not streamed."""
        part = self.get(call.tool_call_id)
        if part is None or is_closed(part):
            part = self.open(call)
            self.arguments_complete(part, call)
        return part

    def running(self, part: PartJSON, arguments: dict[str, Any], title: str) -> None:
        part["state"] = {
            "status": "running",
            "input": arguments,
            "title": title,
            "metadata": {},
            "time": {"start": now_ms()},
        }
        self._book.save_part(part)

    def completed(self, part: PartJSON, output: str) -> None:
        state = part["state"]
        state["status"] = "completed"
        state["output"] = output
        state["time"]["end"] = now_ms()
        self._book.save_part(part)

    def failed(self, part: PartJSON, error: str) -> None:
        """Close a call as failed, from whatever state. A closed one stays as it is."""
        if is_closed(part):
            return
        now, state = now_ms(), part["state"]
        state["status"] = "error"
        state["error"] = error
        state["time"] = {"start": state.get("time", {"start": now})["start"], "end": now}
        self._book.save_part(part)

    def close(self, error: str) -> None:
        """Close all calls that are still open."""
        for part in self._parts:
            self.failed(part, error)


class CallContext:
    """What one running tool call may do; the tools' `ToolContext`."""

    def __init__(
        self,
        part: PartJSON,
        session: Session,
        sandbox: Sandbox | None,
        services: Services,
        message_id: str,
        permitted: Callable[[PartJSON, dict[str, Any]], Awaitable[Answer]],
    ) -> None:
        self._part = part
        self._permitted = permitted
        self._session = session
        self._message_id = message_id
        self._sandbox = sandbox
        self._messages = services.messages
        self._sessions = services.sessions
        self._artifacts = services.artifacts
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._buffers: dict[str, list[str]] = {}
        self._buffered = 0
        self._shown = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def part(self) -> PartJSON:
        return self._part

    @property
    def sandbox(self) -> Sandbox:
        """Raises RuntimeError for a tool that was said to need none."""
        if self._sandbox is None:
            raise RuntimeError("this tool runs without a container")
        return self._sandbox

    def output(self, stream: str, chunk: bytes) -> None:
        """Live output; sent in batches, and only so much of it."""
        if self._shown >= _LIVE_LIMIT:
            return
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoders[stream] = decoder
        text = decoder.decode(chunk)[: _LIVE_LIMIT - self._shown]
        self._shown += len(text)
        if self._shown >= _LIVE_LIMIT:
            text += _LIVE_STOP
        self._buffers.setdefault(stream, []).append(text)
        self._buffered += len(text)
        if self._buffered >= _LIVE_CHUNK:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_LIVE_INTERVAL, self.flush)

    def flush(self) -> None:
        """Send what is buffered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for stream, texts in self._buffers.items():
            text = "".join(texts)
            if text and not is_closed(self._part):
                self._messages.add_output(self._part, stream, text)
        self._buffers.clear()
        self._buffered = 0

    async def permit_write(self, path: str) -> None:
        arguments = {**self._part["state"]["input"], "filePath": path}
        answer = await self._permitted(self._part, arguments)
        if not answer.allowed:
            raise ToolFailed(answer.message)

    def edited(self, path: str) -> None:
        self._sessions.log.publish(
            self._session.id, "file.edited", {"sessionID": self._session.id, "file": path}
        )

    def metadata(self, **values: Any) -> None:
        self._part["state"].setdefault("metadata", {}).update(values)

    async def publish(
        self, path: str, data: bytes, key: str | None, description: str
    ) -> ArtifactJSON:
        return await self._artifacts.publish(
            self._session, self._message_id, path, data, key, description
        )

    def progress(self, **values: Any) -> None:
        """Facts about the running call that readers get at once; see `metadata()`."""
        self.metadata(**values)
        if not is_closed(self._part):
            self._messages.save_part(self._part)

    def get_todos(self) -> list[TodoJSON]:
        return list(self._session.todos)

    def set_todos(self, todos: list[TodoJSON]) -> None:
        self._session.todos = todos
        self._sessions.save(self._session)
        self._sessions.log.publish(
            self._session.id, "todo.updated", {"sessionID": self._session.id, "todos": todos}
        )
