"""
Sub-agents: the `task` tool's work in a child session.

A child has its own history and works in the container of the session that started it. Its events
are in the same stream, its permissions are asked there, and it ends with the turn that waits for
it. A child can't start children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.tools import ToolDefinition

from agent_magics.wire import MessageJSON

from ._agents import AgentBook, AgentProfile
from ._errors import from_exception
from ._mcp import declared
from ._network_config import network_text
from ._permissions import inherited_limits
from ._policy import Decision, Rule, limited
from ._prompts import NewSession, Prompt

if TYPE_CHECKING:
    from ._calls import CallContext
    from ._engine import Engine
    from ._sessions import Session
    from ._turn import Turn

__all__ = ["MOST_CHILDREN", "SubAgents", "instructions_of", "offered_tools"]

MOST_CHILDREN = 4
"""Sub-agents of one turn that work at the same time; more wait for their turn."""

_TOOL = "task"
_CHILD_TEXT = """\
You are a sub-agent: another agent gave you this task and waits for you. It sees nothing but your \
last message, so put the whole result there, with paths and figures, and what remained open. \
Nobody answers questions; decide sensibly and say what you decided."""


def instructions_of(agent: AgentProfile, session: Session, place: str) -> str:
    """What the model is told beyond the engine's own instructions. `place`: where it works."""
    child = [_CHILD_TEXT] if session.parent_id is not None else []
    return "\n\n".join([place, *agent.instructions, *child])


def offered_tools(
    agent: AgentProfile, session: Session, agents: AgentBook, tools: Sequence[ToolDefinition]
) -> list[ToolDefinition]:
    """The tools that the agent gets in this session; `task` says which sub-agents there are."""
    denials = [*agent.denials, *inherited_limits(session)]
    offered = [
        _explained(tool, "bash", network_text(session))
        for tool in tools
        if agent.offers(tool.name) and not _is_denied_server_tool(tool, denials)
    ]
    if session.parent_id is not None:
        return [tool for tool in offered if tool.name != _TOOL]
    listing = "\n".join(f"- {a.name}: {a.description}".rstrip(": ") for a in agents.delegable())
    return [_explained(tool, _TOOL, f"Sub-agents:\n{listing}") for tool in offered]


def _is_denied_server_tool(tool: ToolDefinition, denials: Sequence[Sequence[Rule]]) -> bool:
    read_only = declared(tool)
    if read_only is None:
        return False
    free = Decision("allow", (), ())
    return limited(denials, free, tool.name, {}, read_only=read_only).action == "deny"


def _explained(tool: ToolDefinition, name: str, text: str) -> ToolDefinition:
    """With a text after its description, if it is the tool of that name."""
    if tool.name != name:
        return tool
    return replace(tool, description=f"{tool.description or ''}\n\n{text}")


class SubAgents:
    """Starts, follows and ends the child sessions of turns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping: set[asyncio.Task[bool]] = set()

    async def run(
        self, turn: Turn, call: CallContext, description: str, prompt: str, name: str
    ) -> str:
        """
        Have the sub-agent `name` work on `prompt` and return what it says at its end.

        Cancelling ends the child's turn first. Raises ModelRetry for arguments that the model can
        mend and ToolFailed when the child could not do its work.
        """
        agent = self._choose(turn.session, prompt, name)
        async with turn.slots:
            child: Session | None = None
            try:
                child = await self._open(turn, agent, description)
                order = self._prompt(turn, call, agent, prompt)
                provider, _, model = (order.model or "").partition("/")
                call.progress(
                    sessionId=child.id,
                    agent=agent.name,
                    model={"providerID": provider, "modelID": model},
                )
                answer = await self._answer(child, order)
            except asyncio.CancelledError:
                if child is not None:
                    await self._stop(child)
                raise
            except ToolFailed:
                raise
            except Exception as error:
                raise ToolFailed(from_exception(error, "running a sub-agent").message) from error
        usage = deepcopy(child.usage)
        turn.spend(usage.tokens, usage.cost)
        call.metadata(toolCalls=sum(usage.tools.values()), tokens=usage.tokens, cost=usage.cost)
        return _result(answer)

    def _choose(self, session: Session, prompt: str, name: str) -> AgentProfile:
        if session.parent_id is not None:
            raise ToolFailed("A sub-agent can't start sub-agents. Do the work yourself.")
        agents = self._engine.agents.delegable()
        found = next((agent for agent in agents if agent.name == name), None)
        if found is None:
            names = ", ".join(agent.name for agent in agents)
            raise ModelRetry(f"There is no sub-agent {name!r}. There are: {names}.")
        if not prompt.strip():
            raise ModelRetry("`prompt` is empty: say what the sub-agent has to do.")
        return found

    async def _open(self, turn: Turn, agent: AgentProfile, description: str) -> Session:
        parent = turn.session
        limits = [[asdict(rule) for rule in rules] for rules in turn.agent.denials]
        title = " ".join(description.split())[:80] or "Task"
        return await self._engine.create_session(
            NewSession(
                title=f"{title} (@{agent.name} subagent)",
                parent_id=parent.id,
                shares_container=True,
                started_by=turn.message_id,
                agent=agent.name,
                rules=list(parent.rules),
                limits=[*parent.limits, *limits],
            )
        )

    def _prompt(self, turn: Turn, call: CallContext, agent: AgentProfile, text: str) -> Prompt:
        return replace(
            turn.prompt,
            parts=[{"type": "text", "text": text}],
            message_id=None,
            model=agent.model or f"{turn.model.provider_id}/{turn.model.model_id}",
            agent=agent.name,
            on_call=lambda line: call.output("stdout", f"{line}\n".encode()),
        )

    async def _answer(self, child: Session, prompt: Prompt) -> MessageJSON:
        message_id = await self._engine.prompt(child, prompt)
        answer = await self._engine.answer(child, message_id)
        if answer is None:
            raise ToolFailed("The sub-agent's session was deleted.")
        return answer

    async def _stop(self, child: Session) -> None:
        """End the child's turn, whatever happens to whoever waits for that."""
        stopping = asyncio.create_task(self._engine.abort(child))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        await asyncio.shield(stopping)


def _result(answer: MessageJSON) -> str:
    """What the parent's model gets: the last text. Raises ToolFailed for a turn that failed."""
    texts = [p["text"].strip() for p in answer["parts"] if p["type"] == "text"]
    said = next((text for text in reversed(texts) if text), "")
    error: Any = answer["info"].get("error")
    if error is not None:
        message = f"The sub-agent did not finish: {error['data'].get('message') or error['name']}"
        raise ToolFailed(f"{message}\nIts last words: {said}" if said else message)
    return said or "(The sub-agent ended without a word.)"
