"""
Who decides what a container reaches: the rules, and where they say "ask" a person.

A connection is a wish for the tool `network`, with host and port. It belongs to the command that
runs while it is made, else to the session's turn; outside of turns nobody is asked. The answer
holds for all connections to that host and port until that command, or that turn, is over: programs
make several for one download and try again when one fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from agent_magics.sandbox import Network
from agent_magics.wire import PartJSON

from ._agents import BUILD
from ._errors import NotFound
from ._messages import is_closed
from ._network_config import NetworkConfig
from ._permissions import Answer, Permissions
from ._turn import Turn

if TYPE_CHECKING:
    from ._sessions import Session, SessionBook

__all__ = ["Networks"]

ASK_TIMEOUT = 600.0
"""Seconds until a question that nobody answers is withdrawn."""
GRACE = 20.0
"""Seconds a question outlives the last connection that waited for it: programs try again."""
MOST_QUESTIONS = 5
"""Of one container that may wait for an answer at a time."""
_TOOL = "network"
_COMMANDS = ("bash",)
_HINT = (
    "The user can open it with create_session(network=[...]) or `allow` under [network] in the "
    "configuration."
)


@dataclass(frozen=True)
class _Asker:
    """On whose behalf a connection is made. `call` is the command's part, when one is known."""

    session: Session
    turn: Turn | None
    call: PartJSON | None = None

    @property
    def is_over(self) -> bool:
        if self.call is not None and is_closed(self.call):
            return True
        return self.turn is None or self.turn.done.is_set()


@dataclass
class _Question:
    asker: _Asker
    task: asyncio.Task[Answer]
    waiting: int = 0


@dataclass
class _Container:
    """What was asked and answered for one container, by host and port."""

    questions: dict[tuple[str, int], _Question] = field(default_factory=dict)
    answers: dict[tuple[str, int], tuple[_Asker, Answer]] = field(default_factory=dict)


class Networks:
    """The networks of all containers. All methods run on the engine's loop."""

    def __init__(
        self,
        permissions: Permissions,
        book: SessionBook,
        config: NetworkConfig,
    ) -> None:
        self._permissions = permissions
        self._book = book
        self._config = config
        self._containers: dict[str, _Container] = {}

    def of(self, session: Session) -> Network | None:
        """That of the session's container; None: it has none."""
        owner = session if session.container is None else self._book.get(session.container)
        if owner.network is None:
            return None

        async def permit(host: str, port: int) -> str:
            return await self._permit(owner.id, host, port)

        return Network(permit, self._config.private, self._config.environ)

    def forget(self, session_id: str) -> None:
        """The container is gone for good."""
        self._containers.pop(session_id, None)

    async def _permit(self, owner_id: str, host: str, port: int) -> str:
        try:
            asker = self._asker(self._book.get(owner_id))
        except NotFound:
            return "The session is gone."
        agent = BUILD if asker.turn is None else asker.turn.agent
        arguments = {"host": host, "port": port}
        decision = self._permissions.decide(asker.session, agent, _TOOL, arguments)
        if decision.action == "allow":
            return ""
        site = decision.patterns[0]
        if decision.action == "deny":
            return f"{site} is not allowed here. {_HINT}"
        if asker.turn is None:
            return f"{site} is not allowed and nobody can be asked now. {_HINT}"
        answer = await self._answer(owner_id, (host, port), asker, arguments)
        return "" if answer.allowed else f"{site} was not allowed. {answer.message}".rstrip()

    def _asker(self, owner: Session) -> _Asker:
        """The one command that runs in the container; else the turn, first of all the owner's."""
        turns = [s.turn for s in self._book.sharing(owner) if isinstance(s.turn, Turn)]
        calls = [(t, part) for t in turns for part in t.running() if part["tool"] in _COMMANDS]
        if len(calls) == 1:
            turn, call = calls[0]
            return _Asker(turn.session, turn, call)
        if isinstance(owner.turn, Turn) or not turns:
            return _Asker(owner, owner.turn if isinstance(owner.turn, Turn) else None)
        return _Asker(turns[0].session, turns[0])

    async def _answer(
        self, owner_id: str, site: tuple[str, int], asker: _Asker, arguments: dict[str, Any]
    ) -> Answer:
        container = self._containers.setdefault(owner_id, _Container())
        container.answers = {k: v for k, v in container.answers.items() if not v[0].is_over}
        if site in container.answers:
            return container.answers[site][1]
        question = container.questions.get(site)
        if question is None:
            if len(container.questions) >= MOST_QUESTIONS:
                return Answer(False, "Too many other hosts wait for an answer.")
            asking = asyncio.create_task(self._ask(container, site, asker, arguments))
            question = container.questions[site] = _Question(asker, asking)
        question.waiting += 1
        try:
            await asyncio.wait({question.task})
        finally:
            question.waiting -= 1
            if not question.waiting and not question.task.done():
                loop = asyncio.get_running_loop()
                loop.call_later(GRACE, _give_up, question)
        if question.task.cancelled():
            return Answer(False, "Nobody answered.")
        return question.task.result()

    async def _ask(
        self, container: _Container, site: tuple[str, int], asker: _Asker, arguments: dict[str, Any]
    ) -> Answer:
        if asker.turn is None or asker.is_over:
            del container.questions[site]
            return Answer(False, "It is not needed any more.")
        wish = {"tool": _TOOL}
        if asker.call is not None:
            wish |= {"messageID": asker.call["messageID"], "callID": asker.call["callID"]}
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                answer = await self._permissions.ask(
                    asker.session,
                    cast(PartJSON, wish),
                    arguments,
                    asker.turn.agent,
                    asker.turn.prompt.unattended,
                )
        except TimeoutError:
            answer = Answer(False, "Nobody answered.")
        finally:
            del container.questions[site]
        container.answers[site] = (asker, answer)
        return answer


def _give_up(question: _Question) -> None:
    if not question.waiting:
        question.task.cancel()
