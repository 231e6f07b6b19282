"""What the managing magics work with: the client, the notebook's session, and others by id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from .._core import connection_of, current_session, setting, settings_of
from .._frontend import current_shell
from .._session import SessionKeeper, keeper_of
from .._turn._background import turns_of
from .._turn._wait import patiently
from ._tables import providers_of

if TYPE_CHECKING:
    from ...client import Client, SessionHandle

__all__ = ["Workbench"]


class Workbench:
    """
    The client and the sessions of the notebook that runs this cell.

    Its methods may block on the network and raise the client's errors: call them in `patiently`.
    """

    def __init__(self) -> None:
        self._settings = settings_of(current_shell())
        self._keeper: SessionKeeper = keeper_of(current_shell())

    @property
    def current(self) -> SessionHandle | None:
        """The notebook's session, if it has one."""
        return self._keeper.current

    @property
    def current_id(self) -> str:
        """Its id, empty without one."""
        return "" if self.current is None else self.current.id

    @property
    def model(self) -> str | None:
        """The model of the notebook's turns, if one was chosen."""
        found: str | None = setting(self._settings, "model")
        return found

    def choose_model(self, name: str | None, listed: Mapping[str, Any]) -> None:
        """
        Set the model of all further turns, None for the engine's choice.

        Raises `UsageError` for a provider that is not `listed`; a provider's list of models may
        lack some, so those are taken as they are.
        """
        provider, slash, model = (name or "").partition("/")
        if name is not None and not (provider and slash and model):
            raise UsageError(f"%agent_model: {name!r} is not like provider/model-id")
        there = sorted(providers_of(listed))
        if name is not None and provider not in there:
            raise UsageError(
                f"%agent_model: there is no provider {provider!r} here, only {', '.join(there)}: "
                "%agent_doctor says what connects others"
            )
        if self._settings is not None:
            self._settings.model = name

    def client(self) -> Client:
        """Raises the client's errors when the engine can't be had."""
        return self._keeper.client(connection_of(self._settings))

    def session(self, id: str | None = None) -> SessionHandle:
        """
        The session `id`, else the notebook's; `UsageError` when it has none.

        That may be made just now by a turn in the background, or have been left behind by the
        notebook's earlier kernel.
        """
        if id is not None:
            return self.client().session(id)
        if self.current is None:
            patiently(self._find_current)
        if self.current is None:
            raise UsageError(
                "this notebook has no session yet: %%agent or %agent_session new starts one, "
                "%agent_session resume goes on with the last one"
            )
        return self.current

    def _find_current(self) -> None:
        turns_of(current_shell()).place_those_before(None)
        if self.current is None:
            recalled = self._keeper.recall(connection_of(self._settings))
            if recalled is not None:
                self._keeper.use(recalled)

    def session_or_new(self, id: str | None = None) -> SessionHandle:
        """The session `id`, else the notebook's, which is made if there is none."""
        return self.client().session(id) if id is not None else current_session()

    def new(
        self,
        title: str | None,
        *,
        model: str | None = None,
        sandbox: str | None = None,
        agent: str | None = None,
        network: bool | tuple[str, ...] | None = None,
    ) -> SessionHandle:
        """Start a session; it is the notebook's from now on."""
        made = self.client().create_session(
            title,
            model=model or self.model,
            sandbox=self._sandbox(sandbox),
            agent=agent,
            network=network,
        )
        self._keeper.use(made, sandbox)
        return made

    def use(self, session: SessionHandle) -> None:
        """Make `session`, which exists, the notebook's. Raises `SessionNotFound`."""
        session.get_info()
        self._keeper.use(session)

    def earlier(self) -> SessionHandle | None:
        """The session that this notebook had before, else the one that was used last at all."""
        client = self.client()
        remembered = self._keeper.recall(connection_of(self._settings))
        if remembered is not None:
            self._keeper.take_recalled(remembered.id)
            return remembered
        found = (info for info in client.list_sessions() if not info.archived)
        last = max(found, key=lambda info: info.time_updated, default=None)
        return None if last is None else client.session(last.id)

    def end(self, session: SessionHandle) -> None:
        """Delete it for good; a notebook whose session it was has none then."""
        session.end()
        if self.current_id == session.id and self.current is not None:
            self._keeper.forget(self.current)

    def _sandbox(self, chosen: str | None) -> str | None:
        found: str | None = chosen or setting(self._settings, "sandbox")
        return found
