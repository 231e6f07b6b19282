"""Permission requests: ask, answer, remember."""

from __future__ import annotations

from agent_magics.client import AsyncSessionHandle, PermissionNotFound, RuleNotFound
from agent_magics.wire import PermissionAsked, PermissionReplied, ToolComplete, ToolFailed

from ._kit import Checks, Kit, ending

check = Checks()


@check
async def allowed_tools_run(kit: Kit) -> None:
    """After "once" the tool runs and the turn goes on to its end; every request is settled."""
    async with kit.session() as session:
        events, asked = await kit.asked(session, "once")
        kit.same(ending(events).outcome, "completed", "outcome")
        requests = [e.request.id for e in events if isinstance(e, PermissionAsked)]
        settled = [e.request_id for e in events if isinstance(e, PermissionReplied)]
        kit.same(sorted(settled), sorted(requests), "settled requests")
        done = [e.part.call_id for e in events if isinstance(e, ToolComplete)]
        kit.expect(asked.request.call_id in done, "the tool that was allowed did not complete")
        kit.expect((await session.get_metrics()).tool_calls > 0, "metrics count no tool call")


@check
async def rejected_tools_do_not_run(kit: Kit) -> None:
    """After "reject" the call fails, the model is told, and the turn still ends properly."""
    async with kit.session() as session:
        events, asked = await kit.asked(session, "reject")
        kit.same(ending(events).outcome, "completed", "outcome")
        failed = [e.part.call_id for e in events if isinstance(e, ToolFailed)]
        kit.expect(asked.request.call_id in failed, "the rejected call did not fail")


@check
async def requests_can_be_found_again(kit: Kit) -> None:
    """A waiting request is listed, can be answered by whoever comes later, and only once."""
    async with kit.session() as session:
        _, asked = await kit.asked(session)
        later = kit.client.session(session.id)
        listed = [request.id for request in await later.get_permissions()]
        kit.same(listed, [asked.request.id], "waiting requests")
        await later.reply_to_permission(asked.request.id, "reject", "not now")
        async with kit.refused(PermissionNotFound, "a second answer"):
            await later.reply_to_permission(asked.request.id, "once")
        async with kit.refused(PermissionNotFound, "an answer to nothing"):
            await later.reply_to_permission("per_nothing", "once")


@check
async def always_is_remembered(kit: Kit) -> None:
    """After "always" it is not asked again, until the standing answer is withdrawn."""
    async with kit.session() as session:
        events, asked = await kit.asked(session, "always")
        ending(events)
        rules = await session.get_rules()
        allowed = {rule.pattern for rule in rules}
        kit.expect(set(asked.request.always) <= allowed, f"the rules are {rules}")
        kit.expect(not await _asks_again(kit, session, asked), "it asked for what is allowed")
        for rule in rules:
            await session.withdraw_rule(rule.id)
        kit.same(await session.get_rules(), [], "rules that are left")
        async with kit.refused(RuleNotFound, "withdrawing a rule twice"):
            await session.withdraw_rule(rules[0].id)
        kit.expect(await _asks_again(kit, session, asked), "it did not ask after the withdrawal")


async def _asks_again(kit: Kit, session: AsyncSessionHandle, asked: PermissionAsked) -> bool:
    found = False
    async with session.stream(kit.prompts.asking) as stream:
        async for event in stream:
            if isinstance(event, PermissionAsked):
                found = found or event.request.patterns == asked.request.patterns
                await session.reply_to_permission(event.request.id, "reject")
    return found
