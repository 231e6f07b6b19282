"""The session's container: run a command, read and write its files."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import mimetypes
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agent_magics.sandbox import Limits, OpenFile, Sandbox, SandboxError
from agent_magics.wire import ExecBody, FileJSON, InterruptBody, ShellJSON, spelled_name

from ._body import LARGEST_BODY, Body, query_flag, query_int, read_json, stream_body
from ._errors import ApiError, BadRequest, file_errors, from_exception
from ._live import LiveRun, LiveRuns
from ._names import meant_path
from ._operations import BYTES, NUMBER, Query, operation
from ._requests import Json, engine_of, session_of, while_there
from ._sessions import WORKSPACE
from ._sse import frame, stream_response
from ._text import dumps

__all__ = ["routes"]

log = logging.getLogger(__name__)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = Query("path", required=True, description="Below /workspace when relative.")
_FOLDER = Query("path", description="/workspace when absent.")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def _sandbox(request: Request) -> Sandbox:
    return await engine_of(request).containers.started(session_of(request))


# -- commands


@operation(ShellJSON, body=ExecBody, container=True)
async def execute(request: Request) -> Response:
    """Run a command in the container.

    With `Accept: text/event-stream`: one `started` with an `id`, by which it can be interrupted,
    `stdout` and `stderr` events (base64), then one `exit`. A caller that goes away takes the
    command with it.
    """
    session = session_of(request)
    containers = engine_of(request).containers
    limits = containers.get(session).limits
    body = await read_json(request)
    command, options = body.text("command"), _options(body, limits)
    if "\0" in command or not command.strip():
        raise body.error("command", "is empty" if not command.strip() else "has a NUL")
    sandbox = await _sandbox(request)
    if "text/event-stream" in request.headers.get("accept", ""):
        run = LiveRun(sandbox, command, options)
        return stream_response(_live_frames(containers.runs, session.id, run))
    with file_errors():
        result = await while_there(request, sandbox.run(command, **options))
    if result is None:
        return Response(status_code=204)  # nobody gets it
    return Json(
        {
            "stdout": result.stdout.decode(errors="replace"),
            "stderr": result.stderr.decode(errors="replace"),
            "exitCode": result.exit_code,
            "timedOut": result.timed_out,
            "truncated": result.truncated,
        }
    )


def _options(body: Body, limits: Limits) -> dict[str, Any]:
    timeout = body.number("timeout", least=1, most=limits.longest_timeout * 1000)
    options: dict[str, Any] = {
        "max_output": limits.output,
        "cwd": body.optional_text("cwd") or WORKSPACE,
        "timeout": limits.timeout if timeout is None else timeout / 1000,
        "env": body.text_map("env") or None,
    }
    for name, value in (options["env"] or {}).items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise body.error("env", "must have names of variables and values without NUL")
    if "\0" in options["cwd"]:
        raise body.error("cwd", "has a NUL")
    stdin = body.optional_text("stdin")
    if stdin is not None:
        try:
            options["stdin"] = base64.b64decode(stdin, validate=True)
        except (binascii.Error, ValueError):
            raise body.error("stdin", "must be base64") from None
    return options


async def _live_frames(runs: LiveRuns, session_id: str, run: LiveRun) -> AsyncGenerator[str, None]:
    """
    Output as it comes, then one `exit`. A command that can't be run ends with one `error`.

    A reader that goes away takes the command with it.
    """
    with runs.listed(session_id, run) as id:
        yield frame(dumps({"id": id}), event="started")
        async with contextlib.aclosing(_output_frames(run)) as frames:
            async for text in frames:
                yield text


async def _output_frames(run: LiveRun) -> AsyncGenerator[str, None]:
    try:
        async for stream, data in run:
            payload = base64.b64encode(data).decode()
            yield frame(dumps({"data": payload}), event=stream)
        try:
            with file_errors():
                result = run.result()
        except Exception as error:
            answer = from_exception(error, "running a command")
            yield frame(dumps(answer.to_json()), event="error")
            return
        ending = {
            "exitCode": result.exit_code,
            "timedOut": result.timed_out,
            "truncated": result.truncated or run.dropped,
        }
        yield frame(dumps(ending), event="exit")
    finally:
        await run.stop()


@operation(bool, body=InterruptBody, optional_body=True)
async def interrupt(request: Request) -> Json:
    """Ctrl-C to a running command; its output goes on to its end. False when it is over."""
    session, body = session_of(request), await read_json(request, optional=True)
    runs = engine_of(request).containers.runs
    id = request.path_params["command"]
    return Json(runs.interrupt(session.id, id, kill=body.flag("kill")))


# -- files


def _path(request: Request, default: str | None = None) -> str:
    # Names of files are bytes; those that are no UTF-8 survive the way there and back, as bytes or
    # spelled \\xNN.
    raw = parse_qs(request.url.query, errors="surrogateescape").get("path", [""])[0]
    path = raw or default
    if not path:
        raise BadRequest("path: is missing")
    if "\0" in path:
        raise BadRequest("path: has a NUL")
    return path


@operation(BYTES, query=[_PATH], also={206: BYTES}, container=True)
async def read_file(request: Request) -> Response:
    """Exact bytes of a file; takes ranges."""
    sandbox = await _sandbox(request)
    path = await meant_path(sandbox, _path(request))
    with file_errors():
        file = await sandbox.open_file(path)
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    # Never to be run by a browser, whatever the agent wrote into the file.
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    wanted, status = _range(request.headers.get("range"), file.size), 206
    if wanted is None:
        wanted, status = range(file.size), 200
    elif not wanted:
        headers["Content-Range"] = f"bytes */{file.size}"
        raise ApiError("The range is empty.", status=416, name="RangeError", headers=headers)
    else:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{file.size}"
    if file.whole is not None:
        data = file.whole[wanted.start : wanted.stop]
        return Response(data, status_code=status, media_type=media_type, headers=headers)
    headers["Content-Length"] = str(len(wanted))
    return StreamingResponse(
        _content(file, wanted), status_code=status, media_type=media_type, headers=headers
    )


async def _content(file: OpenFile, wanted: range) -> AsyncGenerator[bytes, None]:
    """The bytes. When the file is lost meanwhile, the reader misses what was announced."""
    try:
        async for data in file.read(wanted.start, wanted.stop):
            yield data
    except (OSError, SandboxError) as error:
        log.warning("a file could not be sent to its end: %s", type(error).__name__)
        raise ApiError("The file was lost on its way.") from error  # which breaks the connection


def _range(header: str | None, size: int) -> range | None:
    """The bytes that a Range header means; None without one that is understood."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    end = size if not last else min(size, int(last) + 1)
    return range(int(first), end)


