"""One session per notebook: the client and the current session of this kernel."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._frontend import cell_id
from ._memory import SessionMemory, notebook_path
from ._turn._silence import tell_silence

if TYPE_CHECKING:
    from ..client import Client, SessionHandle

__all__ = ["Connection", "SessionKeeper", "Wanted", "keeper_of"]

_KEEPER = "_agent_magics_keeper"
_log = logging.getLogger("agent_magics.notebook")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the engine is: a `url` with its `token`, or the embedded one."""

    url: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"Connection(url={self.url!r})"


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    The session that a turn wants.

    `session_id` resumes one, `new` makes one, otherwise the notebook's current one is used, and
    made if there is none. `model`, `sandbox` and `network` (hosts, or whether there is one at all;
    None: as the engine is configured) go into a session that is made.
    """

    session_id: str | None = None
    new: bool = False
    title: str | None = None
    model: str | None = None
    sandbox: str | None = None
    network: bool | tuple[str, ...] | None = None


def _open_client(connection: Connection) -> Client:
    from ..client import Client

    return Client(connection.url, token=connection.token, on_silence=tell_silence)


class SessionKeeper:
    """
    Makes the client and the session when they are first needed. Thread-safe.

    Everything here may block on the network: call it off the main thread while a cell waits.
    """

    def __init__(
        self,
        open_client: Callable[[Connection], Client] = _open_client,
        memory: SessionMemory | None = None,
    ) -> None:
        self._open_client = open_client
        self._memory = memory or SessionMemory()
        self._lock = threading.RLock()
        self._client: Client | None = None
        self._connection = Connection()
        self._current: SessionHandle | None = None
        self._sandbox: str | None = None
        self._news = ""
        self.listeners: list[Callable[[], None]] = []
        """Called, from any thread, when the notebook has another session, or none any more."""
        self._recalled_id = ""

    @property
    def current(self) -> SessionHandle | None:
        """The notebook's session, `None` as long as no turn or command needed one."""
        return self._current

    @property
    def open_client(self) -> Client | None:
        """The client, if something has needed it."""
        return self._client

    def client(self, connection: Connection) -> Client:
        """The client; another `connection` than before closes the old one and its session."""
        with self._lock:
            if self._client is not None and connection != self._connection:
                self.close()
            if self._client is None:
                self._client = self._open_client(connection)
                self._connection = connection
            return self._client

    def acquire(self, connection: Connection, wanted: Wanted) -> SessionHandle:
        """
        The session that `wanted` describes; it is the notebook's current one from now on.

        Without a current one, and unless a new one is wanted, it is the one that the notebook had
        before its kernel was restarted; `news` says so.

        Raises the client's errors, and `ValueError` when the current session runs in another
        kind of container than wanted.
        """
        with self._lock:
            client = self.client(connection)
            current = self._current
            if wanted.session_id is not None:
                if current is None or current.id != wanted.session_id:
                    current = client.session(wanted.session_id)
                    current.get_info()
                    self._sandbox = None
            elif wanted.new:
                current = None
            elif current is None:
                current = self._recalled(client, wanted)
            if current is None:
                made = client.create_session(
                    wanted.title,
                    model=wanted.model,
                    sandbox=wanted.sandbox,
                    network=wanted.network,
                )
                self.use(made, wanted.sandbox)
                return made
            self._check_sandbox(current, wanted.sandbox)
            if wanted.network is not None:
                raise ValueError("a session keeps the network it began with; add --new for another")
            if wanted.title is not None:
                current.update(title=wanted.title)
            self.use(current, self._sandbox)
            return current

    def recall(self, connection: Connection) -> SessionHandle | None:
        """The session that this notebook had in an earlier kernel, if it still exists."""
        with self._lock:
            found = self._recalled(self.client(connection), Wanted())
            self._news = ""
            return found

    def _recalled(self, client: Client, wanted: Wanted) -> SessionHandle | None:
        """The session that this notebook had in an earlier kernel, if it is still usable."""
        from ..client import SessionNotFound

        id = self._memory.recall(self._connection.url or "")
        if not id:
            return None
        session = client.session(id)
        try:
            info = session.get_info()
        except SessionNotFound:
            return None
        if info.archived or wanted.sandbox not in (None, "auto", info.sandbox):
            return None
        self._recalled_id = id
        self._news = f"This notebook goes on with its session {info.title!r}; --new starts another."
        return session

    def take_recalled(self, session_id: str) -> bool:
        """Whether an earlier kernel has left this session behind; true once."""
        with self._lock:
            found = bool(session_id) and self._recalled_id == session_id
            self._recalled_id = ""
            return found

    def news(self) -> str:
        """What there is to tell about the session, once; mostly nothing."""
        news, self._news = self._news, ""
        return news

    def _check_sandbox(self, session: SessionHandle, sandbox: str | None) -> None:
        if sandbox in (None, "auto", self._sandbox):
            return
        provider = session.get_info().sandbox
        if provider and provider != sandbox:
            raise ValueError(
                f"this session runs in {provider!r}; add --new for a session in {sandbox!r}"
            )

    def use(self, session: SessionHandle, sandbox: str | None = None) -> None:
        """Make `session` the notebook's."""
        with self._lock:
            is_another = self._current is not session
            self._current, self._sandbox = session, sandbox
            if is_another:
                self._memory.remember(self._connection.url or "", session.id)
                self._tell()

    def forget(self, session: SessionHandle) -> None:
        """`session` does not exist any more: the next turn makes a new one."""
        with self._lock:
            if self._current is session:
                self._current = None
                self._memory.remember(self._connection.url or "", "")
                self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def warm_up(self, connection: Connection) -> None:
        """Connect in the background. An error shows when the engine is really used."""

        def connect() -> None:
            try:
                self.client(connection).health()
            except Exception as error:
                _log.info("the engine is not ready yet: %s", error)

        threading.Thread(target=connect, name="agent-magics warm-up", daemon=True).start()

    def close(self) -> None:
        """Close the client; sessions live on in the engine."""
        with self._lock:
            client, self._client, self._current = self._client, None, None
        self._tell()
        if client is not None:
            client.close()


_without_shell = SessionKeeper()


def keeper_of(shell: Any) -> SessionKeeper:
    """The keeper of `shell`, kept on it: it survives a reload of the extension."""
    if shell is None:
        return _without_shell
    keeper: SessionKeeper | None = getattr(shell, _KEEPER, None)
    if keeper is None:
        memory = SessionMemory(lambda: notebook_path(shell), cell=lambda: cell_id(shell))
        keeper = SessionKeeper(memory=memory)
        setattr(shell, _KEEPER, keeper)
    return keeper
