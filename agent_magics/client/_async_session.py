"""A conversation with an agent, and the container that belongs to it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from agent_magics.wire import (
    AgentEvent,
    FileDiff,
    FileEntry,
    Message,
    PermissionAsked,
    PermissionReply,
    PermissionRequest,
    RevertPreview,
    RevertResult,
    SendResult,
    SessionInfo,
    SessionMetrics,
    ShellResult,
    SkippedFile,
    Todo,
    TurnEnded,
    WireEvent,
)

from . import _history
from ._arguments import names_checked
from ._artifacts import AsyncArtifacts, text_of
from ._async_turn import AsyncTurn, AsyncTurnStream
from ._callbacks import CallbackRun, StreamCallbacks
from ._command_call import TurnInput
from ._commands import AsyncCommands
from ._errors import (
    FileMissing,
    NotFound,
    PermissionNotFound,
    ProtocolError,
    SessionNotFound,
)
from ._family import AsyncFamily
from ._files import fetch_bytes, fetch_to, send_file
from ._follower import find_turn
from ._inputs import PromptInput
from ._protocol import api_path, as_mapping, parse, session_path, status_name
from ._runner import TurnRunner
from ._session_events import read_bytes, read_events
from ._shell import AsyncShellStream, shell_request
from ._summarize import summarize
from ._task_stream import TaskStream

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["AsyncSessionHandle"]

_END_TIMEOUT = 60.0
"""Ending a session ends its commands and deletes its files first."""


@names_checked
class AsyncSessionHandle(AsyncArtifacts, AsyncCommands, AsyncFamily):
    """
    One session. `id` is what `client.session(id)` takes to come back to it. `skipped` are the files
    that were left out where `fork_session` made it: `SkippedFile`s with `path` and `reason`.

    Every method raises `SessionNotFound` for a session that does not exist (any more) and
    `ConnectionFailed` when the server is out of reach.
    """

    def __init__(self, api: Api, id: str, skipped: tuple[SkippedFile, ...] = ()) -> None:
        self.id = id
        self.skipped = skipped
        self._api = api

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    # -- messages --------------------------------------------------------------------------------

    async def send(
        self,
        prompt: PromptInput,
        callbacks: StreamCallbacks | None = None,
        *,
        model: str | None = None,
        agent: str | None = None,
        **single: Callable[..., Any],
    ) -> SendResult:
        """
        Send a prompt and wait until the agent is through with it.

        `callbacks`, or single ones by name (`on_text=print`), are called while it works. Cancelling
        aborts the turn. `agent` names another one than the session's for this turn. Raises when the
        server does not take the prompt (`Busy`, `ProviderAuth`, `ModelNotFound`, `AgentNotFound`,
        `BadRequest`), and the first exception of a callback; a turn that fails later has `error`
        set in its result.
        """
        chosen = StreamCallbacks.of(callbacks, **single)
        return await self._follow(self.stream(prompt, model=model, agent=agent), chosen)

    def stream(
        self, prompt: TurnInput, *, model: str | None = None, agent: str | None = None
    ) -> AsyncTurnStream:
        """
        Send a prompt, or run a `CommandCall`, and iterate over what happens; the last event is
        `TurnEnded`.

        Leaving the loop early ends the reading; the turn goes on in the server until it ends or
        is aborted. Permissions that are asked meanwhile have to be answered by somebody.
        """
        return AsyncTurnStream(TurnRunner.of(self._api, self.id, prompt, model, agent))

    def start(
        self,
        prompt: TurnInput,
        *,
        on_event: Callable[[AgentEvent], None],
        model: str | None = None,
        agent: str | None = None,
    ) -> AsyncTurn:
        """
        Begin a turn and return at once.

        `on_event` is called on the event loop, in order; its last event is a `TurnEnded`, always.
        """
        return AsyncTurn(TurnRunner.of(self._api, self.id, prompt, model, agent), on_event)

    async def follow(
        self, *, on_event: Callable[[AgentEvent], None], only_running: bool = False
    ) -> AsyncTurn | None:
        """
        Follow a turn that was begun elsewhere, from its first event: the one that runs, else the
        last one, which is over at once. None when there is none.
        """
        follower = await find_turn(self._api, self.id, only_running=only_running)
        return None if follower is None else AsyncTurn(follower, on_event)

    async def abort(self) -> bool:
        """Stop the running turn. False when there is none. Returns when it is over."""
        return await self._api.abort(self.id)

    async def summarize(self, model: str | None = None) -> bool:
        """
        Let the model summarize the conversation; from then on it sees the summary instead of it.

        Nothing is lost: `get_messages()` has everything, the summary with `info.summary` set.
        `model` is the session's when left out. Cancelling aborts the summary; then, and after
        `abort()`, the conversation is as it was and the answer is False. Raises `BadRequest` when
        there is nothing to summarize yet, `Busy`, `TooLarge`, and `ServerError` for what the
        model failed with.
        """
        return await summarize(self._api, self.id, model)

    async def reply_to_permission(
        self, request_id: str, reply: PermissionReply, message: str | None = None
    ) -> None:
        """
        Answer a permission request of this session or of its sub-agents: "once", "always" or
        "reject".

        "always" allows `request.always` for the rest of this session, to its sub-agents too, and
        answers what waits for the same; `get_rules()` lists such answers. `message` tells the
        agent why. Raises `PermissionNotFound` for one that is settled.
        """
        body = {"reply": reply} if message is None else {"reply": reply, "message": message}
        path = api_path("permission", request_id, "reply")
        await self._api.post_json(path, body, missing=PermissionNotFound)

    # -- the past --------------------------------------------------------------------------------

    @overload
    async def revert(self, message_id: str, preview: Literal[False] = False) -> RevertResult: ...

    @overload
    async def revert(self, message_id: str, preview: Literal[True]) -> RevertPreview: ...

    async def revert(self, message_id: str, preview: bool = False) -> RevertResult | RevertPreview:
        """
        Remove this message and all after it, and undo what their turns did to files.

        The id of an answer means the prompt that it answers. `unrevert()` brings all of it back
        until the next prompt. With `preview` nothing changes. Raises `MessageNotFound`, `Busy`,
        and `RevertConflict` when somebody else changed one of these files since.
        """
        if preview:
            return await _history.preview(self._api, self.id, message_id)
        return await _history.revert(self._api, self.id, message_id)

    async def unrevert(self) -> None:
        """
        Bring back what the last `revert()` removed; nothing happens when there is nothing.

        Raises `Busy`, and `RevertConflict` when somebody else changed one of its files since.
        """
        await _history.unrevert(self._api, self.id)

    async def get_diff(self, message_id: str | None = None) -> list[FileDiff]:
        """
        What the turn of this message changed in /workspace, or all turns together.

        A turn is there when it is over. Raises `MessageNotFound`.
        """
        return await _history.get_diff(self._api, self.id, message_id)

    # -- the container ---------------------------------------------------------------------------

    async def shell(
        self,
        command: str,
        *,
        timeout: float | timedelta | None = None,
        timeout_ms: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        on_output: Callable[[str, str], Any] | None = None,
    ) -> ShellResult:
        """
        Run a command in the container, without the model.

        `timeout` is a number of milliseconds or a `timedelta`; `cwd` defaults to /workspace.
        `on_output` gets the stream's name and the text as it comes; an exception in it ends the
        command and is raised here.
        """
        stream = self.shell_stream(
            command, timeout=timeout, timeout_ms=timeout_ms, cwd=cwd, env=env, stdin=stdin
        )
        async with stream:
            async for output in stream:
                if on_output is not None:
                    answer = on_output(output.stream, output.text)
                    if inspect.isawaitable(answer):
                        await answer
        return shell_result(stream.result)

    def shell_stream(
        self,
        command: str,
        *,
        timeout: float | timedelta | None = None,
        timeout_ms: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> AsyncShellStream:
        """Like `shell()`, as an iterator of `ShellOutput`; its `result` is there at the end."""
        body = shell_request(
            command, timeout=timeout, timeout_ms=timeout_ms, cwd=cwd, env=env, stdin=stdin
        )
        return AsyncShellStream(self._api, self.id, body)

    async def get_file(self, path: str) -> str:
        """A text file of the container. Raises `FileMissing`, `NotText`."""
        return text_of(await self.get_file_buffer(path), f"The file {path}", "get_file_buffer()")

    async def get_file_buffer(self, path: str) -> bytes:
        """The exact bytes of a file, up to 256 MB. Raises `FileMissing`, `TooLarge`."""
        await self._api.require_engine("files")
        return await fetch_bytes(self._api, self.id, path)

    async def get_file_to(self, path: str, target: str | Path) -> int:
        """
        Write a file of the container, of any size, to the local file `target`; how many bytes.

        `target` is as it was until all is there. Raises `FileMissing`, and `OSError` for `target`.
        """
        await self._api.require_engine("files")
        return await fetch_to(self._api, self.id, path, Path(target))

    async def put_file(self, path: str, data: bytes | str | Path) -> None:
        """
        Write a file into the container, parents included.

        `data` are the bytes, a text, or a `Path` on this machine, of any size up to the container's
        `file_size`. Raises `TooLarge`.
        """
        await self._api.require_engine("files")
        await send_file(self._api, self.id, path, data)

    async def list_files(
        self, path: str = "/workspace", recursive: bool = False
    ) -> list[FileEntry]:
        """The entries of a directory of the container, by path. Raises `FileMissing`."""
        await self._api.require_engine("files")
        entries = await self._api.get_json(
            session_path(self.id, "fs", "list"),
            {"path": path, "recursive": "true" if recursive else "false"},
            missing=FileMissing,
        )
        return parse(lambda: [FileEntry.from_json(entry) for entry in entries])

    # -- what there is to know -------------------------------------------------------------------

    async def get_info(self) -> SessionInfo:
        data, statuses = await asyncio.gather(self._get(), self._api.get_json("/session/status"))
        return parse(lambda: SessionInfo.from_json(data, status_name(statuses, self.id)))

    async def get_messages(self) -> list[Message]:
        """The whole history, oldest first, without what is reverted."""
        return await _history.messages(self._api, self.id)

    async def get_metrics(self) -> SessionMetrics:
        await self._api.require_engine("metrics")
        return parse(SessionMetrics.from_json, as_mapping(await self._get("metrics")))

    async def get_todos(self) -> list[Todo]:
        todos = await self._get("todo")
        return parse(lambda: [Todo.from_json(todo) for todo in todos])

    async def get_permissions(self) -> list[PermissionRequest]:
        """The requests of this session and its sub-agents that wait for an answer."""
        requests = await self._api.get_json("/permission", {"sessionID": self.id})
        if not (await self._api.connection()).is_numbered:  # a plain server lists all there are
            requests = parse(lambda: [r for r in requests if r["sessionID"] == self.id])
        return parse(lambda: [PermissionRequest.from_json(request) for request in requests])

    async def update(self, *, title: str | None = None, archived: bool | None = None) -> None:
        body: dict[str, Any] = {}
        if title is not None:
            body["title"] = title
        if archived is not None:
            body["time"] = {"archived": _now_ms() if archived else 0}
        if body:
            path = session_path(self.id)
            await self._api.post_json(path, body, method="PATCH", missing=SessionNotFound)

    def events(self, last_event_id: str | int | None = None) -> TaskStream[bytes]:
        """
        The session's event stream as raw bytes, after `last_event_id` or from now on.

        It ends with the connection: `ConnectionFailed` when that breaks. Reconnecting is yours.
        """
        position = None if last_event_id is None else str(last_event_id)
        return TaskStream(functools.partial(read_bytes, self._api, self.id, position))

    def parsed_events(self, last_event_id: str | int | None = None) -> TaskStream[WireEvent]:
        """
        The session's events, after `last_event_id` or from now on, without end.

        A broken connection is restored: no event is missed, none comes twice. `event.seq` is what
        `last_event_id` takes. Raises `ConnectionFailed` when restoring it fails for too long.
        """
        position = None if last_event_id is None else str(last_event_id)
        return TaskStream(functools.partial(read_events, self._api, self.id, position))

    async def end(self) -> None:
        """Delete the session, its container and its files. Harmless when repeated."""
        with suppress(NotFound):
            await self._api.request("DELETE", session_path(self.id), timeout=_END_TIMEOUT)

    # -- inside ----------------------------------------------------------------------------------

    async def _follow(self, stream: AsyncTurnStream, callbacks: StreamCallbacks) -> SendResult:
        """Call the callbacks until the turn is over; cancelling aborts it."""
        run = CallbackRun(callbacks)
        answers: set[asyncio.Task[None]] = set()
        result: SendResult | None = None
        try:
            async for event in stream:
                await self._call(run, event, answers)
                if isinstance(event, TurnEnded):
                    result = event.result
        except asyncio.CancelledError:
            await stream.abort_patiently()
            raise
        finally:
            for answer in answers:
                answer.cancel()
            await stream.aclose()
        return finished(run, result)

    async def _get(self, *rest: str) -> Any:
        return await self._api.get_json(session_path(self.id, *rest), missing=SessionNotFound)

    async def _call(
        self, run: CallbackRun, event: AgentEvent, answers: set[asyncio.Task[None]]
    ) -> None:
        for name, call in run.calls(event):
            try:
                answer = call()
                if isinstance(event, PermissionAsked) and inspect.isawaitable(answer):
                    # The turn goes on meanwhile: somebody else may be faster.
                    task = asyncio.create_task(self._answer_later(run, event, answer))
                    answers.add(task)
                    task.add_done_callback(answers.discard)
                    continue
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:
                run.failed(name, error)
            else:
                if isinstance(event, PermissionAsked) and answer is not None:
                    await self._answer(run, event, answer)
        await self._answer_by_default(run, event)

    async def _answer_later(self, run: CallbackRun, event: PermissionAsked, answer: Any) -> None:
        try:
            reply = await answer
        except Exception as error:
            run.failed("on_permission", error)
            await self._answer_by_default(run, event)
        else:
            if reply is not None:
                await self._answer(run, event, reply)

    async def _answer_by_default(self, run: CallbackRun, event: AgentEvent) -> None:
        if isinstance(event, PermissionAsked) and (default := run.default_reply(event)):
            await self._answer(run, event, *default)

    async def _answer(
        self, run: CallbackRun, event: PermissionAsked, reply: Any, message: str | None = None
    ) -> None:
        try:
            await self.reply_to_permission(event.request.id, reply, message)
        except PermissionNotFound:
            return  # Somebody else was faster.
        except Exception as error:
            run.failed("on_permission", error)


def finished(run: CallbackRun, result: SendResult | None) -> SendResult:
    """What `send()` returns, or the exception of a callback."""
    if run.error is not None:
        raise run.error
    if result is None:
        raise ProtocolError("The turn has no end.")
    return result


def shell_result(result: ShellResult | None) -> ShellResult:
    if result is None:
        raise ProtocolError("The command has no end.")
    return result


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
