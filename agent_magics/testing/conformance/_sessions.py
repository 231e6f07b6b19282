"""Sessions: create, find, change, end."""

from __future__ import annotations

from agent_magics.client import NotFound, SessionNotFound

from ._kit import Checks, Kit

check = Checks()


@check
async def sessions_live(kit: Kit) -> None:
    """A session is created with a title, can be resumed by its id alone, and is listed."""
    async with kit.session("A title") as session:
        info = await kit.client.session(session.id).get_info()
        kit.same((info.id, info.title, info.status), (session.id, "A title", "idle"), "info")
        kit.expect(0 < info.time_created <= info.time_updated, "times of a session are wrong")
        listed = [each.id for each in await kit.client.list_sessions()]
        kit.expect(session.id in listed, "a new session is not listed")


@check
async def sessions_change(kit: Kit) -> None:
    """update() changes the title, archives and brings back; what is not named stays."""
    async with kit.session("Before") as session:
        await session.update(title="After")
        await session.update(archived=True)
        info = await session.get_info()
        kit.same((info.title, info.archived), ("After", True), "after update")
        await session.update(archived=False)
        kit.same((await session.get_info()).archived, False, "archived")


@check
async def sessions_end(kit: Kit) -> None:
    """end() is permanent, a second end() is harmless, and the session is unknown from then on."""
    async with kit.session() as session:
        await session.end()
        await session.end()
        async with kit.refused(SessionNotFound, "get_info() of an ended session"):
            await session.get_info()
        async with kit.refused(NotFound, "send() to an ended session"):
            await session.send(kit.prompts.simple)


@check
async def new_sessions_are_empty(kit: Kit) -> None:
    """A new session has no messages, no todos, no requests, and its metrics are zero."""
    async with kit.session() as session:
        kit.same(await session.get_messages(), [], "messages")
        kit.same(await session.get_todos(), [], "todos")
        kit.same(await session.get_permissions(), [], "permission requests")
        metrics = await session.get_metrics()
        counted = (metrics.messages, metrics.steps, metrics.tool_calls, dict(metrics.tool_usage))
        kit.same(counted, (0, 0, 0, {}), "metrics")
