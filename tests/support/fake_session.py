"""
A client without an engine: sessions whose turns follow a script.

A script is a function of a `FakeTurn`; it emits `AgentEvent`s, asks, and returns. The one
`TurnEnded` is added at its end, as the client does it.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from agent_magics.client import ShellOutput
from agent_magics.notebook._session import SessionKeeper
from agent_magics.wire import (
    AgentEvent,
    Artifact,
    Attachment,
    FileEntry,
    FilePart,
    Message,
    PermissionAsked,
    PermissionReplied,
    PermissionRequest,
    SendResult,
    SessionInfo,
    SessionMetrics,
    ShellResult,
    TextDelta,
    TextPart,
    Todo,
    TodosUpdated,
    ToolComplete,
    ToolPart,
    ToolStart,
    ToolState,
    ToolUpdate,
    TurnEnded,
    TurnStarted,
    WireError,
)

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)

Script = Callable[["FakeTurn"], None]


class FakeTurn:
    """One running script. `prompt`, `model` and `agent` are what the notebook sent."""

    def __init__(
        self,
        session: FakeSession,
        prompt: Any,
        model: str | None,
        agent: str | None,
        on_event: Callable[..., None],
    ) -> None:
        self.session = session
        self.prompt = prompt
        self.model = model
        self.agent = agent
        self.message_id = f"msg_{next(session.counter):04}"
        self.aborted = threading.Event()
        self.outcome = "completed"
        self.error: WireError | None = None
        self.finish_reason = "stop"
        self._on_event = on_event
        self._text = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def abort(self) -> bool:
        self.session.calls.append(("abort", self.message_id))
        self.aborted.set()
        self.session.changed()
        return True

    # -- for scripts -----------------------------------------------------------------------------

    def emit(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta):
            self._text += event.delta
        self._on_event(event)

    def say(self, text: str) -> None:
        self.emit(TextDelta(text, "prt_text"))

    def tool(self, command: str, output: str) -> None:
        def part(status: str, **state: Any) -> ToolPart:
            values = {"input": {"command": command}, "title": command, **state}
            return ToolPart(
                "prt_tool", "msg_a", self.session.id, "bash", "call_1", ToolState(status, **values)
            )

        self.emit(ToolStart(part("pending", input={}, title="")))
        self.emit(ToolUpdate(part("running")))
        self.emit(ToolUpdate(part("running"), output))
        self.emit(ToolComplete(part("completed", output=output)))

    def ask(self, command: str = "rm -rf build", request_id: str = "per_1") -> str | None:
        """Ask for permission and wait: the reply, `None` when the turn was aborted."""
        request = PermissionRequest(
            id=request_id,
            session_id=self.session.id,
            permission="bash",
            patterns=(command,),
            always=(f"{command.split()[0]} *",),
            metadata={"command": command},
        )
        self.emit(PermissionAsked(request))
        reply = self.session.wait_for(
            lambda: (
                self.session.replies.pop(request_id, None) or (self.aborted.is_set() and "aborted")
            )
        )
        self.emit(PermissionReplied(request_id, "reject" if reply == "aborted" else reply))
        return None if reply == "aborted" else reply

    def image(self, path: str = "/workspace/mass.png") -> None:
        part = FilePart(
            "prt_f", "msg_a", self.session.id, "image/png", f"file://{path}", "mass.png"
        )
        self.emit(Attachment(part))

    def fail(self, name: str, message: str) -> None:
        self.outcome, self.error = "error", WireError(name, message)

    # -- the run ---------------------------------------------------------------------------------

    def start(self) -> FakeTurn:
        self._thread.start()
        return self

    def _run(self) -> None:
        self._on_event(TurnStarted(self.message_id))
        self.session.script(self)
        if self.aborted.is_set():
            self.outcome = "aborted"
            self.error = WireError("MessageAbortedError", "The turn was aborted.")
        text = TextPart("prt_text", "msg_a", self.session.id, self._text)
        result = SendResult(
            "msg_a",
            self._text,
            parts=(text,),
            error=self.error,
            finish_reason=self.finish_reason,
        )
        self._on_event(TurnEnded(self.outcome, result))


class FakeShellStream:
    """
    Prints what the session's `shell_result` says; with `shell_hangs` it waits to be closed, or for
    as many interrupts as the session's `shell_patience`.
    """

    def __init__(self, session: FakeSession) -> None:
        self._session = session
        self.result: ShellResult | None = None
        self.running = True

    def __enter__(self) -> FakeShellStream:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def __iter__(self) -> Iterator[ShellOutput]:
        result = self._session.shell_result
        for stream, text in (("stdout", result.stdout), ("stderr", result.stderr)):
            yield ShellOutput(stream, text.encode(), text)
        self._session.shell_printed.set()
        if self._session.shell_hangs and self._session.shell_closed.wait(60):
            if not self._session.shell_killed:
                raise concurrent.futures.CancelledError
            yield ShellOutput("stdout", b"^C", "^C")
            result = ShellResult(result.stdout + "^C", result.stderr, 130)
        self.result = result

    def interrupt(self, *, kill: bool = False) -> bool:
        self._session.calls.append(("interrupt", kill))
        self._session.shell_patience -= 1
        if not self._session.shell_patience:
            self._session.shell_killed = True
            self._session.shell_closed.set()
        return True

    def close(self) -> None:
        self._session.shell_closed.set()


class FakeEvents:
    """The events of a session in which nothing happens; they end when they are closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[AgentEvent]:
        self._closed.wait()
        return iter(())

    def close(self) -> None:
        self._closed.set()


