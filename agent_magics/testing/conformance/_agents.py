"""Agents and tasks."""

from __future__ import annotations

from agent_magics.client import AgentNotFound, TaskNotFound

from ._kit import Checks, Kit

check = Checks()


@check
async def agents_are_named(kit: Kit) -> None:
    """build, plan, explore and general are there; an unknown agent is a typed error."""
    names = {agent.name for agent in await kit.client.list_agents()}
    missing = {"build", "plan", "explore", "general"} - names
    kit.same(missing, set(), "agents that are missing")
    async with kit.refused(AgentNotFound, "a session of an unknown agent"):
        await kit.client.agent("no-such-agent").create_session()


@check
async def tasks_go_on_alone(kit: Kit) -> None:
    """A task is found again by its id, ends with a result, and can be cancelled."""
    task = await kit.client.agent("build").run(kit.prompts.simple, model=kit.model)
    try:
        again = kit.client.task(task.id)
        result = await again.result()
        kit.expect(result.text, "the result of a task has no text")
        kit.same((await task.poll()).status, "completed", "status of a task that is over")
    finally:
        await task.session.end()
    async with kit.refused(TaskNotFound, "poll() of a task that is gone"):
        await task.poll()


@check
async def waiting_tasks_say_so(kit: Kit) -> None:
    """A task whose request is left to people waits with it, and can be cancelled."""
    task = await kit.client.agent("build").run(
        kit.prompts.asking, model=kit.model, on_permission="ask"
    )
    try:
        info = await kit.waiting(task)
        kit.same(len(info.permissions), 1, "requests of the task")
        await task.cancel()
        kit.same((await task.poll()).status, "aborted", "status after cancel()")
    finally:
        await task.session.end()
