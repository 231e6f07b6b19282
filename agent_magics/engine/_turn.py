"""
One turn: from an accepted prompt to its one `turn.ended`.

The model's steps and the tools run in one task. Whatever happens in it, `_finish` closes all that
is open and ends the turn; an abort cancels the run inside, never the task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent, UsageLimits
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, RunCancelled
from pydantic_ai.messages import FunctionToolResultEvent, ModelMessage, ToolCallPart
from pydantic_ai.run import AgentRun

from agent_magics.sandbox import Sandbox
from agent_magics.wire import ErrorJSON, MessageInfoJSON, PartJSON, TokensJSON

from ._attachments import missing_file, prompt_content, without_binaries, workspace_urls
from ._calls import CallContext, ToolCalls, refusal_text, result_text
from ._compaction import Compaction
from ._history import ABORTED as ABORTED_ERROR
from ._history import concluded, prompt_text
from ._ids import new_id, now_ms
from ._images import ImageWatch, file_url, image_mime
from ._messages import is_closed
from ._parts import ResponseParts, new_part
from ._reply_end import CALL_CUT, ReplyEndedEarly, WindowFull, check_ending
from ._retry import Retries, turn_error
from ._sessions import WORKSPACE, Session, no_tokens
from ._skills import TurnSkills
from ._steps import finish_step
from ._subagents import MOST_CHILDREN, offered_tools
from ._turn_end import end_turn
from ._turn_history import TurnHistory, going_on

if TYPE_CHECKING:
    from pydantic_ai.tools import ToolDefinition

    from ._agents import AgentProfile
    from ._checkpoints import Checkpoint
    from ._permissions import Answer
    from ._prompts import Prompt
    from ._services import Services
    from .models import ResolvedModel

__all__ = ["Turn"]

log = logging.getLogger(__name__)

ABORTED = "Tool execution aborted"
_KILL_PATIENCE = 5.0
_WHOLE = (None, "stop", "tool-calls")
"""Finish reasons that say of no problem."""
_UNCONTAINED = frozenset({"todoread", "todowrite", "webfetch", "batch"})
"""Tools that need no container."""


class Turn:
    """
    A running turn. `done` is set when it is over.

    It is also the `deps` of the run: the capability that wraps tool calls and the tools
    themselves get it as `ctx.deps`.
    """

    def __init__(
        self,
        services: Services,
        session: Session,
        message_id: str,
        prompt: Prompt,
        agent: AgentProfile,
        model: ResolvedModel,
        scrub: Callable[[str], str],
    ) -> None:
        self.session = session
        self.message_id = message_id
        self.prompt = prompt
        self.agent = agent
        self.slots = asyncio.Semaphore(MOST_CHILDREN)
        """Taken by sub-agents at work."""
        self.done = asyncio.Event()
        self._services = services
        self._prompt = prompt.parts
        self._model = model
        self._scrub = scrub
        self._said = TurnHistory(services, message_id, model)
        self._retries = Retries(services.retry, model.provider_id, scrub, self.status, "busy")
        self._abort_reason: str | None = None
        self._answering = False
        self._info = self._new_info()
        self._counted = False
        self._calls = ToolCalls(services.messages, session.id, self._info["id"])
        self._contexts: dict[str, CallContext] = {}
        self._response: ResponseParts | None = None
        self._images: ImageWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self.skills = TurnSkills(services.skills, services.containers, session)
        self.checkpoint: Checkpoint

    # -- life

    def start(self) -> None:
        """Announce the turn and let it run."""
        services, session = self._services, self.session
        session.turn = self
        with services.store.group():
            services.history.begin(session.id, self.message_id)
            self.checkpoint = services.checkpoints.begin(session, self.message_id)
            self._publish("turn.started", {"messageID": self.message_id})
            self.status("busy")
        self._task = asyncio.create_task(self._main(), name=f"turn {self.message_id}")

    def abort(self, reason: str) -> None:
        """Stop the run; the turn ends as aborted soon after. Idempotent."""
        if self._abort_reason is None:
            self._abort_reason = reason
            self._said.abort()

    def _aborting(self) -> bool:
        return self._abort_reason is not None

    async def kill(self) -> None:
        """End the turn although its run doesn't react to an abort."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_KILL_PATIENCE)
        if not self.done.is_set():
            message = self._abort_reason or "The turn was aborted."
            self._finish(None, {"name": "MessageAbortedError", "data": {"message": message}})

    async def _main(self) -> None:
        messages: Sequence[ModelMessage] | None = None
        error: ErrorJSON | None = None
        try:
            messages = await self._steps()
        except (RunCancelled, asyncio.CancelledError) as cancelled:
            if found := RunCancelled.from_cancellation(cancelled):
                messages = self._said.with_past(found.new_messages())
            reason = self._abort_reason or "The turn was aborted."
            error = {"name": "MessageAbortedError", "data": {"message": reason}}
        except Exception as failure:
            error = turn_error(failure, self._model.provider_id, self._scrub)
            messages = self._after_failure(failure)
        if messages is None:
            messages = self._said.messages()
        self._said.run = None  # from here on there is nothing to abort
        await self._services.checkpoints.after(self.checkpoint, self._sandbox)
        self._finish(messages, error)

    async def _sandbox(self) -> Sandbox:
        return await self._services.containers.started(self.session)

    def _after_failure(self, failure: Exception) -> Sequence[ModelMessage] | None:
        messages = self._said.messages()
        refused = isinstance(failure, ModelHTTPError) and 400 <= failure.status_code < 429
        return without_binaries(messages) if refused else messages or None

    async def _steps(self) -> Sequence[ModelMessage]:
        history = await self._services.history.load(self.session.id)
        content = await self._content()
        if self._aborting():
            raise asyncio.CancelledError
        prompt = content
        while (uncovered := await self._run_agent(prompt, history)) is not None:
            if self._said.messages():  # the summary is of this turn's work, too
                prompt = going_on(content)
            history = await self._make_room(uncovered)
        return self._said.messages()

    async def _run_agent(
        self, content: Any, history: list[ModelMessage]
    ) -> list[ModelMessage] | None:
        """Let the agent work until it is through, or return what has to be summarized first."""
        services, model, said = self._services, self._model, self._said
        async with services.agent.iter(
            content,
            model=model.model,
            model_settings=self.agent.settings(model.settings),  # type: ignore[arg-type]
            message_history=history,
            deps=self,
            usage_limits=UsageLimits(request_limit=None),  # the turn's own limits hold
        ) as run:
            said.run = run
            if self._aborting():  # while the run was being set up
                run.cancel()
            async for node in run:
                if Agent.is_model_request_node(node):
                    if (uncovered := said.uncovered(history, node.request)) is not None:
                        return uncovered
                    try:
                        await self._model_step(node, run)
                    except ModelAPIError as error:
                        uncovered = self._after_refusal(error, history, node.request)
                        if uncovered is None:
                            raise
                        return uncovered
                elif Agent.is_call_tools_node(node):
                    said.save()
                    async with node.stream(run.ctx) as results:
                        async for event in results:
                            if isinstance(event, FunctionToolResultEvent):
                                self._tool_result(event)
        said.leave()
        return None

    async def _make_room(self, uncovered: list[ModelMessage]) -> list[ModelMessage]:
        """Summarize; what the model sees from now on."""
        if self._aborting():
            raise asyncio.CancelledError
        compaction = Compaction(
            self._services,
            self.session,
            self._model,
            self._scrub,
            self.status,
            auto=True,
            limit=self._said.room.limit,
        )
        with self._services.store.group():
            self._end_answer()
            self.status("compacting")
            compaction.open()
        return await self._said.summarize(compaction, uncovered, lambda: self.status("busy"))

    async def _content(self) -> Any:
        """The prompt for the model, files of the workspace read."""
        files: dict[str, bytes] = {}
        for url, path in workspace_urls(self._prompt).items():
            sandbox = await self._sandbox()
            try:
                files[url] = await sandbox.read_file(path)
            except OSError:
                raise missing_file(path) from None
        return prompt_content(self._prompt, files)

    # -- one request to the model

    async def _model_step(self, node: Any, run: AgentRun[Turn, str]) -> None:
        if not self._answering:
            self._begin_answer()
        messages, ids = self._services.messages, (self.session.id, self._info["id"])
        self._retries.begin()
        messages.save_part(new_part(*ids, "step-start"))
        self._response = ResponseParts(messages, self._calls, *ids)
        try:
            async with node.stream(run.ctx) as stream:
                # Only now the request itself is among the messages.
                self._said.save()
                async for event in stream:
                    self._response.handle(event)
        except ModelAPIError as error:
            error.in_stream = error.in_stream or self._response.begun
            raise
        self._response.close()
        part = finish_step(self._services, self.session, self._info, self._model, stream.response)
        self._said.spending.add(part["tokens"], part["cost"])
        self._model.window.ask()
        try:
            check_ending(stream.response, self._model.provider_id, self._scrub)
        except (ReplyEndedEarly, WindowFull):
            self._calls.close(CALL_CUT)
            raise

    def _after_refusal(
        self, error: ModelAPIError, history: list[ModelMessage], request: Any
    ) -> list[ModelMessage] | None:
        if isinstance(error, WindowFull):
            return self._said.after_full_window(history, request)
        if self._response is not None and self._response.begun:  # what was said can't be unsaid
            return None
        return self._said.after_refusal(error, history, request)

    async def before_retry(self, error: Exception) -> bool:
        """Wait visibly if the failed request is worth another try; False if not."""
        return await self._retries.before_retry(error)

    # -- the agent, and sub-agents

    def spend(self, tokens: TokensJSON, cost: float | None) -> None:
        """What a sub-agent used counts against this turn's limits, too."""
        self._said.spending.add(tokens, cost, steps=0)

    @property
    def model(self) -> ResolvedModel:
        return self._model

    def offered_tools(self, tools: list[ToolDefinition]) -> list[ToolDefinition]:
        return offered_tools(self.agent, self.session, self._services.agents, tools)

    async def delegate(self, call_id: str, description: str, prompt: str, agent: str) -> str:
        """For the `task` tool; see `SubAgents.run`."""
        subagents, call = self._services.subagents, self.call(call_id)
        return await subagents.run(self, call, description, prompt, agent)

    # -- tool calls (called by the capability)

    def find(self, call: ToolCallPart) -> PartJSON:
        return self._calls.find(call)

    def call(self, call_id: str) -> CallContext:
        """The context of a running call, for the tools."""
        return self._contexts[call_id]

    def running(self) -> list[PartJSON]:
        """The calls that run now."""
        parts = [context.part for context in self._contexts.values()]
        return [part for part in parts if not is_closed(part)]

    async def permitted(
        self, part: PartJSON, arguments: dict[str, Any], *, read_only: bool = False
    ) -> Answer:
        """`read_only`: the tool declares that it changes nothing."""
        return await self._services.permissions.ask(
            self.session,
            part,
            arguments,
            self.agent,
            self.prompt.unattended,
            read_only=read_only,
        )

    async def begin_call(self, part: PartJSON, arguments: dict[str, Any]) -> None:
        """The call runs from now on. Raises SandboxUnavailable."""
        services, tool = self._services, part["tool"]
        sandbox = None
        if tool not in _UNCONTAINED:
            sandbox = await self._sandbox()
            await services.checkpoints.before(self.checkpoint, tool, sandbox)
            if self._images is None:
                self._images = ImageWatch(sandbox)
            await self._images.before(tool)
        self._contexts[part["callID"]] = CallContext(
            part, self.session, sandbox, services, self.message_id, self.permitted
        )
        title = services.tool_title(tool, arguments)
        usage = self.session.usage.tools
        with services.store.group():
            usage[tool] = usage.get(tool, 0) + 1
            self._calls.running(part, arguments, title)
            services.sessions.keep(self.session)
        if self.prompt.on_call is not None:
            self.prompt.on_call(f"{tool}: {title}")

    def noting(self, result: Any) -> Any:
        """A tool's result, with what the agent has to know about its container."""
        if not isinstance(result, str):
            return result
        notice = self._services.containers.take_notice(self.session)
        return f"{result}\n\n[{notice}]" if notice else result

    async def end_call(self, part: PartJSON, result: Any) -> None:
        self._contexts[part["callID"]].flush()
        self._services.permissions.drop(self.session.id, part["callID"])
        self._calls.completed(part, result_text(result))
        if self._images is None:
            return
        for image in await self._images.after(part["tool"]):
            self._services.messages.save_part(
                new_part(
                    self.session.id,
                    self._info["id"],
                    "file",
                    mime=image_mime(image.path),
                    filename=image.path.rpartition("/")[2],
                    url=file_url(image.path),
                )
            )

    def fail_call(self, part: PartJSON, error: str) -> None:
        if context := self._contexts.get(part["callID"]):
            context.flush()
            self._services.permissions.drop(self.session.id, part["callID"])
        self._calls.failed(part, error)

    def _tool_result(self, event: FunctionToolResultEvent) -> None:
        """Calls that were never executed (unknown tool, arguments that are no JSON) end here."""
        part = self._calls.get(event.tool_call_id)
        if part is not None:
            self._calls.failed(part, refusal_text(event.part))

    # -- the message that answers the prompt; there is a new one after each summary

    def _begin_answer(self) -> None:
        self._info, self._counted = self._new_info(), False
        self._calls = ToolCalls(self._services.messages, self.session.id, self._info["id"])
        self._save_answer()
        self._answering = True

    def _save_answer(self) -> None:
        """Store the answer's head, and count it the first time."""
        with self._services.store.group():
            self._services.messages.save_info(self._info)
            if not self._counted:
                self._counted = True
                self.session.usage.messages += 1
                self._services.sessions.keep(self.session)

    def _end_answer(self) -> None:
        if self._answering:
            self._calls.close(CALL_CUT)
            self._info["time"]["completed"] = now_ms()
            self._save_answer()
        self._answering = False

    # -- the end

    def _finish(self, messages: Sequence[ModelMessage] | None, error: ErrorJSON | None) -> None:
        if self.done.is_set():  # the turn was killed, and its task came to an end after all
            return
        services, session, info = self._services, self.session, self._info
        session.turn = None
        with services.store.group():
            if self._response is not None:
                self._response.close()
            services.permissions.drop(session.id)
            self._calls.close(ABORTED)
            info["time"]["completed"] = now_ms()
            if error is not None:
                info["error"] = error
                if error["name"] != ABORTED_ERROR and info.get("finish") in _WHOLE:
                    info["finish"] = "error"
            self._save_answer()
            said = self._said.messages() if messages is None else messages
            services.history.save(
                self.message_id, concluded(said, prompt_text(self._prompt), error)
            )
            services.sessions.save(session)
            end_turn(services, session, self.message_id, error)
        self.done.set()

    def status(self, type: str, **values: Any) -> None:
        """Publish the session's status and keep it for those who ask."""
        self.current_status = {"type": type, **values}
        self._publish("session.status", {"status": self.current_status})

    def _publish(self, type: str, properties: dict[str, Any]) -> None:
        self._services.log.publish(
            self.session.id, type, {"sessionID": self.session.id, **properties}
        )

    def _new_info(self) -> MessageInfoJSON:
        info: dict[str, Any] = {
            "id": new_id("msg"),
            "sessionID": self.session.id,
            "role": "assistant",
            "parentID": self.message_id,
            "providerID": self._model.provider_id,
            "modelID": self._model.model_id,
            "mode": self.agent.name,
            "agent": self.agent.name,
            "path": {"cwd": WORKSPACE, "root": WORKSPACE},
            "cost": 0.0,
            "tokens": no_tokens(),
            "time": {"created": now_ms()},
        }
        return info  # type: ignore[return-value]
