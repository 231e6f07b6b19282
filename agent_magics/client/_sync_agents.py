"""Sync agents and tasks: thin drivers of the async ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent_magics.wire import SendResult, TaskInfo, Unattended

from ._agents import AgentChoice, AsyncAgentHandle
from ._arguments import PermissionChoice, names_checked, with_options
from ._inputs import PromptInput
from ._sync_session import SessionHandle
from ._tasks import AsyncTask

if TYPE_CHECKING:
    from ._python import PythonChoice
    from ._sync import Client

__all__ = ["AgentHandle", "Task"]


@names_checked
class AgentHandle:
    """
    An agent: the name of one that the server has, or the settings of one's own.

    Nobody is asked: an unknown name shows when a session is made (`AgentNotFound`).
    """

    def __init__(self, client: Client, core: AsyncAgentHandle) -> None:
        self._client = client
        self._core = core

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def agent(self) -> AgentChoice:
        """What the handle was made with."""
        return self._core.agent

    @property
    def name(self) -> str:
        """How messages name this agent."""
        return self._core.name

    @with_options
    def create_session(
        self,
        title: str | Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        sandbox: str | None = None,
        network: bool | Sequence[str] | None = None,
        permission: PermissionChoice | None = None,
        python: PythonChoice = "current",
        limits: Mapping[str, int | float | str] | None = None,
    ) -> SessionHandle:
        """A new session that this agent answers in; see `AsyncClient.create_session`."""
        core = self._core.create_session(
            title,
            model=model,
            sandbox=sandbox,
            network=network,
            permission=permission,
            python=python,
            limits=limits,
        )
        return SessionHandle(self._client, self._client.run(core))

    def session(self, id: str) -> SessionHandle:
        """A handle on an existing session; see `AsyncClient.session`."""
        return self._client.session(id)

    def fork_session(self, id: str, message_id: str | None = None) -> SessionHandle:
        """A copy of a session, with the agent that it has; see `AsyncClient.fork_session`."""
        return self._client.fork_session(id, message_id)

    def run(
        self,
        prompt: PromptInput,
        *,
        title: str | None = None,
        on_permission: Unattended = "reject",
        model: str | None = None,
        sandbox: str | None = None,
        network: bool | Sequence[str] | None = None,
        permission: PermissionChoice | None = None,
        python: PythonChoice = "current",
        limits: Mapping[str, int | float | str] | None = None,
    ) -> Task:
        """
        Start a task in a session of its own and return at once; it goes on without us.

        What `on_permission` does is said at `AsyncAgentHandle.run`.
        """
        core = self._core.run(
            prompt,
            title=title,
            on_permission=on_permission,
            model=model,
            sandbox=sandbox,
            network=network,
            permission=permission,
            python=python,
            limits=limits,
        )
        return Task(self._client, self._client.run(core))


class Task:
    """
    A piece of work that goes on in the server, whoever is there.

    `id` is all that `client.task(id)` needs to find it again, from another process or on another
    day. Its `session` stays until somebody ends it, so that its files can be fetched.

    Every method raises `TaskNotFound` for a task that does not exist (any more) and
    `ConnectionFailed` when the server is out of reach.
    """

    def __init__(self, client: Client, core: AsyncTask) -> None:
        self._client = client
        self._core = core

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        return self._core.id

    @property
    def session_id(self) -> str:
        return self._core.session_id

    @property
    def message_id(self) -> str:
        """The id of the message that has the prompt."""
        return self._core.message_id

    @property
    def session(self) -> SessionHandle:
        """The session that it works in: its messages, files and permissions."""
        return SessionHandle(self._client, self._core.session)

    def result(self, timeout: float | None = None) -> SendResult:
        """
        Wait for the end, at most `timeout` seconds: `TimeoutError` after that, and it goes on.

        A task that failed or was cancelled has `error` set in its result.
        """
        return self._client.run(self._core.result(timeout))

    def poll(self) -> TaskInfo:
        """How it stands, without waiting."""
        return self._client.run(self._core.poll())

    def cancel(self) -> bool:
        """Stop it; what it has done is kept. False when it was over already."""
        return self._client.run(self._core.cancel())
