"""Turns: send, stream, follow, abort."""

from __future__ import annotations

import asyncio

from agent_magics.client import BadRequest, Busy, ModelNotFound
from agent_magics.wire import AgentEvent, TextDelta, TurnStarted

from ._kit import Checks, Kit, NotTested, ending

check = Checks()


@check
async def send_returns_the_turn(kit: Kit) -> None:
    """send() streams text by callback and returns what the turn brought; history has it too."""
    async with kit.session() as session:
        pieces: list[str] = []
        statuses: list[str] = []
        result = await session.send(
            kit.prompts.simple,
            on_text=pieces.append,
            on_status=lambda event: statuses.append(event.status),
        )
        kit.same(result.error, None, "error")
        kit.expect(result.text, "the reply has no text")
        kit.same("".join(pieces), result.text, "the deltas together")
        kit.expect("busy" in statuses, f"no status busy while it worked, but {statuses}")
        user, assistant = await session.get_messages()
        kit.same(user.info.role, "user", "first message's role")
        kit.same(user.text, kit.prompts.simple, "the prompt in the history")
        found = (assistant.info.role, assistant.info.id)
        kit.same(found, ("assistant", result.message_id), "second message")
        kit.same(assistant.info.parent_id, user.info.id, "parent of the answer")
        kit.same(assistant.text, result.text, "the text in the history")
        kit.same((await session.get_info()).status, "idle", "status after the turn")


@check
async def stream_yields_typed_events(kit: Kit) -> None:
    """stream() yields typed events, the start first, exactly one end, and that last."""
    async with kit.session() as session:
        events: list[AgentEvent] = []
        async with session.stream(kit.prompts.simple) as stream:
            async for event in stream:
                events.append(event)
        end = ending(events)
        kit.same(end.outcome, "completed", "outcome")
        starts = [event for event in events if isinstance(event, TurnStarted)]
        kit.same([start.message_id for start in starts], [stream.message_id], "starts")
        text = "".join(event.delta for event in events if isinstance(event, TextDelta))
        kit.same(text, end.result.text, "the deltas together")


@check
async def turns_have_memory(kit: Kit) -> None:
    """A second turn adds to the history; metrics count messages and steps."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        await session.send(kit.prompts.simple)
        roles = [message.info.role for message in await session.get_messages()]
        kit.same(roles, ["user", "assistant"] * 2, "roles in the history")
        metrics = await session.get_metrics()
        kit.same(metrics.messages, 4, "messages in the metrics")
        kit.expect(metrics.steps >= 2, "two turns have fewer than two steps")


@check
async def prompts_arrive_unchanged(kit: Kit) -> None:
    """Braces, quotes, HTML, controls and other scripts stand in the history as they were sent."""
    prompt = "a {b} {{c}} \"d\" 'e' <b>f</b> & \\n \t %s $HOME 日本 😀 \u202e"
    async with kit.session() as session:
        await session.send(prompt)
        kit.same((await session.get_messages())[0].text, prompt, "the prompt")


@check
async def bad_prompts_are_refused(kit: Kit) -> None:
    """An empty prompt and an unknown model are typed errors and leave no message behind."""
    async with kit.session() as session:
        async with kit.refused(BadRequest, "an empty prompt"):
            await session.send("  ")
        async with kit.refused(ModelNotFound, "an unknown model"):
            await session.send(kit.prompts.simple, model="no-such-provider/no-such-model")
        kit.same(await session.get_messages(), [], "messages")
        kit.same((await session.send(kit.prompts.simple)).error, None, "error afterwards")


@check
async def failures_are_remembered(kit: Kit) -> None:
    """A session whose last turn failed says so, with the error, until the next turn begins."""
    async with kit.session() as session:
        failed = await session.send(kit.prompts.failing)
        if failed.error is None:
            raise NotTested("the turn did not fail; give it another prompt")
        listed = {info.id: info for info in await kit.client.list_sessions()}
        for info in (await session.get_info(), listed[session.id]):
            kit.same(info.status, "error", "status")
            kit.same(info.error, failed.error, "the session's error")
        kit.same((await session.send(kit.prompts.simple)).error, None, "error of the next turn")
        info = await session.get_info()
        kit.same((info.status, info.error), ("idle", None), "status after the next turn")


@check
async def one_turn_at_a_time(kit: Kit) -> None:
    """A session that works refuses another prompt as busy; the first one goes on."""
    async with kit.session() as session:
        await kit.asked(session)
        kit.same((await session.get_info()).status, "busy", "status")
        async with kit.refused(Busy, "a second prompt"):
            await session.send(kit.prompts.simple)


@check
async def abort_ends_a_turn(kit: Kit) -> None:
    """abort() ends the turn as aborted, keeps what came, and is harmless when nothing runs."""
    async with kit.session() as session:
        kit.same(await session.abort(), False, "abort() of nothing")
        events: list[AgentEvent] = []
        seen = asyncio.Event()

        def follow(event: AgentEvent) -> None:
            events.append(event)
            if event.type in ("permission-asked", "turn-ended"):
                seen.set()

        turn = session.start(kit.prompts.asking, on_event=follow)
        await seen.wait()
        if not turn.done:
            kit.same(await session.abort(), True, "abort() of a turn")
        result = await turn.result()
        kit.same(ending(events).outcome, "aborted", "outcome")
        kit.expect(result.error is not None, "an aborted turn has no error")
        kit.same(await session.get_permissions(), [], "requests after abort()")
        kit.same(await session.abort(), False, "a second abort()")
        kit.same((await session.send(kit.prompts.simple)).error, None, "error of the next turn")
