"""The client for asyncio; the sync one drives it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agent_magics.wire import AgentInfo, Command, SessionInfo, Unclaimed

from . import _history
from ._agents import AgentChoice, AsyncAgentHandle, agent_body
from ._api import Api
from ._arguments import PermissionChoice, names_checked, permission_rules, with_options
from ._async_session import AsyncSessionHandle
from ._connection import Connector, EmbeddedConnector, UrlConnector
from ._endpoint import Endpoint, Health
from ._errors import SessionNotFound
from ._inputs import model_reference, network_choice
from ._launch import EngineLauncher
from ._protocol import as_mapping, parse, status_name
from ._python import current_python
from ._state_dir import StateDir
from ._stream import StreamPolicy
from ._tasks import AsyncTask

if TYPE_CHECKING:
    import httpx

    from ._python import PythonChoice

__all__ = ["AsyncClient"]


@names_checked
class AsyncClient:
    """
    A client of an agent server. Use one per event loop; `async with` or `aclose()` ends it.

    `url` is a server's address and `token` its token; the variables AGENT_MAGICS_URL and
    AGENT_MAGICS_TOKEN stand for what is not given. Without a `url` the user's own embedded engine
    is found or started at first use, in `state_dir` if given. `timeout` is in seconds, for a
    request in all: connecting, starting the engine, and its answer; of a long answer or file, for
    the time in which nothing more of it comes. `transport` replaces the network, for tests.

    An embedded engine whose process runs but does not answer is not ended while it has turns:
    requests raise `EngineNotResponding` after `timeout`. With `on_silence` they wait instead, for
    as long as it takes: it is called on the client's thread with a sentence that says what is
    waited for, and with an empty text when that is over: it answers, was replaced, or has ended.

    Keys of model providers that stand in this process's environment go along with each prompt to
    the embedded engine, and to a `url` only with `forward_credentials=True`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        state_dir: Path | str | None = None,
        timeout: float = 30.0,
        forward_credentials: bool | None = None,
        launcher: EngineLauncher | None = None,
        policy: StreamPolicy | None = None,
        on_silence: Callable[[str], None] | None = None,
    ) -> None:
        connector = _connector(url, token, transport, state_dir, timeout, launcher, on_silence)
        if forward_credentials is None:
            forward_credentials = connector.embedded
        self._api = Api(
            connector,
            timeout=timeout,
            policy=policy or StreamPolicy(),
            forward_credentials=forward_credentials,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Turns go on in the server. Harmless when repeated."""
        await self._api.aclose()

    async def health(self) -> Health:
        """Raises `ConnectionFailed` when there is no server and none can be started."""
        data = await self._api.get_json("/global/health")
        return parse(Health.from_json, data)

    async def providers(self) -> Mapping[str, Any]:
        """Providers and models as the server lists them, and its default."""
        return as_mapping(await self._api.get_json("/config/providers"))

    @with_options
    async def create_session(
        self,
        title: str | Mapping[str, Any] | None = None,
        *,
        agent: AgentChoice | None = None,
        model: str | None = None,
        sandbox: str | None = None,
        network: bool | Sequence[str] | None = None,
        permission: PermissionChoice | None = None,
        python: PythonChoice = "current",
        limits: Mapping[str, int | float | str] | None = None,
    ) -> AsyncSessionHandle:
        """
        A new session with its own container.

        All arguments may also stand in one mapping: `create_session({"title": "My session"})`.

        `agent` is the name of one that the server has ("build" by default) or an `AgentConfig`.
        `model` is `provider/model-id`, `sandbox` a provider of containers ("auto" by default),
        `network` is what commands may reach: False nothing, True what the server's configuration
        allows, or hosts besides that (`["packages", "data.example.org"]`); other hosts are asked
        about. `permission` are rules `{permission, pattern, action}`, later ones win; "allow",
        "ask" or "deny" stands for one rule about everything. `python` is the interpreter that
        commands in the container shall find: this one for an embedded engine, `None` for the
        server's choice, or `{executable, prefixes}`. `limits` lower what the container may use, by
        the names and with the sizes of the server's configuration: `{"memory": "1 GB",
        "processes": 100}`; `get_info().limits` has what holds.

        Raises `SandboxUnavailable`, `ModelNotFound`, `AgentNotFound`, `BadRequest`, and
        `UnknownArgument`.
        """
        connection = await self._api.connection()
        body: dict[str, Any] = {"title": title, "sandbox": sandbox}
        if network is not None:
            body["network"] = network_choice(network)
        if agent is not None:
            body |= agent_body(agent)
        if limits is not None:
            body["limits"] = dict(limits)
        if permission is not None:
            body["permission"] = permission_rules(permission)
        if model is not None:
            body["model"] = model_reference(model, key="id")
        if python == "current":
            body["python"] = current_python() if self._api.is_embedded else None
        elif python is not None:
            body["python"] = dict(python)
        if not connection.is_numbered:
            body = {name: body.get(name) for name in ("title", "permission", "agent")}
        wanted = {name: value for name, value in body.items() if value is not None}
        data = as_mapping(await self._api.post_json("/session", wanted))
        return AsyncSessionHandle(self._api, parse(SessionInfo.from_json, data).id)

    def session(self, id: str) -> AsyncSessionHandle:
        """A handle on an existing session. Asks nobody: an unknown id shows at the first call."""
        return AsyncSessionHandle(self._api, id)

    async def fork_session(self, id: str, message_id: str | None = None) -> AsyncSessionHandle:
        """
        A copy of a session as it is, or as it was before the turn of this message.

        Messages, todos, the model's memory and the files of /workspace are copied; running
        processes and standing permissions are not. What can't be read, and what is no file, is left
        out and stands in `skipped` of the handle. The original is untouched. Raises
        `SessionNotFound`, `MessageNotFound`, and `Busy` while a turn runs.
        """
        return AsyncSessionHandle(self._api, *await _history.fork(self._api, id, message_id))

    def agent(self, agent: AgentChoice) -> AsyncAgentHandle:
        """
        An agent by name, or one of one's own: `client.agent({"instructions": "Be brief."})`.

        Its `create_session()` and `run()` start sessions and tasks.
        """
        return AsyncAgentHandle(self, self._api, agent)

    async def list_agents(self) -> list[AgentInfo]:
        """The agents that the server has."""
        agents = await self._api.get_json("/agent")
        return parse(lambda: [AgentInfo.from_json(agent) for agent in agents])

    def task(self, id: str) -> AsyncTask:
        """
        A task that `run()` started, by its id. Asks nobody: an unknown one shows at first use.

        Raises `BadRequest` for what is no id of a task.
        """
        return AsyncTask(self._api, id)

    async def list_sessions(self) -> list[SessionInfo]:
        """All sessions, newest first; those of sub-agents are their parents' `get_children()`."""
        sessions, statuses = await asyncio.gather(
            self._api.get_json("/session", {"roots": "true"}),
            self._api.get_json("/session/status"),
        )
        return parse(
            lambda: [SessionInfo.from_json(s, status_name(statuses, s["id"])) for s in sessions]
        )

    async def get_unclaimed(self) -> Unclaimed:
        """
        Workspaces that belong to no session, and databases that the server keeps beside its own.

        The server deletes neither. Measuring takes at most about two seconds.
        """
        await self._api.require_engine("workspaces without a session")
        data = as_mapping(await self._api.get_json("/unclaimed"))
        return parse(Unclaimed.from_json, data)

    async def recover_session(self, name: str) -> AsyncSessionHandle:
        """
        Make a session of a workspace that has none, with its files as they are; or make a session
        usable again whose record is damaged (`SessionInfo.problem`).

        `name` is an `UnclaimedWorkspace.name`, or the id of that session. What the server's kept
        databases know of it comes back: title, messages, what the model remembers. Raises
        `NotFound`, with the names that there are, and `Conflict` for a session that is whole.
        """
        await self._api.require_engine("workspaces without a session")
        data = as_mapping(await self._api.post_json("/unclaimed/recover", {"name": name}))
        return AsyncSessionHandle(self._api, parse(SessionInfo.from_json, data).id)

    async def list_commands(self, session_id: str | None = None) -> list[Command]:
        """
        The commands that `session.run_command()` knows, by name.

        With a `session_id` also those that stand in that session's workspace. Raises
        `SessionNotFound`.
        """
        params = {} if session_id is None else {"sessionID": session_id}
        commands = await self._api.get_json("/command", params, missing=SessionNotFound)
        return parse(lambda: [Command.from_json(command) for command in commands])


def _connector(
    url: str | None,
    token: str | None,
    transport: httpx.AsyncBaseTransport | None,
    state_dir: Path | str | None,
    timeout: float,
    launcher: EngineLauncher | None,
    on_silence: Callable[[str], None] | None = None,
) -> Connector:
    if (transport, state_dir, launcher) == (None, None, None):
        url = url or os.environ.get("AGENT_MAGICS_URL") or None
    if url is not None or transport is not None:
        token = token or os.environ.get("AGENT_MAGICS_TOKEN") or None
        endpoint = Endpoint(url=(url or "http://agent").rstrip("/"), token=token)
        return UrlConnector(endpoint, timeout=timeout, transport=transport)
    if launcher is None:
        directory = StateDir(Path(state_dir).absolute()) if state_dir else StateDir.default()
        launcher = EngineLauncher(directory)
    return EmbeddedConnector(launcher, timeout=timeout, on_silence=on_silence)
