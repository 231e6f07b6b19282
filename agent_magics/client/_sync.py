"""The sync face: the same client, for code that does not await."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from agent_magics.wire import AgentInfo, Command, SessionInfo, Unclaimed

from ._agents import AgentChoice
from ._arguments import PermissionChoice, names_checked, with_options
from ._async_client import AsyncClient
from ._endpoint import Health
from ._launch import EngineLauncher
from ._loop_thread import LoopThread
from ._stream import StreamPolicy
from ._sync_agents import AgentHandle, Task
from ._sync_session import SessionHandle

if TYPE_CHECKING:
    import httpx

    from ._python import PythonChoice

__all__ = ["Client"]

T = TypeVar("T")


@names_checked
class Client:
    """
    A client of an agent server, for any thread; takes the same as `AsyncClient`.

    The network lives on a background thread, so calls work inside a running event loop too. The
    embedded engine stays while the client lives: until `close()`, until the last reference to the
    client and its sessions is gone, or until the process ends.
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
        self._core = AsyncClient(
            url,
            token=token,
            transport=transport,
            state_dir=state_dir,
            timeout=timeout,
            forward_credentials=forward_credentials,
            launcher=launcher,
            policy=policy,
            on_silence=on_silence,
        )
        self._thread = LoopThread(self._core.aclose)
        self._finalizer = weakref.finalize(self, self._thread.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Turns go on in the server. Harmless when repeated."""
        self._finalizer()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the client's loop and wait for it."""
        return self._thread.run(coroutine)

    def health(self) -> Health:
        """Raises `ConnectionFailed` when there is no server and none can be started."""
        return self.run(self._core.health())

    def providers(self) -> Mapping[str, Any]:
        """Providers and models as the server lists them, and its default."""
        return self.run(self._core.providers())

    @with_options
    def create_session(
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
    ) -> SessionHandle:
        """A new session with its own container; see `AsyncClient.create_session`."""
        created = self.run(
            self._core.create_session(
                title,
                agent=agent,
                model=model,
                sandbox=sandbox,
                network=network,
                permission=permission,
                python=python,
                limits=limits,
            )
        )
        return SessionHandle(self, created)

    def session(self, id: str) -> SessionHandle:
        """A handle on an existing session. Asks nobody: an unknown id shows at the first call."""
        return SessionHandle(self, self._core.session(id))

    def fork_session(self, id: str, message_id: str | None = None) -> SessionHandle:
        """A copy of a session; see `AsyncClient.fork_session`."""
        return SessionHandle(self, self.run(self._core.fork_session(id, message_id)))

    def agent(self, agent: AgentChoice) -> AgentHandle:
        """
        An agent by name, or one of one's own: `client.agent({"instructions": "Be brief."})`.

        Its `create_session()` and `run()` start sessions and tasks.
        """
        return AgentHandle(self, self._core.agent(agent))

    def list_agents(self) -> list[AgentInfo]:
        """The agents that the server has."""
        return self.run(self._core.list_agents())

    def task(self, id: str) -> Task:
        """
        A task that `run()` started, by its id. Asks nobody: an unknown one shows at first use.

        Raises `BadRequest` for what is no id of a task.
        """
        return Task(self, self._core.task(id))

    def list_sessions(self) -> list[SessionInfo]:
        """All sessions, newest first; those of sub-agents are their parents' `get_children()`."""
        return self.run(self._core.list_sessions())

    def get_unclaimed(self) -> Unclaimed:
        """Workspaces without a session and kept databases; see `AsyncClient.get_unclaimed`."""
        return self.run(self._core.get_unclaimed())

    def recover_session(self, name: str) -> SessionHandle:
        """Make a session of a workspace, or repair one; see `AsyncClient.recover_session`."""
        return SessionHandle(self, self.run(self._core.recover_session(name)))

    def list_commands(self, session_id: str | None = None) -> list[Command]:
        """The commands that `session.run_command()` knows; see `AsyncClient.list_commands`."""
        return self.run(self._core.list_commands(session_id))
