"""The engine: everything that a request can do, independent of HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent

from agent_magics.sandbox import Limits as ContainerLimits
from agent_magics.sandbox import Sandbox
from agent_magics.wire import MessageInfoJSON, MessageJSON, PartJSON

from ._agent_config import agent_profile
from ._agents import AgentBook, AgentProfile
from ._artifacts import ArtifactBook
from ._attachments import PromptPart, refuse_what_it_cannot_take
from ._capability import TurnHooks
from ._checkpoints import Checkpoints
from ._commands import announce_command
from ._config import CompactionConfig, LimitsConfig
from ._containers import Containers
from ._errors import BadRequest, NotFound, SessionBusy, refuse_damaged
from ._extensions import Extensions
from ._fork import Forks
from ._history import History
from ._idle import IdleContainers
from ._ids import new_id, now_ms
from ._limits import refuse_unknown_price
from ._log import EventLog
from ._messages import MessageBook
from ._network import Networks
from ._network_config import NetworkConfig
from ._permissions import Permissions
from ._place import place_text
from ._prompt_ids import PromptIds
from ._prompts import NewSession, Prompt
from ._recovery import recover
from ._retry import RetryPolicy
from ._revert import Reverts
from ._services import Services
from ._sessions import RunningTurn, Session, SessionBook, new_session
from ._snapshots import SnapshotLimits, Snapshots
from ._store import Store, StoreFull
from ._subagents import SubAgents, instructions_of
from ._summarize import SummaryTurn, summary_error
from ._text import Scrubber
from ._turn import Turn
from ._unclaimed import Unclaimed

if TYPE_CHECKING:
    from ._policy import Rule
    from .models import ModelRegistry, ResolvedModel

__all__ = ["Engine"]

log = logging.getLogger(__name__)

_ABORTED = "The turn was aborted."
_STOPPED = "The engine was stopped."
_DELETED = "The session was deleted."
_HIDDEN = "The turn that started this session is reverted."
_ABORT_PATIENCE = 10.0
_TITLE_LENGTH = 60


class Engine:
    """
    Made by `await Engine.open(...)`, which also recovers from a crash.

    `tools`, `instructions` and `tool_title` are the agent's; `rules` hold for all sessions,
    `compaction` and `limits` for all turns. Containers are stopped after `idle` seconds without use
    by `clock`; None: never.
    """

    def __init__(
        self,
        store: Store,
        registry: ModelRegistry,
        *,
        tools: Sequence[Any],
        instructions: str,
        tool_title: Callable[[str, dict[str, Any]], str],
        rules: Sequence[Rule],
        open_sandbox: Callable[..., Sandbox],
        sessions_dir: Path,
        sandbox: str = "auto",
        agents: AgentBook | None = None,
        retry: RetryPolicy | None = None,
        compaction: CompactionConfig | None = None,
        limits: LimitsConfig | None = None,
        environ: Mapping[str, str] | None = None,
        extensions: Extensions | None = None,
        snapshot_limits: SnapshotLimits | None = None,
        network: NetworkConfig | None = None,
        container_limits: ContainerLimits | None = None,
        idle: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.registry = registry
        self.sessions = SessionBook(store)
        self.log = EventLog(store, self.sessions.root_of)
        self.sessions.log = self.log
        store.on_shortage = self._shortage
        self.messages = MessageBook(store, self.log)
        self._prompt_ids = PromptIds(self.messages)
        self._network = network or NetworkConfig()
        self.permissions = Permissions(store, self.log, self.sessions, rules, self._network.denials)
        self.networks = Networks(self.permissions, self.sessions, self._network)
        self.containers = Containers(
            sessions_dir, open_sandbox, self.log, sandbox, self.networks.of, container_limits
        )
        self.idle = IdleContainers(self.containers, self.sessions, idle, clock)
        self.extensions = extensions or Extensions()
        self.artifacts = ArtifactBook(store, self.log, self.containers)
        self.snapshots = Snapshots(sessions_dir.with_name("snapshots"), snapshot_limits)
        self.checkpoints = Checkpoints(store, self.snapshots)
        self.reverts = Reverts(
            store, self.log, self.sessions, self.containers, self.checkpoints, self.snapshots
        )
        self.forks = Forks(
            store,
            self.sessions,
            self.messages,
            self.containers,
            self.checkpoints,
            self.snapshots,
            self.reverts,
        )
        self.unclaimed = Unclaimed(
            store,
            self.sessions,
            self.messages,
            self.containers,
            self.snapshots,
            sessions_dir,
            sessions_dir.with_name("snapshots"),
        )
        self.started = now_ms()
        self._environ = os.environ if environ is None else environ
        self._closing = False
        self.agents = agents or AgentBook()
        agent = Agent(
            deps_type=Turn,
            output_type=[str, type(None)],  # an agent that has nothing to say may say nothing
            tools=tools,
            toolsets=self.extensions.mcp.toolsets(),
            capabilities=[TurnHooks()],
            instructions=[
                instructions,
                lambda ctx: self._instructions(ctx.deps.agent, ctx.deps.session),
            ],
            retries=3,
        )
        self._services = Services(
            store=store,
            log=self.log,
            sessions=self.sessions,
            messages=self.messages,
            permissions=self.permissions,
            containers=self.containers,
            checkpoints=self.checkpoints,
            history=History(store),
            agent=agent,
            artifacts=self.artifacts,
            skills=self.extensions.skills,
            agents=self.agents,
            subagents=SubAgents(self),
            tool_title=tool_title,
            retry=retry or RetryPolicy(),
            compaction=compaction or CompactionConfig(),
            limits=limits or LimitsConfig(),
        )

    @classmethod
    async def open(cls, *args: Any, **kwargs: Any) -> Engine:
        """An engine that has closed what a crash left open."""
        engine = cls(*args, **kwargs)
        engine.containers.find_missing(engine.sessions)
        await recover(engine._services)
        await engine._sweep()
        await engine.reverts.recover()
        await engine._delete_leftovers()
        engine.unclaimed.tell()
        engine.idle.start()
        return engine

    async def finish(self) -> None:
        """Abort all turns and end the streams of all readers. No new turn starts after this."""
        self._closing = True
        turns = [s.turn for s in self.sessions if s.turn is not None]
        await asyncio.gather(*(self._end(turn, _STOPPED) for turn in turns))
        await self.store.flushed()
        self.log.close()

    async def close(self) -> None:
        """Finish, stop all containers and close the store. Files of the sessions stay."""
        try:
            await self.finish()
        finally:
            await self.extensions.mcp.close()
            await self.idle.close()
            await self.containers.close()
            await self.store.close()

    def _instructions(self, agent: AgentProfile, session: Session) -> str:
        servers = [server.name for server in self.extensions.mcp.all if server.config.enabled]
        return instructions_of(agent, session, place_text(agent, session, self._network, servers))

    def _shortage(self, error: StoreFull | None) -> None:
        """Nothing can be stored for now: turns end, for what they do would not be kept."""
        for session in self.sessions if error is not None else ():
            if session.turn is not None:
                message = f"{error} The turn was stopped; what it had done is kept."
                session.turn.abort(message, {"name": "NoSpaceError", "data": {"message": message}})

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return any(session.turn is not None for session in self.sessions)

    # -- sessions

    async def create_session(self, wanted: NewSession) -> Session:
        """Raises NotFound (parent), AgentNotFound, ModelNotFound, SandboxUnavailable, StoreFull."""
        await self.store.require_room()
        session = new_session(wanted.title)
        parent = None if wanted.parent_id is None else self.sessions.visible(wanted.parent_id)
        if parent is not None:
            session.parent_id, session.started_by = parent.id, wanted.started_by
        session.model = session.chosen = wanted.model
        session.sandbox, session.network = wanted.sandbox, self._network.of_session(wanted.network)
        session.python, session.metadata = wanted.python, wanted.metadata
        session.rules, session.limits = wanted.rules, wanted.limits
        session.bounds = wanted.bounds
        session.agent_config = wanted.agent_config
        session.agent = self._agent(session, wanted.agent or _named(wanted.agent_config)).name
        if parent is not None and wanted.shares_container:
            session.container, session.network = parent.container or parent.id, parent.network
        try:
            await self.containers.begin(session)
            await self.containers.started(session)
            if parent is not None and not parent.listed:
                raise NotFound(f"Session not found: {parent.id}", sessionID=parent.id)
        except BaseException:
            await self.containers.destroy(session)
            raise
        self.sessions.add(session)
        await self.store.flushed()
        await self.containers.made(session)
        return session

    async def update_session(
        self, session: Session, *, title: str | None = None, archived: int | None = None
    ) -> None:
        """`archived` in ms since the epoch; 0 takes the session out of the archive."""
        refuse_damaged(session)
        await self.store.require_room()
        if title is not None:
            session.title, session.titled = title, True
        if archived is not None:
            session.archived = archived
        self.sessions.save(session)
        await self.store.flushed()

    async def delete_session(self, session: Session) -> None:
        """Abort its turn, stop its container, forget it and its children, files included."""
        while session.turn is not None or self.sessions.children(session.id):
            if session.turn is not None:  # which ends those of its sub-agents
                await self._end(session.turn, _DELETED)
            for child in self.sessions.children(session.id):
                await self.delete_session(child)
        if not session.listed:  # deleted twice at the same time
            return
        self.sessions.remove(session)
        self.reverts.shelf.forget(session)
        self.networks.forget(session.id)
        try:
            await self.store.flushed()  # nothing is deleted of what may come back with a crash
        except StoreFull:
            await self.containers.mark_ended(session)  # the room may be what its files take
        gone = await self.containers.destroy(session)
        if await self.snapshots.forget(session.id) and gone:
            self.sessions.files_gone(session.id)
        await self.store.flushed()

    async def _sweep(self) -> None:
        """Finish ends of sessions that a crash cut, and creations."""
        marked = self.containers.marked_as_ended()
        for session in self.sessions:
            if (session.container or session.id) in marked:
                self.sessions.remove(session)
        with suppress(StoreFull):
            await self.store.flushed()
        living, ended = set(self.sessions.ids()), self.sessions.ended()
        for session_id in await self.containers.sweep(living, ended):
            if session_id not in living and await self.snapshots.forget(session_id):
                self.sessions.files_gone(session_id)

    async def _delete_leftovers(self) -> None:
        """Sub-agents of turns that were reverted, and then made final by a new prompt."""
        for child in self.reverts.shelf.leftovers():
            await self.delete_session(child)

    # -- turns

    async def prompt(self, session: Session, prompt: Prompt) -> str:
        """
        Accept a prompt and start its turn. Returns the id of the user's message.

        Accepting the same `message_id` again does nothing, so a client may repeat a request whose
        answer it lost. Raises SessionBusy, Conflict, BadRequest, TurnLimit, MessageRemoved for
        the id of a message that was reverted, and the registry's errors; after it returned, the
        prompt survives a crash and gets exactly one `turn.ended`.
        """
        refuse_damaged(session)
        message_id = prompt.message_id or new_id("msg")
        if prompt.message_id is not None and await self._prompt_ids.is_known(session, message_id):
            await self.store.flushed()
            return message_id
        agent = self._agent(session, prompt.agent)
        model = self._model(session, prompt, agent)
        refuse_what_it_cannot_take(prompt.parts, model)
        refuse_unknown_price(self._services.limits, model)
        await self._settle(session)
        await self.store.require_room()
        if self._prompt_ids.was_accepted(session, message_id):  # while this one was checked
            await self.store.flushed()
            return message_id
        self._check_free(session)
        with self.store.group():
            self._prompt_ids.accept(session, message_id)
            self.reverts.shelf.seal(session)
            self._save_prompt(session, message_id, prompt, agent, model)
            announce_command(self.log, session.id, message_id, prompt.command)
            scrub = Scrubber.of_environ(self._environ, prompt.environ)
            Turn(self._services, session, message_id, prompt, agent, model, scrub).start()
        await self.store.flushed()
        await self._delete_leftovers()
        return message_id

    async def answer(self, session: Session, message_id: str) -> MessageJSON | None:
        """The answer to an accepted prompt, when its turn is over."""
        turn = session.turn
        if turn is not None and turn.message_id == message_id:
            await turn.done.wait()
        return await self.messages.answer_to(session.id, message_id)

    async def summarize(
        self,
        session: Session,
        *,
        model: str | None = None,
        auto: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> bool:
        """
        Replace the conversation, for the model, by its summary. False when that was aborted.

        `model` None is the session's, else the one that answered last. Raises BadRequest for an
        empty conversation, SessionBusy, the registry's errors, and ApiError for what the model
        failed with; the conversation is as it was then.
        """
        refuse_damaged(session)
        environ = environ or {}
        last = f"{m['providerID']}/{m['id']}" if (m := session.model) else None
        resolved = self._registry(environ).resolve(model or session.model_name or last)
        await self._settle(session)
        self._check_free(session)
        if not await self._services.history.load(session.id):
            raise BadRequest("There is nothing to summarize yet.", sessionID=session.id)
        await self.store.require_room()
        self._check_free(session)  # a turn may have begun meanwhile
        scrub = Scrubber.of_environ(self._environ, environ)
        turn = SummaryTurn(self._services, session, resolved, scrub, auto=auto)
        with self.store.group():
            self.reverts.shelf.seal(session)
            turn.start()
        await self._delete_leftovers()
        await turn.done.wait()
        await self.store.flushed()
        if turn.error is None:
            return True
        if turn.error["name"] == "MessageAbortedError":
            return False
        raise summary_error(turn.error)

    async def abort(self, session: Session, message_id: str | None = None) -> bool:
        """
        Abort the running turn and wait for its end. False when none runs.

        With a `message_id` only the turn that this prompt started is meant.
        """
        if session.turn is None or message_id not in (None, session.turn.message_id):
            return False
        await self._end(session.turn, _ABORTED)
        await self.store.flushed()
        return True

    def status(self) -> dict[str, dict[str, Any]]:
        """The status of the sessions that are not idle."""
        return {s.id: s.turn.current_status for s in self.sessions if s.turn is not None}

    async def _end(self, turn: RunningTurn, reason: str) -> None:
        turn.abort(reason)
        try:
            await asyncio.wait_for(turn.done.wait(), _ABORT_PATIENCE)
        except TimeoutError:
            log.error("the turn %s did not react to its abort", turn.message_id)
            await turn.kill()

    def _agent(self, session: Session, name: str | None) -> AgentProfile:
        """The agent of that name, None for the session's. Raises AgentNotFound."""
        own = None
        if session.agent_config is not None:
            called = _named(session.agent_config)
            settings = {k: v for k, v in session.agent_config.items() if k != "name"}
            own = agent_profile(called, settings, self.agents.find(called))
        return self.agents.get(name or session.agent, own)

    def _model(self, session: Session, prompt: Prompt, agent: AgentProfile) -> ResolvedModel:
        """The prompt's model, or that of the agent it names, or the session's."""
        registry = self._registry(prompt.environ)
        of_agent = agent.model if agent.name != session.agent else None
        return registry.resolve(prompt.model or of_agent or session.model_name or agent.model)

    async def _settle(self, session: Session) -> None:
        """Finish a revert that a crash cut. Raises SessionBusy."""
        if self.reverts.is_unfinished(session):
            with self.reverts.alone(session):
                await self.reverts.settle(session)

    def _check_free(self, session: Session) -> None:
        """Raises SessionBusy when a turn can't begin now."""
        if self._closing or not session.listed:
            raise SessionBusy(_STOPPED if self._closing else _DELETED, sessionID=session.id)
        if self.sessions.is_hidden(session):
            raise SessionBusy(_HIDDEN, sessionID=session.id)
        if session.turn is not None:
            raise SessionBusy("The session is busy with another turn.", sessionID=session.id)
        if session.held:
            raise SessionBusy(f"The session is busy with {session.held}.", sessionID=session.id)

    def _registry(self, environ: Mapping[str, str]) -> ModelRegistry:
        return self.registry.with_environ(environ) if environ else self.registry

    def _save_prompt(
        self,
        session: Session,
        message_id: str,
        prompt: Prompt,
        agent: AgentProfile,
        model: ResolvedModel,
    ) -> None:
        chosen = {"providerID": model.provider_id, "modelID": model.model_id}
        info: dict[str, Any] = {
            "id": message_id,
            "sessionID": session.id,
            "role": "user",
            "time": {"created": now_ms()},
            "agent": agent.name,
            "model": chosen,
        }
        info_json: MessageInfoJSON = info  # type: ignore[assignment]
        self.messages.save_info(info_json)
        for part in prompt.parts:
            saved = {"id": new_id("prt"), "sessionID": session.id, "messageID": message_id, **part}
            part_json: PartJSON = saved  # type: ignore[assignment]
            self.messages.save_part(part_json)
        session.usage.messages += 1
        session.error = None
        session.model = {"providerID": model.provider_id, "id": model.model_id}
        if not session.titled:
            session.title, session.titled = _title(prompt.parts), True
        self.sessions.save(session)


def _named(config: Mapping[str, Any] | None) -> str:
    """The name of an agent that came with a session."""
    return "build" if config is None else str(config.get("name") or "custom")


def _title(parts: Sequence[PromptPart]) -> str:
    """The first line that says something."""
    text = next((p["text"] for p in parts if p["type"] == "text" and p["text"].strip()), "")
    line = next((stripped for s in text.splitlines() if (stripped := s.strip())), "New session")
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1] + "…"
