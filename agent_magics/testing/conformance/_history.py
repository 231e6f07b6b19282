"""What becomes of a conversation: summaries, reverts, forks."""

from __future__ import annotations

from agent_magics.client import BadRequest, Busy, FileMissing, MessageNotFound

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


@check
async def reverts_can_be_undone(kit: Kit) -> None:
    """revert() takes a message and all after it away; unrevert() undoes that until a prompt."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        await session.send(kit.prompts.simple)
        messages = await session.get_messages()
        second = messages[2].info.id
        async with kit.refused(MessageNotFound, "a revert to an unknown message"):
            await session.revert("msg_unknown")
        preview = await session.revert(second, preview=True)
        kit.same((preview.message_id, preview.messages), (second, 2), "preview")
        kit.same(await session.get_messages(), messages, "messages after a preview")
        await session.revert(second)
        kit.same(await session.get_messages(), messages[:2], "messages after revert()")
        await session.unrevert()
        kit.same(await session.get_messages(), messages, "messages after unrevert()")
        await session.revert(second)
        await session.send(kit.prompts.simple)
        await session.unrevert()
        now = [message.info.id for message in await session.get_messages()]
        kit.same(now[:2], [message.info.id for message in messages[:2]], "messages that stayed")
        kit.expect(second not in now, "a prompt after a revert did not make it final")


@check
async def what_was_spent_stays_spent(kit: Kit) -> None:
    """A revert gives back neither tokens nor cost, and leaves steps and tool calls counted."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        before = await session.get_metrics()
        await session.revert((await session.get_messages())[0].info.id)
        after = await session.get_metrics()
        kit.same(after.messages, 0, "messages after revert()")
        spent = before.total_tokens, before.total_cost, before.steps, before.tool_usage
        counted = after.total_tokens, after.total_cost, after.steps, after.tool_usage
        kit.same(counted, spent, "what was spent")


@check
async def files_of_others_stay(kit: Kit) -> None:
    """A revert leaves files alone that the session's turns did not change."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        await session.put_file("mine.txt", "mine")
        await session.revert((await session.get_messages())[0].info.id)
        kit.same(await session.get_messages(), [], "messages after revert()")
        kit.same(await session.get_file("mine.txt"), "mine", "a file of one's own")


@check
async def reverts_reach_behind_summaries(kit: Kit) -> None:
    """A summary is taken back with what it summarizes; the conversation goes on from there."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        before = await session.get_messages()
        await session.summarize()
        summary = (await session.get_messages())[len(before)].info.id
        await session.revert(summary)
        kit.same(await session.get_messages(), before, "messages after revert()")
        kit.same((await session.send(kit.prompts.simple)).error, None, "error of the next turn")


@check
async def forks_are_copies(kit: Kit) -> None:
    """A fork has the messages and files of the original; neither sees what the other does then."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        await session.put_file("shared.txt", "one")
        fork = await kit.client.fork_session(session.id)
        try:
            texts = [message.text for message in await session.get_messages()]
            kit.same(len(texts), 2, "messages of the original")
            kit.same([m.text for m in await fork.get_messages()], texts, "messages of the fork")
            kit.same(await fork.get_file("shared.txt"), "one", "a file of the fork")
            await fork.put_file("new.txt", "two")
            await fork.send(kit.prompts.simple)
            kit.same(len(await session.get_messages()), len(texts), "messages of the original")
            async with kit.refused(FileMissing, "a file that only the fork has"):
                await session.get_file("new.txt")
        finally:
            await fork.end()