class FakeSession:
    """`calls` lists what was asked of it, `replies` the permission replies by request id."""

    def __init__(self, script: Script, id: str = "ses_fake") -> None:
        self.script = script
        self.id = id
        self.calls: list[tuple[Any, ...]] = []
        self.replies: dict[str, str] = {}
        self.files: dict[str, bytes] = {"/workspace/mass.png": PNG}
        self.turns: list[FakeTurn] = []
        self.counter = itertools.count(1)
        self.reply_error: Exception | None = None
        self.start_error: Exception | None = None
        self.shell_result = ShellResult("out\n", "err\n", 0)
        self.shell_hangs = False
        self.shell_printed = threading.Event()
        self.shell_closed = threading.Event()
        self.shell_patience = 0
        self.shell_killed = False
        self._condition = threading.Condition()

    def start(
        self,
        prompt: Any,
        *,
        on_event: Callable[..., None],
        model: str | None = None,
        agent: str | None = None,
    ) -> FakeTurn:
        if self.start_error is not None:
            raise self.start_error
        turn = FakeTurn(self, prompt, model, agent, on_event)
        self.turns.append(turn)
        return turn.start()

    def reply_to_permission(self, request_id: str, reply: str, message: str | None = None) -> None:
        self.calls.append(("reply", request_id, reply, message))
        if self.reply_error is not None:
            error, self.reply_error = self.reply_error, None
            raise error
        self.replies[request_id] = reply
        self.changed()

    def get_file_buffer(self, path: str) -> bytes:
        return self.files[path]

    def put_file(self, path: str, data: Any) -> None:
        self.files[path] = data if isinstance(data, bytes) else data.read_bytes()

    def shell_stream(
        self, command: str, *, timeout: timedelta | None = None, cwd: str | None = None
    ) -> FakeShellStream:
        self.calls.append(("shell", command, timeout, cwd))
        return FakeShellStream(self)

    def shell(
        self, command: str, *, timeout: timedelta, cwd: str, on_output: Callable[[str, str], Any]
    ) -> ShellResult:
        self.calls.append(("shell", command, timeout, cwd))
        on_output("stdout", self.shell_result.stdout)
        return self.shell_result

    def update(self, **values: Any) -> None:
        self.calls.append(("update", values))

    def get_info(self) -> SessionInfo:
        return SessionInfo(self.id, "Fake", sandbox="bubblewrap")

    def parsed_events(self) -> FakeEvents:
        return FakeEvents()

    def get_metrics(self) -> SessionMetrics:
        return SessionMetrics(self.id)

    def get_permissions(self) -> list[PermissionRequest]:
        return []

    def get_todos(self) -> list[Todo]:
        return []

    def get_messages(self) -> list[Message]:
        return []

    def list_artifacts(self) -> list[Artifact]:
        return []

    def list_files(self, path: str) -> list[FileEntry]:
        return []

    def changed(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def wait_for(self, predicate: Callable[[], Any]) -> Any:
        with self._condition:
            return self._condition.wait_for(predicate, timeout=60)


class FakeClient:
    """Hands out `FakeSession`s that all follow one script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.sessions: dict[str, FakeSession] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.create_error: Exception | None = None
        self._numbers = itertools.count(1)

    def create_session(self, title: str | None = None, **options: Any) -> FakeSession:
        self.calls.append(("create", title, options))
        if self.create_error is not None:
            raise self.create_error
        return self.session(f"ses_fake{next(self._numbers)}")

    def session(self, session_id: str) -> FakeSession:
        return self.sessions.setdefault(session_id, FakeSession(self.script, session_id))

    def list_sessions(self) -> list[SessionInfo]:
        return [session.get_info() for session in self.sessions.values()]

    def health(self) -> dict[str, Any]:
        self.calls.append(("health",))
        return {"healthy": True}

    def close(self) -> None:
        self.calls.append(("close",))


def prompting(prompt: Any, model: str | None = None) -> Any:
    """What `run_turn` calls to begin a turn with this prompt."""
    return lambda session, on_event: session.start(prompt, on_event=on_event, model=model)


def install(shell: Any, script: Script) -> FakeClient:
    """Make the magics of `shell` talk to a fake; call before `%load_ext agent_magics`."""
    client = FakeClient(script)
    shell._agent_magics_keeper = SessionKeeper(lambda connection: client)  # type: ignore[arg-type,return-value]
    return client


# -- scripts -------------------------------------------------------------------------------------


def hello(turn: FakeTurn) -> None:
    turn.say(f"You said: {turn.prompt}")


def full(turn: FakeTurn) -> None:
    """Text, a plan, a question, a command, an image."""
    turn.say("I will look around.\n\n")
    turn.emit(TodosUpdated((Todo("look", "in_progress"), Todo("draw"))))
    reply = turn.ask()
    turn.say(f"The answer was {reply}.\n\n")
    turn.tool("ls /workspace", "penguins.csv\n")
    turn.image()
    turn.say("Done.")


def endless(turn: FakeTurn) -> None:
    """Talks until it is aborted."""
    while not turn.aborted.wait(0.02):
        turn.say("word ")


def flood(turn: FakeTurn) -> None:
    for number in range(20_000):
        turn.say(f"{number} ")


def cut(turn: FakeTurn) -> None:
    """What came before the token limit looks like a whole answer."""
    turn.say('{"name": "Rome", "people": 3}')
    turn.finish_reason = "length"
    turn.fail("MessageOutputLengthError", "The reply was cut off: it reached the token limit.")


def broken(turn: FakeTurn) -> None:
    turn.say("It began well")
    turn.fail("APIError", "The model's server answered 500.")