def _note(request: Request, path: str) -> None:
    """What is written here while a turn runs is not the turn's work."""
    engine = engine_of(request)
    for session in engine.sessions.sharing(session_of(request)):
        if session.turn is not None and session.turn.checkpoint is not None:
            engine.checkpoints.written(session.turn.checkpoint, path)


@operation(dict[str, Any], body=BYTES, query=[_PATH], container=True)
async def write_file(request: Request) -> Response:
    """Write a file whole; folders are made."""
    sandbox = await _sandbox(request)
    path = await meant_path(sandbox, _path(request))
    _note(request, path)
    body = _Counted(stream_body(request, sandbox.limits.file_size))
    try:
        with file_errors():
            await sandbox.write_file(path, body)
    except ApiError:
        await body.drain()
        raise
    return Json({"path": spelled_name(path), "size": body.size})


class _Counted:
    """A body on its way to a file."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.size = 0
        self._chunks = chunks

    def __aiter__(self) -> _Counted:
        return self

    async def __anext__(self) -> bytes:
        data = await anext(self._chunks)
        self.size += len(data)
        return data

    async def drain(self) -> None:
        """Take what still comes, up to a bound: many clients read no answer before all is sent."""
        most = self.size + LARGEST_BODY
        with contextlib.suppress(ApiError):
            async for _ in self:
                if self.size > most:
                    return


@operation(bool, query=[_PATH], container=True)
async def delete_file(request: Request) -> Response:
    """Delete a file."""
    sandbox = await _sandbox(request)
    path = await meant_path(sandbox, _path(request))
    _note(request, path)
    with file_errors():
        await sandbox.delete_file(path)
    return Json(True)


@operation(
    list[FileJSON],
    query=[_FOLDER, Query("recursive", bool), Query("limit", NUMBER)],
    container=True,
)
async def list_files(request: Request) -> Response:
    """Entries of a folder."""
    named, query = _path(request, WORKSPACE), request.query_params
    recursive = query_flag(query, "recursive")
    limit = query_int(query, "limit")
    sandbox = await _sandbox(request)
    path = await meant_path(sandbox, named)
    with file_errors():
        files = await sandbox.list_files(
            path, recursive=recursive, limit=10_000 if limit is None else min(limit, 100_000)
        )
    entries = [{"path": f.path, "kind": f.kind, "size": f.size, "mtime": f.mtime} for f in files]
    return Response(json.dumps(entries), media_type="application/json")


routes = [
    Route("/session/{id}/exec", execute, methods=["POST"]),
    Route("/session/{id}/exec/{command}/interrupt", interrupt, methods=["POST"]),
    Route("/session/{id}/fs", read_file),
    Route("/session/{id}/fs", write_file, methods=["PUT"]),
    Route("/session/{id}/fs", delete_file, methods=["DELETE"]),
    Route("/session/{id}/fs/list", list_files),
]
