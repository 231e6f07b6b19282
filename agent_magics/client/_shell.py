"""Commands in the session's container, their output as it comes."""

from __future__ import annotations

import base64
import codecs
import json
import math
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent_magics.wire import ShellResult, WireError

from ._errors import ApiError, BadRequest, ConnectionFailed, ProtocolError, SessionNotFound
from ._protocol import parse, session_path, why_lost
from ._sse import iter_events
from ._task_stream import Put, TaskStream

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["AsyncShellStream", "ShellOutput", "shell_request"]

_STREAMS = ("stdout", "stderr")
_LOST = "The engine was lost while the command ran ({}). The command was not run again."


@dataclass(frozen=True, slots=True)
class ShellOutput:
    """
    Some output of a running command; `stream` is "stdout" or "stderr".

    `data` are the bytes as they came, `text` what they mean as UTF-8: a character that is cut
    stands whole in the next chunk.
    """

    stream: str
    data: bytes
    text: str


def shell_request(
    command: str,
    *,
    timeout: float | timedelta | None = None,
    timeout_ms: float | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> dict[str, Any]:
    """
    The JSON of a command. A number as `timeout` is in milliseconds, like `timeout_ms`.

    Raises `BadRequest` for an empty command, two timeouts, and one that is not positive or has no
    end.
    """
    if not command.strip():
        raise BadRequest("The command is empty.")
    if timeout is not None and timeout_ms is not None:
        raise BadRequest("There are two timeouts; give `timeout` or `timeout_ms`.")
    limit = timeout_ms if timeout is None else timeout
    if isinstance(limit, timedelta):
        limit = limit.total_seconds() * 1000
    if limit is not None and not (math.isfinite(limit) and limit > 0):
        raise BadRequest("The timeout must be positive and finite.")
    body: dict[str, Any] = {
        "command": command,
        "timeout": None if limit is None else max(1, round(limit)),
        "cwd": cwd,
        "env": None if env is None else dict(env),
        "stdin": None if stdin is None else base64.b64encode(stdin).decode("ascii"),
    }
    return {name: value for name, value in body.items() if value is not None}


class AsyncShellStream(TaskStream[ShellOutput]):
    """
    The output of one command as `ShellOutput`s; `result` is there after the last one.

    Leaving the loop early ends the command, once the stream is closed: use `async with` or
    `aclose()`. Raises `ConnectionFailed` when the engine is lost: a command is not repeated.
    """

    def __init__(self, api: Api, session_id: str, body: Mapping[str, Any]) -> None:
        self._api = api
        self._path = session_path(session_id, "exec")
        self._reader = _ShellReader(api, self._path, body)
        super().__init__(self._reader.run)

    @property
    def result(self) -> ShellResult | None:
        return self._reader.result

    @property
    def running(self) -> bool:
        """The command has begun and is not over: there is something to interrupt."""
        return self._reader.id is not None and self._reader.result is None and not self.done

    async def interrupt(self, *, kill: bool = False) -> bool:
        """
        Ctrl-C: the command in front gets SIGINT. The stream goes on to the end, and has the result.

        A command that has not ended after five seconds is killed with all its processes, with
        `kill` at once. False when there is nothing to interrupt, not yet or any more.
        """
        if not self.running:
            return False
        path = f"{self._path}/{self._reader.id}/interrupt"
        return bool(await self._api.post_json(path, {"kill": kill}, missing=SessionNotFound))


class _ShellReader:
    def __init__(self, api: Api, path: str, body: Mapping[str, Any]) -> None:
        self.result: ShellResult | None = None
        self.id: str | None = None
        self._api = api
        self._path = path
        self._body = body
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in _STREAMS
        }
        self._texts: dict[str, list[str]] = {name: [] for name in _STREAMS}

    async def run(self, put: Put[ShellOutput]) -> None:
        import httpx

        await self._api.require_engine("shell")
        response = await self._api.open_stream(
            "POST", self._path, json=self._body, missing=SessionNotFound
        )
        try:
            async with aclosing(response), aclosing(iter_events(response)) as frames:
                async for frame in frames:
                    for output in self._read(frame.event, json.loads(frame.data)):
                        await put(output)
                    if self.result is not None:
                        return
        except (httpx.TransportError, httpx.StreamError) as error:
            raise ConnectionFailed(_LOST.format(why_lost(error))) from error
        except ValueError as error:
            raise ProtocolError(f"output that cannot be read: {error!r}") from error
        raise ConnectionFailed(_LOST.format("the reply ended"))

    def _read(self, event: str, data: Any) -> list[ShellOutput]:
        if event in _STREAMS:
            return [parse(self._output, event, data)]
        if event == "started":
            self.id = parse(_id, data)
        if event == "error":
            raise _error(data)
        if event != "exit":
            return []
        tails = [(name, self._decode(name, b"", final=True)) for name in _STREAMS]
        self.result = parse(self._finish, data)
        return [ShellOutput(name, b"", tail) for name, tail in tails if tail]

    def _output(self, stream: str, data: Mapping[str, Any]) -> ShellOutput:
        chunk = base64.b64decode(data["data"], validate=True)
        return ShellOutput(stream, chunk, self._decode(stream, chunk))

    def _decode(self, stream: str, chunk: bytes, *, final: bool = False) -> str:
        text = self._decoders[stream].decode(chunk, final)
        self._texts[stream].append(text)
        return text

    def _finish(self, data: Mapping[str, Any]) -> ShellResult:
        output = {name: "".join(texts) for name, texts in self._texts.items()}
        return ShellResult.from_json({**data, **output})


def _id(data: Mapping[str, Any]) -> str:
    return quote(str(data["id"]), safe="")


def _error(data: Mapping[str, Any]) -> ApiError:
    error = parse(WireError.from_json, data)
    return ApiError(error.message, name=error.name, data=error.data)
