"""What a tool gets to work with; the turn loop implements it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed

from agent_magics.sandbox import SandboxError, SandboxGone

from .._names import meant_path
from .._paths import container_path, short_path

if TYPE_CHECKING:
    from pydantic_ai.messages import ToolCallPart

    from agent_magics.sandbox import Sandbox
    from agent_magics.wire import ArtifactJSON, PartJSON, TodoJSON

    from .._skills import Skill

__all__ = [
    "ToolContext",
    "TurnDeps",
    "checked",
    "file_errors",
    "meant",
    "tool_context",
    "tool_path",
]

P = ParamSpec("P")
R = TypeVar("R")


class ToolContext(Protocol):
    """One tool call: the session's container and the ways to tell what happens."""

    @property
    def sandbox(self) -> Sandbox:
        """The session's container."""

    def output(self, stream: str, chunk: bytes) -> None:
        """Live output of the running tool; `stream` is "stdout" or "stderr"."""

    async def permit_write(self, path: str) -> None:
        """
        Ask whether the running call may write to `path`, which its arguments don't name.

        Raises ToolFailed when it may not.
        """

    def edited(self, path: str) -> None:
        """The file at the absolute `path` in the container was written."""

    def metadata(self, **values: Any) -> None:
        """Facts about the call for whoever displays it; JSON values."""

    async def publish(
        self, path: str, data: bytes, key: str | None, description: str
    ) -> ArtifactJSON:
        """Keep a copy of a file as an artifact. Raises ArtifactError."""

    def get_todos(self) -> list[TodoJSON]:
        """The session's todo list."""

    def set_todos(self, todos: list[TodoJSON]) -> None:
        """Replace the session's todo list."""


class TurnDeps(Protocol):
    """The dependencies of an agent run."""

    def call(self, call_id: str) -> ToolContext:
        """The context of the tool call with this id."""

    async def skills(self) -> list[Skill]:
        """What the `skill` tool can load; the same during the whole turn."""

    def find(self, call: ToolCallPart) -> PartJSON:
        """The part that shows a call; a new one for a call that has none."""

    def fail_call(self, part: PartJSON, error: str) -> None:
        """Close a call's part as failed, unless it is closed."""

    async def delegate(self, call_id: str, description: str, prompt: str, agent: str) -> str:
        """Have a sub-agent do something; the call `call_id` waits for what it reports."""


def tool_context(ctx: RunContext[TurnDeps]) -> ToolContext:
    """The context of the call that is running."""
    return ctx.deps.call(ctx.tool_call_id or "")


def tool_path(path: str) -> str:
    """The absolute form of a path that the model gave. Raises `ModelRetry` for NUL and ""."""
    if not path or "\0" in path:
        raise ModelRetry("The path is empty or holds a NUL character.")
    return container_path(path)


async def meant(call: ToolContext, path: str) -> str:
    """What the container is asked for when the model names this path: see `meant_path`."""
    return await meant_path(call.sandbox, path)


def checked(
    tool: Callable[Concatenate[RunContext[TurnDeps], P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[RunContext[TurnDeps], P], Coroutine[Any, Any, R]]:
    """Start the container if need be; tell the model when it fails, instead of ending the turn."""

    @wraps(tool)
    async def run(ctx: RunContext[TurnDeps], /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            await tool_context(ctx).sandbox.start()
            return await tool(ctx, *args, **kwargs)
        except SandboxGone as error:
            raise ToolFailed(
                f"The container ended: {error}. The next call starts it again, with the files but "
                "without the processes."
            ) from error
        except SandboxError as error:
            raise ToolFailed(f"The container failed: {error}") from error

    return run


class file_errors:  # noqa: N801 - used like a function, in a `with`
    """Turn the errors of the container's file calls into messages for the model."""

    def __init__(self, path: str) -> None:
        self.path = container_path(path)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, OSError):
            return
        name = short_path(self.path)
        match error:
            case FileNotFoundError():
                message = f"{name} does not exist."
            case IsADirectoryError():
                message = f"{name} is a directory."
            case NotADirectoryError() | FileExistsError():
                message = f"{name}: a part of this path is not a directory."
            case PermissionError():
                message = f"{name}: permission denied. Only /workspace and /tmp can be written."
            case _:
                message = f"{name}: {error.strerror or error}"
        raise ToolFailed(message) from error
