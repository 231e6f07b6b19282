"""An agent of the server, or one of one's own, to start sessions and tasks with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent_magics.wire import AgentConfig, Unattended

from ._arguments import PermissionChoice, names_checked, with_options
from ._errors import AgentError, ApiError
from ._ids import new_message_id
from ._inputs import PromptInput, prompt_parts
from ._submit import submit_prompt
from ._tasks import AsyncTask

if TYPE_CHECKING:
    from ._api import Api
    from ._async_client import AsyncClient
    from ._async_session import AsyncSessionHandle
    from ._python import PythonChoice

__all__ = ["AgentChoice", "AsyncAgentHandle", "agent_body"]

AgentChoice = str | AgentConfig


@names_checked
class AsyncAgentHandle:
    """
    An agent: the name of one that the server has, or the settings of one's own.

    Nobody is asked: an unknown name shows when a session is made (`AgentNotFound`).
    """

    def __init__(self, client: AsyncClient, api: Api, agent: AgentChoice) -> None:
        agent_body(agent)
        self.agent = agent
        self._client = client
        self._api = api

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """How messages name this agent."""
        return agent_name(self.agent)

    @with_options
    async def create_session(
        self,
        title: str | Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        sandbox: str | None = None,
        network: bool | Sequence[str] | None = None,
        permission: PermissionChoice | None = None,
        python: PythonChoice = "current",
        limits: Mapping[str, int | float | str] | None = None,
    ) -> AsyncSessionHandle:
        """A new session that this agent answers in; see `AsyncClient.create_session`."""
        return await self._client.create_session(
            title,
            agent=self.agent,
            model=model,
            sandbox=sandbox,
            network=network,
            permission=permission,
            python=python,
            limits=limits,
        )

    def session(self, id: str) -> AsyncSessionHandle:
        """A handle on an existing session; see `AsyncClient.session`."""
        return self._client.session(id)

    async def fork_session(self, id: str, message_id: str | None = None) -> AsyncSessionHandle:
        """A copy of a session, with the agent that it has; see `AsyncClient.fork_session`."""
        return await self._client.fork_session(id, message_id)

    async def run(
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
    ) -> AsyncTask:
        """
        Start a task in a session of its own and return at once; it goes on without us.

        `permission` rules say what it may do. Where they, and the server's, say "ask",
        `on_permission` answers: "reject" (the agent is told that nobody is there and goes on),
        "once" (everything is allowed), or "ask": the task waits, for as long as it takes, until
        somebody answers what `task.session.get_permissions()` lists.

        Raises what `create_session()` and `send()` raise before anything starts.
        """
        parts = prompt_parts(prompt)
        await self._api.require_engine("tasks")
        session = await self.create_session(
            title,
            model=model,
            sandbox=sandbox,
            network=network,
            permission=permission,
            python=python,
            limits=limits,
        )
        message_id = new_message_id()
        body: dict[str, Any] = {"messageID": message_id, "parts": parts}
        if on_permission != "ask":
            body["onPermission"] = on_permission
        try:
            await submit_prompt(self._api, session.id, body)
        except ApiError:  # it was refused, so the session is for nothing
            with suppress(AgentError):
                await session.end()
            raise
        return AsyncTask(self._api, f"{session.id}.{message_id}")


def agent_name(agent: AgentChoice) -> str:
    return agent if isinstance(agent, str) else agent.get("name", "custom")


def agent_body(agent: AgentChoice) -> dict[str, Any]:
    """What says in a new session's JSON who answers. Raises `TypeError`."""
    if isinstance(agent, str):
        return {"agent": agent}
    if not isinstance(agent, Mapping):
        raise TypeError(f"an agent is a name or a mapping, not {type(agent).__name__}")
    config = dict(agent)
    for key in ("instructions", "permission"):
        value = config.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str):
            config[key] = list(value)
    return {"agentConfig": config}
