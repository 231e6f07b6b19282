"""
Permission to use a tool: rules decide, and where they say "ask", a person does.

A session and its sub-agents are one family: it shares the standing rules that "always" answers
made, which are kept with its root. What an agent's own rules deny, no such answer allows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agent_magics.wire import (
    PartJSON,
    PermissionReply,
    PermissionRequestJSON,
    PermissionRuleJSON,
    Unattended,
)

from ._agents import BUILD, AgentProfile
from ._errors import PermissionNotFound, RuleNotFound
from ._ids import new_id
from ._log import EventLog
from ._policy import Action, Decision, Rule, decide, is_offered_still, limited
from ._sessions import Session, SessionBook
from ._store import Store
from ._text import dumps

__all__ = ["Answer", "Permissions", "inherited_limits"]


@dataclass(frozen=True)
class Answer:
    """What became of a tool call: allowed, or refused with a text for the model."""

    allowed: bool
    message: str = ""


_NOBODY = "Nobody is there to be asked, so this call is rejected. Go on without it."


@dataclass
class _Pending:
    session: Session
    agent: AgentProfile
    tool: str
    arguments: Mapping[str, Any]
    always: Sequence[str]
    request: PermissionRequestJSON
    answer: asyncio.Future[Answer]
    read_only: bool


class Permissions:
    """
    The pending requests of all sessions.

    `rules` (the defaults and the configuration's) come first, then the agent's, the session's own
    and its family's standing answers; the last match wins. Denials of the agent and those among
    `limits` hold in any case.
    """

    def __init__(
        self,
        store: Store,
        log: EventLog,
        book: SessionBook,
        rules: Sequence[Rule],
        limits: Sequence[Rule] = (),
    ) -> None:
        self._store = store
        self._log = log
        self._book = book
        self._rules = tuple(rules)
        self._limits = tuple(limits)
        self._pending: dict[str, _Pending] = {}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold for every session."""
        return self._rules

    def pending(self, session_id: str | None = None) -> list[PermissionRequestJSON]:
        """Unanswered requests, oldest first; with an id those of that session and below it."""
        return [
            p.request
            for p in self._pending.values()
            if session_id is None or session_id in self._book.line_of(p.session.id)
        ]

    async def ask(
        self,
        session: Session,
        call: PartJSON,
        arguments: Mapping[str, Any],
        agent: AgentProfile = BUILD,
        unattended: Unattended = "ask",
        *,
        read_only: bool = False,
    ) -> Answer:
        """
        May this tool call run? Waits for a person where the rules say so.

        `unattended` other than "ask" is the answer in place of a person's. Cancelling the wait
        withdraws the request: it is replied "reject" on the stream. A `call` without `callID` is
        a wish of the session itself. `read_only`: the tool declares that it changes nothing.
        """
        tool = call["tool"]
        decision = self.decide(session, agent, tool, arguments, read_only=read_only)
        if decision.action == "allow":
            return Answer(True)
        if decision.action == "deny":
            wanted = ", ".join(decision.patterns)
            return Answer(False, f"The permission rules deny {tool}: {wanted}")
        pending = self._open(session, agent, call, arguments, decision, read_only)
        if unattended != "ask":
            allowed = unattended == "once"
            self._close(pending, unattended, Answer(allowed, "" if allowed else _NOBODY))
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

    def standing(self, session: Session) -> list[PermissionRuleJSON]:
        """The rules that "always" answers made in the session's family, oldest first."""
        root = self._root(session)
        return [_standing_rule(root.id, rule) for rule in _holding(root)]

    def withdraw(self, session: Session, rule_id: str) -> None:
        """Drop one standing rule. Raises RuleNotFound."""
        if not self.forget_rules(session, rule_id=rule_id):
            raise RuleNotFound(f"There is no standing rule {rule_id}.", ruleID=rule_id)

    def forget_rules(
        self,
        session: Session,
        permission: str | None = None,
        pattern: str | None = None,
        *,
        rule_id: str | None = None,
    ) -> int:
        """Drop standing rules of the family; all, or those that match. Returns how many."""
        root = self._root(session)
        wanted = {"permission": permission, "pattern": pattern, "id": rule_id}
        criteria = {key: value for key, value in wanted.items() if value is not None}
        kept = [
            rule
            for rule in root.standing
            if not criteria.items() <= _standing_rule(root.id, rule).items()
        ]
        dropped = len(root.standing) - len(kept)
        if dropped:
            root.standing = kept
            self._book.save(root)
        return dropped

    def _root(self, session: Session) -> Session:
        return self._book.get(self._book.root_of(session.id))

    def decide(
        self,
        session: Session,
        agent: AgentProfile,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        read_only: bool = False,
    ) -> Decision:
        """What the rules say, without asking anybody."""
        network = [Rule("network", host, "allow") for host in session.network or ()]
        own = [_rule(r) for r in (*session.rules, *_holding(self._root(session)))]
        decision = decide((*self._rules, *agent.rules, *network, *own), tool, arguments)
        sets = (self._limits, *agent.denials, *inherited_limits(session))
        return limited(sets, decision, tool, arguments, read_only=read_only)

    def drop(self, session_id: str, call_id: str | None = None) -> None:
        """Withdraw what this session asks, or asks for one tool call: nobody waits for it now."""
        for pending in list(self._pending.values()):
            request = pending.request
            if request["sessionID"] != session_id:
                continue
            if call_id is None or request.get("tool", {}).get("callID") == call_id:
                self._close(pending, "reject", Answer(False, "It is not needed any more."))

    def _open(
        self,
        session: Session,
        agent: AgentProfile,
        call: PartJSON,
        arguments: Mapping[str, Any],
        decision: Decision,
        read_only: bool,
    ) -> _Pending:
        request: PermissionRequestJSON = {
            "id": new_id("per"),
            "sessionID": session.id,
            "permission": call["tool"],
            "patterns": list(decision.patterns),
            "metadata": dict(arguments),
            "always": list(decision.always),
            "agent": agent.name,
        }
        if decision.reason:
            request["reason"] = decision.reason
        if "callID" in call:
            request["tool"] = {"messageID": call["messageID"], "callID": call["callID"]}
        if session.parent_id is not None:
            request["parentID"], request["sessionTitle"] = session.parent_id, session.title
        answer = asyncio.get_running_loop().create_future()
        pending = _Pending(
            session, agent, call["tool"], arguments, decision.always, request, answer, read_only
        )
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
        root = self._root(pending.session)
        for pattern in pending.always:
            rule = {"permission": pending.tool, "pattern": pattern, "action": "allow"}
            if rule not in root.standing:
                root.standing.append(rule)
        self._book.save(root)

    def _answer_covered(self, session: Session) -> None:
        root = self._root(session)
        for other in [p for p in self._pending.values() if self._root(p.session) is root]:
            decision = self.decide(
                other.session,
                other.agent,
                other.tool,
                other.arguments,
                read_only=other.read_only,
            )
            if decision.action == "allow":
                self._close(other, "always", Answer(True))


def _holding(root: Session) -> list[dict[str, str]]:
    """The answers that still hold; earlier versions offered wider patterns."""
    return [r for r in root.standing if is_offered_still(r["permission"], r["pattern"])]


def inherited_limits(session: Session) -> list[list[Rule]]:
    """What the agents deny that started this session's, each set of rules for itself."""
    return [[_rule(r) for r in rules] for rules in session.limits]


def _rule(data: Mapping[str, str]) -> Rule:
    return Rule(data["permission"], data["pattern"], cast(Action, data["action"]))


def _standing_rule(session_id: str, rule: Mapping[str, str]) -> PermissionRuleJSON:
    """A stored rule with its id, which follows from what it says: equal rules are the same."""
    text = "\0".join((session_id, rule["permission"], rule["pattern"], rule["action"]))
    return {
        "id": f"rul_{hashlib.sha256(text.encode()).hexdigest()[:24]}",
        "sessionID": session_id,
        "permission": rule["permission"],
        "pattern": rule["pattern"],
        "action": rule["action"],
    }


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
