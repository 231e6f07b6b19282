"""The state of the notebook's session as front ends see it, and what keeps it fresh."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .._manage._workbench import Workbench
from .._session import keeper_of
from .._text import one_line
from . import _state as shape
from ._events import LOST, SessionEvents

if TYPE_CHECKING:
    from ...client import SessionHandle
    from ...wire import PermissionRequest, SessionInfo

__all__ = ["Mirror"]

_PAUSE = 0.15  # seconds between two looks: what happens in between is seen at once
_HEARTBEAT = 5.0  # seconds after which a session at work is looked at without any event
_log = logging.getLogger("agent_magics.hub")

_ALL = frozenset(
    {"info", "permissions", "todos", "metrics", "history", "artifacts", "files", "sessions"}
)
_FACETS: Mapping[str, frozenset[str]] = {
    "artifact.created": frozenset({"artifacts", "files"}),
    "file.edited": frozenset({"files"}),
    LOST: _ALL,
    "message.removed": _ALL,
    "message.updated": frozenset({"metrics"}),
    "permission.asked": frozenset({"info", "permissions"}),
    "permission.replied": frozenset({"info", "permissions"}),
    "session.deleted": _ALL,
    "session.error": frozenset({"info"}),
    "session.idle": frozenset({"info"}),
    "session.status": frozenset({"info"}),
    "session.updated": frozenset({"info", "sessions"}),
    "todo.updated": frozenset({"todos"}),
    "turn.ended": _ALL,
    "turn.started": frozenset({"info", "sessions"}),
}
"""What an event may have changed."""


class Mirror:
    """
    Calls `publish(state)` whenever `state` changed. Nothing happens before `start()`.

    One thread looks at what may have changed; the session's events say what.
    """

    def __init__(self, shell: Any, publish: Callable[[Mapping[str, Any]], None]) -> None:
        self._keeper = keeper_of(shell)
        self._publish = publish
        self._state = shape.empty_state()
        self._condition = threading.Condition()
        self._due: set[str] = set()
        self._running = False
        self._closed = False
        self._events = SessionEvents(lambda kind: self.refresh(_FACETS.get(kind, ())))
        self._followed: SessionHandle | None = None
        self._info: SessionInfo | None = None
        self._permissions: list[PermissionRequest] = []
        self._lost = False
        """Whether the last look found no engine."""

    @property
    def state(self) -> Mapping[str, Any]:
        return self._state

    def start(self) -> None:
        """Begin, or look at everything once more."""
        with self._condition:
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="agent-magics hub", daemon=True).start()
        self.refresh_all()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._events.follow(None)

    def session_changed(self) -> None:
        """The notebook has another session now, or none."""
        self.refresh_all()

    def refresh_all(self) -> None:
        self.refresh(_ALL)

    def refresh(self, facets: Iterable[str]) -> None:
        """These may have changed."""
        with self._condition:
            self._due.update(facets)
            if self._due:
                self._condition.notify_all()

    # -- on the mirror's own thread --------------------------------------------------------------

    def _run(self) -> None:
        while (facets := self._next()) is not None:
            try:
                self._look(facets)
            except Exception:
                _log.warning("the panel's state is not up to date", exc_info=True)

    def _next(self) -> set[str] | None:
        """What is due, as soon as something is; `None` once closed."""
        with self._condition:
            # with a deadline only while something may happen that no event tells
            is_at_work = self._state["status"] in ("working", "waiting")
            self._condition.wait_for(
                lambda: self._due or self._closed, _HEARTBEAT if is_at_work else None
            )
            if self._condition.wait_for(lambda: self._closed, _PAUSE):
                return None
            due, self._due = self._due, set()
            return due or {"info", "permissions"}

    def _look(self, facets: set[str]) -> None:
        session = self._keeper.current
        if session is not self._followed:
            self._followed = session
            facets = set(_ALL)
            self._info, self._permissions = None, []
            self._events.follow(session)
        if session is None:
            fresh, self._lost = shape.empty_state(), False
        else:
            fresh = self._seen(session, facets)
        is_due = "sessions" in facets and not self._lost
        fresh["sessions"] = self._sessions() if is_due else list(self._state["sessions"])
        if fresh != self._state:
            self._state = fresh
            self._publish(fresh)

    def _seen(self, session: SessionHandle, facets: set[str]) -> dict[str, Any]:
        """The state with a fresh look at `facets`; what can't be had stays as it was."""
        from ...client import AgentError, ConnectionFailed

        same = self._state["session"] is not None and self._state["session"]["id"] == session.id
        state = dict(self._state) if same else shape.empty_state()
        self._lost = False
        if "info" in facets:
            state["problem"] = ""
        for facet in sorted(facets & _LOOKS.keys(), key=lambda facet: (facet != "info", facet)):
            try:
                state.update(_LOOKS[facet](self, session))
            except ConnectionFailed as error:
                _log.info("no %s: %s", facet, error)
                state["problem"] = one_line(str(error))
                self._lost = True
                self._info, self._permissions, state["permissions"] = None, [], []
                break  # no use in asking, and waiting, for the others
            except AgentError as error:
                _log.info("no %s: %s", facet, error)
                if facet == "info":
                    state["problem"] = one_line(str(error))
        state["status"] = shape.status_of(self._info, self._permissions, state["problem"])
        return state

    def _look_at_info(self, session: SessionHandle) -> dict[str, Any]:
        self._info = session.get_info()
        return {"session": shape.session_json(self._info)}

    def _look_at_permissions(self, session: SessionHandle) -> dict[str, Any]:
        self._permissions = session.get_permissions()
        return {"permissions": [shape.permission_json(r) for r in self._permissions]}

    def _look_at_todos(self, session: SessionHandle) -> dict[str, Any]:
        return {"todos": [shape.todo_json(todo) for todo in session.get_todos()]}

    def _look_at_metrics(self, session: SessionHandle) -> dict[str, Any]:
        return {"metrics": shape.metrics_json(session.get_metrics())}

    def _look_at_history(self, session: SessionHandle) -> dict[str, Any]:
        return {"history": shape.history_json(session.get_messages())}

    def _look_at_files(self, session: SessionHandle) -> dict[str, Any]:
        listing = shape.listing_json(session.list_files(shape.HOME))
        # the count tells front ends that show another folder to ask for it again
        return {"files": self._state["files"] + 1, "listing": listing}

    def _look_at_artifacts(self, session: SessionHandle) -> dict[str, Any]:
        return {"artifacts": [shape.artifact_json(a) for a in session.list_artifacts()]}

    def _sessions(self) -> list[dict[str, Any]]:
        """What there is to choose from. Only a client that is open already is asked."""
        from ...client import AgentError

        client, bench = self._keeper.open_client, Workbench()
        if client is None:
            return []
        try:
            return shape.sessions_json(client.list_sessions(), bench.current_id)
        except AgentError as error:
            _log.info("no list of sessions: %s", error)
            return list(self._state["sessions"])


_LOOKS: Mapping[str, Callable[[Mirror, SessionHandle], dict[str, Any]]] = {
    "artifacts": Mirror._look_at_artifacts,
    "files": Mirror._look_at_files,
    "history": Mirror._look_at_history,
    "info": Mirror._look_at_info,
    "metrics": Mirror._look_at_metrics,
    "permissions": Mirror._look_at_permissions,
    "todos": Mirror._look_at_todos,
}
