"""What becomes of a conversation: summaries."""

from __future__ import annotations

from agent_magics.client import BadRequest, Busy

from ._kit import Checks, Kit

check = Checks()


@check
async def summaries_replace_nothing_that_was_said(kit: Kit) -> None:
    """summarize() adds a summary to the history, keeps what was there, and the session goes on."""
    async with kit.session() as session:
        async with kit.refused(BadRequest, "a summary of nothing"):
            await session.summarize()
        await session.send(kit.prompts.simple)
        before = await session.get_messages()
        kit.same(await session.summarize(), True, "summarize()")
        after = await session.get_messages()
        kit.same(after[: len(before)], before, "the messages before the summary")
        summaries = [message for message in after if message.info.summary]
        kit.expect(summaries and summaries[-1].text, "no summary in the history")
        kit.same((await session.send(kit.prompts.simple)).error, None, "error of the next turn")


@check
async def summaries_wait_for_turns(kit: Kit) -> None:
    """summarize() is refused as busy while a turn runs."""
    async with kit.session() as session:
        await kit.asked(session)
        async with kit.refused(Busy, "a summary during a turn"):
            await session.summarize()
