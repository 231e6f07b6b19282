"""Sync sessions and turns: thin drivers of the async ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

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

from ._arguments import names_checked
from ._artifacts import Artifacts
from ._async_session import AsyncSessionHandle, finished, shell_result
from ._async_turn import AsyncTurn, AsyncTurnStream
from ._callbacks import CallbackRun, StreamCallbacks
from ._command_call import TurnInput
from ._commands import Commands
from ._errors import ConnectionFailed, PermissionNotFound
from ._family import Family
from ._inputs import PromptInput
from ._shell import AsyncShellStream, ShellOutput
from ._task_stream import TaskStream

if TYPE_CHECKING:
    from ._sync import Client

__all__ = ["SessionHandle", "ShellStream", "SyncStream", "Turn", "TurnStream"]

T = TypeVar("T")


@names_checked
class SessionHandle(Artifacts, Commands, Family):
    """
    One session. `id` is what `client.session(id)` takes to come back to it.

    Every method raises `SessionNotFound` for a session that does not exist (any more) and
    `ConnectionFailed` when the server is out of reach. What is not said here is said at the
    method of the same name of `AsyncSessionHandle`.
    """

    def __init__(self, client: Client, core: AsyncSessionHandle) -> None:
        self._client = client
        self._core = core
        self._run = client.run

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        return self._core.id

    @property
    def skipped(self) -> tuple[SkippedFile, ...]:
        """The files that were left out where `fork_session` made this session, and why."""
        return self._core.skipped

    # -- messages --------------------------------------------------------------------------------

    def send(
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

        `callbacks`, or single ones by name (`on_text=print`), are called on this thread while it
        works. An interrupt (Ctrl-C, Stop) aborts the turn and is raised again. `agent` names
        another one than the session's for this turn.
        """
        chosen = StreamCallbacks.of(callbacks, **single)
        return self._follow(self.stream(prompt, model=model, agent=agent), chosen)

    def stream(
        self, prompt: TurnInput, *, model: str | None = None, agent: str | None = None
    ) -> TurnStream:
        """
        Send a prompt, or run a `CommandCall`, and iterate over what happens; the last event is
        `TurnEnded`.

        Leaving the loop early ends the reading; the turn goes on in the server until it ends or
        is aborted.
        """
        return TurnStream(self._client, self._core.stream(prompt, model=model, agent=agent))

    def start(
        self,
        prompt: TurnInput,
        *,
        on_event: Callable[[AgentEvent], None],
        model: str | None = None,
        agent: str | None = None,
    ) -> Turn:
        """
        Begin a turn and return at once.

        `on_event` is called on the client's thread, in order; its last event is a `TurnEnded`,
        always, also when the server refuses the prompt or is lost. It must not block and must not
        call this client's sync methods.
        """

        async def begin() -> AsyncTurn:
            return self._core.start(prompt, on_event=on_event, model=model, agent=agent)

        return Turn(self._client, self._run(begin()))

    def follow(
        self, *, on_event: Callable[[AgentEvent], None], only_running: bool = False
    ) -> Turn | None:
        """
        Follow a turn that was begun elsewhere, from its first event: the one that runs, else the
        last one, which is over at once. None when there is none. `on_event` as in `start()`.
        """
        found = self._run(self._core.follow(on_event=on_event, only_running=only_running))
        return None if found is None else Turn(self._client, found)

    def abort(self) -> bool:
        """Stop the running turn. False when there is none. Returns when it is over."""
        return self._run(self._core.abort())

    def summarize(self, model: str | None = None) -> bool:
        """
        Let the model summarize the conversation; from then on it sees the summary instead of it.

        False when it was aborted. An interrupt (Ctrl-C, Stop) aborts it and is raised again.
        """
        return self._run(self._core.summarize(model))

    def reply_to_permission(
        self, request_id: str, reply: PermissionReply, message: str | None = None
    ) -> None:
        """
        Answer a permission request of this session or of its sub-agents.

        "always" allows `request.always` for the rest of this session, to its sub-agents too;
        `get_rules()` lists such answers. Raises `PermissionNotFound` for one that is settled.
        """
        self._run(self._core.reply_to_permission(request_id, reply, message))

    # -- the past --------------------------------------------------------------------------------

    @overload
    def revert(self, message_id: str, preview: Literal[False] = False) -> RevertResult: ...

    @overload
    def revert(self, message_id: str, preview: Literal[True]) -> RevertPreview: ...

    def revert(self, message_id: str, preview: bool = False) -> RevertResult | RevertPreview:
        """
        Remove this message and all after it, and undo what their turns did to files.

        With `preview` nothing changes. Raises `MessageNotFound`, `Busy`, `RevertConflict`.
        """
        if preview:
            return self._run(self._core.revert(message_id, True))
        return self._run(self._core.revert(message_id))

    def unrevert(self) -> None:
        """Bring back what the last `revert()` removed; possible until the next prompt."""
        self._run(self._core.unrevert())

    def get_diff(self, message_id: str | None = None) -> list[FileDiff]:
        """What the turn of this message changed in /workspace, or all turns together."""
        return self._run(self._core.get_diff(message_id))

    # -- the container ---------------------------------------------------------------------------

    def shell(
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

        `timeout` is a number of milliseconds or a `timedelta`. `on_output` gets the stream's name
        and the text as it comes, on this thread. An interrupt, or an exception in `on_output`,
        ends the command and is raised again.
        """
        with self.shell_stream(
            command, timeout=timeout, timeout_ms=timeout_ms, cwd=cwd, env=env, stdin=stdin
        ) as stream:
            for output in stream:
                if on_output is not None:
                    on_output(output.stream, output.text)
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
    ) -> ShellStream:
        """Like `shell()`, as an iterator of `ShellOutput`; its `result` is there at the end."""
        core = self._core.shell_stream(
            command, timeout=timeout, timeout_ms=timeout_ms, cwd=cwd, env=env, stdin=stdin
        )
        return ShellStream(self._client, core)

    def get_file(self, path: str) -> str:
        """A text file of the container. Raises `FileMissing`, `NotText`."""
        return self._run(self._core.get_file(path))

    def get_file_buffer(self, path: str) -> bytes:
        """The exact bytes of a file, up to 256 MB. Raises `FileMissing`, `TooLarge`."""
        return self._run(self._core.get_file_buffer(path))

    def get_file_to(self, path: str, target: str | Path) -> int:
        """Write a file of the container, of any size, to a local one. Raises `FileMissing`."""
        return self._run(self._core.get_file_to(path, target))

    def put_file(self, path: str, data: bytes | str | Path) -> None:
        """Write bytes, a text or a local file (`Path`) into the container, parents included."""
        self._run(self._core.put_file(path, data))

    def list_files(self, path: str = "/workspace", recursive: bool = False) -> list[FileEntry]:
        """The entries of a directory of the container, by path. Raises `FileMissing`."""
        return self._run(self._core.list_files(path, recursive))

    # -- what there is to know -------------------------------------------------------------------

    def get_info(self) -> SessionInfo:
        return self._run(self._core.get_info())

    def get_messages(self) -> list[Message]:
        """The whole history, oldest first, without what is reverted."""
        return self._run(self._core.get_messages())

    def get_metrics(self) -> SessionMetrics:
        return self._run(self._core.get_metrics())

    def get_todos(self) -> list[Todo]:
        return self._run(self._core.get_todos())

    def get_permissions(self) -> list[PermissionRequest]:
        """The requests of this session and its sub-agents that wait for an answer."""
        return self._run(self._core.get_permissions())

    def update(self, *, title: str | None = None, archived: bool | None = None) -> None:
        self._run(self._core.update(title=title, archived=archived))

    def events(self, last_event_id: str | int | None = None) -> SyncStream[bytes]:
        """
        The session's event stream as raw bytes, after `last_event_id` or from now on.

        It ends with the connection: `ConnectionFailed` when that breaks. Reconnecting is yours.
        """
        return SyncStream(self._client, self._core.events(last_event_id))

    def parsed_events(self, last_event_id: str | int | None = None) -> SyncStream[WireEvent]:
        """
        The session's events, after `last_event_id` or from now on, without end.

        A broken connection is restored: no event is missed, none comes twice. `event.seq` is what
        `last_event_id` takes. Raises `ConnectionFailed` when restoring it fails for too long.
        """
        return SyncStream(self._client, self._core.parsed_events(last_event_id))

    def end(self) -> None:
        """Delete the session, its container and its files. Harmless when repeated."""
        self._run(self._core.end())

    # -- inside ----------------------------------------------------------------------------------

    def _follow(self, turn: TurnStream, callbacks: StreamCallbacks) -> SendResult:
        """Call the callbacks until the turn is over; an interrupt aborts it."""
        run = CallbackRun(callbacks)
        result: SendResult | None = None
        with turn as stream:
            try:
                for event in stream:
                    self._call(run, event)
                    if isinstance(event, TurnEnded):
                        result = event.result
            except (KeyboardInterrupt, SystemExit):
                stream.abort_patiently()
                raise
        return finished(run, result)

    def _call(self, run: CallbackRun, event: AgentEvent) -> None:
        for name, call in run.calls(event):
            try:
                answer = call()
                if isinstance(event, PermissionAsked) and answer is not None:
                    self._answer(event, answer)
            except Exception as error:
                run.failed(name, error)
        if isinstance(event, PermissionAsked) and (default := run.default_reply(event)):
            self._answer(event, *default)

    def _answer(self, event: PermissionAsked, reply: Any, message: str | None = None) -> None:
        # Settled already: somebody else was faster.
        with suppress(PermissionNotFound):
            self.reply_to_permission(event.request.id, reply, message)


class Turn:
    """A turn that `start()` began. `message_id` is the id of the user's message."""

    def __init__(self, client: Client, core: AsyncTurn) -> None:
        self._client = client
        self._core = core

    @property
    def message_id(self) -> str:
        return self._core.message_id

    @property
    def done(self) -> bool:
        return self._core.done

    def abort(self) -> None:
        """Stop the turn; what has arrived is kept. Harmless when it is over."""
        self._client.run(self._core.abort())

    def result(self, timeout: float | None = None) -> SendResult:
        """
        Wait for the end, at most `timeout` seconds: `TimeoutError` after that.

        Raises the typed error when the server did not take the prompt, and an exception of
        `on_event`, once.
        """
        return self._client.run(asyncio.wait_for(self._core.result(), timeout))


class SyncStream(Generic[T]):
    """An iterator over what comes; ended by `with`, by `close()`, or when it is dropped."""

    def __init__(self, client: Client, core: TaskStream[T]) -> None:
        self._client = client
        self._stream = core
        self._ready: list[T] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if not self._ready:
            self._ready = self._client.run(self._stream.take())[::-1]
        if not self._ready:
            raise StopIteration
        return self._ready.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. Harmless when repeated."""
        # A closed client has closed this too.
        with suppress(ConnectionFailed):
            self._client.run(self._stream.aclose())


class TurnStream(SyncStream[AgentEvent]):
    """The events of one turn. Closing it ends the reading; the turn goes on in the server."""

    def __init__(self, client: Client, core: AsyncTurnStream) -> None:
        super().__init__(client, core)
        self._core = core

    @property
    def message_id(self) -> str:
        """The id of the user's message."""
        return self._core.message_id

    def abort(self) -> None:
        """Stop the turn; its last events still come."""
        self._client.run(self._core.abort())

    def abort_patiently(self) -> None:
        """Abort on the way out: at most a few seconds, and without an error of its own."""
        with suppress(ConnectionFailed):
            self._client.run(self._core.abort_patiently())


class ShellStream(SyncStream[ShellOutput]):
    """
    The output of one command. Closing it early (`with`, or `close()`) ends the command.

    `close()` may come from another thread than the one that reads: that one gets
    `concurrent.futures.CancelledError`.
    """

    def __init__(self, client: Client, core: AsyncShellStream) -> None:
        super().__init__(client, core)
        self._core = core

    def __next__(self) -> ShellOutput:
        try:
            return super().__next__()
        except StopIteration:
            if self.result is None:
                raise CancelledError("The command was ended.") from None
            raise

    @property
    def result(self) -> ShellResult | None:
        """What the command did; there after its last output."""
        return self._core.result

    @property
    def running(self) -> bool:
        """The command has begun and is not over: there is something to interrupt."""
        return self._core.running

    def interrupt(self, *, kill: bool = False) -> bool:
        """Ctrl-C, also from another thread; see `AsyncShellStream.interrupt`."""
        return self._client.run(self._core.interrupt(kill=kill))
