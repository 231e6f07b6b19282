"""Permission to use a tool: rules decide, and where they say "ask", a person does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agent_magics.wire import PartJSON, PermissionReply, PermissionRequestJSON

from ._errors import PermissionNotFound
from ._ids import new_id
from ._log import EventLog
from ._policy import Action, Decision, Rule, decide
from ._sessions import Session, SessionBook
from ._store import Store
from ._text import dumps

__all__ = ["Answer", "Permissions"]


@dataclass(frozen=True)
class Answer:
    """What became of a tool call: allowed, or refused with a text for the model."""

    allowed: bool
    message: str = ""


@dataclass
class _Pending:
    session: Session
    tool: str
    arguments: Mapping[str, Any]
    always: Sequence[str]
    request: PermissionRequestJSON
    answer: asyncio.Future[Answer]


class Permissions:
    """
    The pending requests of all sessions.

    `rules` (the defaults and the configuration's) come first, then the session's own, then its
    standing answers; the last match wins.
    """

    def __init__(
        self, store: Store, log: EventLog, book: SessionBook, rules: Sequence[Rule]
    ) -> None:
        self._store = store
        self._log = log
        self._book = book
        self._rules = tuple(rules)
        self._pending: dict[str, _Pending] = {}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold for every session."""
        return self._rules

    def pending(self, session_id: str | None = None) -> list[PermissionRequestJSON]:
        """Unanswered requests, oldest first."""
        return [
            p.request
            for p in self._pending.values()
            if session_id is None or p.session.id == session_id
        ]

    async def ask(
        self,
        session: Session,
        call: PartJSON,
        arguments: Mapping[str, Any],
    ) -> Answer:
        """
        May this tool call run? Waits for a person where the rules say so.

        Cancelling the wait withdraws the request: it is replied "reject" on the stream.
        """
        tool = call["tool"]
        decision = self._decide(session, tool, arguments)
        if decision.action == "allow":
            return Answer(True)
        if decision.action == "deny":
            wanted = ", ".join(decision.patterns)
            return Answer(False, f"The permission rules deny {tool}: {wanted}")
        pending = self._open(session, call, arguments, decision)
        try:
            return await pending.answer
        except asyncio.CancelledError:
            if pending.request["id"] in self._pending:
                self._close(pending, "reject", Answer(False))
            raise

    def reply(
        self,
        request_id: str,
        reply: PermissionReply,
        message: str | None,
        *,
        session_id: str | None,
    ) -> None:
        """
        Answer a request. "always" also adds standing rules, which may answer others.

        Raises PermissionNotFound for an unknown, answered or withdrawn request.
        """
        pending = self._pending.get(request_id)
        if pending is None or session_id not in (None, pending.session.id):
            raise PermissionNotFound(
                f"There is no pending permission request {request_id}.", requestID=request_id
            )
        if reply == "reject":
            said = f" They said: {message}" if message else ""
            text = f"The user rejected permission to use {pending.tool} for this call.{said}"
            self._close(pending, "reject", Answer(False, text))
            return
        with self._store.group():
            if reply == "always":
                self._remember(pending)
            self._close(pending, reply, Answer(True))
            if reply == "always":
                self._answer_covered(pending.session)

    def forget_rules(
        self, session: Session, permission: str | None = None, pattern: str | None = None
    ) -> int:
        """Drop standing answers of a session; all, or those that match. Returns how many."""
        kept = [
            rule
            for rule in session.standing
            if (permission is not None and rule["permission"] != permission)
            or (pattern is not None and rule["pattern"] != pattern)
        ]
        dropped = len(session.standing) - len(kept)
        if dropped:
            session.standing = kept
            self._book.save(session)
        return dropped

    def _decide(self, session: Session, tool: str, arguments: Mapping[str, Any]) -> Decision:
        own = [_rule(r) for r in (*session.rules, *session.standing)]
        return decide((*self._rules, *own), tool, arguments)

    def _open(
        self,
        session: Session,
        call: PartJSON,
        arguments: Mapping[str, Any],
        decision: Decision,
    ) -> _Pending:
        request: PermissionRequestJSON = {
            "id": new_id("per"),
            "sessionID": session.id,
            "permission": call["tool"],
            "patterns": list(decision.patterns),
            "metadata": dict(arguments),
            "always": list(decision.always),
            "tool": {"messageID": call["messageID"], "callID": call["callID"]},
        }
        answer = asyncio.get_running_loop().create_future()
        pending = _Pending(session, call["tool"], arguments, decision.always, request, answer)
        self._pending[request["id"]] = pending
        with self._store.group():
            self._store.put(
                "INSERT INTO permission(id, session_id, data) VALUES (?, ?, ?)",
                request["id"],
                session.id,
                dumps(request),
            )
            self._log.publish(session.id, "permission.asked", request)
        return pending

    def _close(self, pending: _Pending, reply: PermissionReply, answer: Answer) -> None:
        request_id = pending.request["id"]
        del self._pending[request_id]
        if not pending.answer.done():
            pending.answer.set_result(answer)
        publish_reply(self._store, self._log, pending.session.id, request_id, reply)

    def _remember(self, pending: _Pending) -> None:
        session = pending.session
        for pattern in pending.always:
            rule = {"permission": pending.tool, "pattern": pattern, "action": "allow"}
            if rule not in session.standing:
                session.standing.append(rule)
        self._book.save(session)

    def _answer_covered(self, session: Session) -> None:
        for other in [p for p in self._pending.values() if p.session is session]:
            if self._decide(session, other.tool, other.arguments).action == "allow":
                self._close(other, "always", Answer(True))


def _rule(data: Mapping[str, str]) -> Rule:
    return Rule(data["permission"], data["pattern"], cast(Action, data["action"]))


def publish_reply(
    store: Store, log: EventLog, session_id: str, request_id: str, reply: PermissionReply
) -> None:
    """Settle a request in the store and on the stream."""
    with store.group():
        store.put("DELETE FROM permission WHERE id = ?", request_id)
        log.publish(
            session_id,
            "permission.replied",
            {"sessionID": session_id, "requestID": request_id, "reply": reply},
        )


def unanswered(store: Store, session_id: str) -> list[str]:
    """Ids of requests that were pending when the engine stopped."""
    rows = store.query("SELECT data FROM permission WHERE session_id = ?", session_id)
    return [json.loads(data)["id"] for (data,) in rows]
