"""The event stream: numbered, complete, resumable."""

from __future__ import annotations

from agent_magics.client import AsyncSessionHandle
from agent_magics.wire import WireEvent

from ._kit import Checks, Kit

check = Checks()


@check
async def events_are_numbered(kit: Kit) -> None:
    """Events have rising numbers; a turn ends exactly once, and nothing of it changes later."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        events = await _history(session)
        numbers = [event.seq for event in events]
        kit.expect(None not in numbers, "an event without a number")
        kit.same(numbers, sorted(set(numbers), key=lambda n: n or 0), "order of the numbers")
        types = [event.type for event in events]
        kit.same(types.count("turn.ended"), 1, "terminal events")
        parts = max(i for i, kind in enumerate(types) if kind == "message.part.updated")
        kit.expect(parts < types.index("turn.ended"), "a part changed after the end of its turn")


@check
async def events_can_be_resumed(kit: Kit) -> None:
    """A reader that comes back with the number of the last event it saw gets exactly the rest."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        everything = await _history(session)
        middle = everything[len(everything) // 2]
        rest = await _history(session, middle.seq)
        wanted = [event.id for event in everything if (event.seq or 0) > (middle.seq or 0)]
        kit.same([event.id for event in rest], wanted, "events after the one that was seen")


@check
async def events_come_raw(kit: Kit) -> None:
    """events() gives server-sent events as bytes; each stored one has its number as id."""
    async with kit.session() as session:
        await session.send(kit.prompts.simple)
        wanted = [event.seq for event in await _history(session)]
        body = b""
        async with session.events(0) as chunks:
            async for chunk in chunks:
                body += chunk
                if b'"session.idle"' in body and body.endswith(b"\n\n"):
                    break
        lines = [line for line in body.split(b"\n") if line.startswith(b"id: ")]
        kit.same([int(line[4:]) for line in lines], wanted, "ids of the frames")


async def _history(session: AsyncSessionHandle, after: int | None = 0) -> list[WireEvent]:
    """The events after one, up to the session's next idle."""
    events: list[WireEvent] = []
    async with session.parsed_events(after) as stream:
        async for event in stream:
            events.append(event)
            if event.type == "session.idle":
                break
    return events
