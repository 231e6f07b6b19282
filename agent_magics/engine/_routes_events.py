"""The streams: events of all sessions, of one session, and the lease."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ._body import query_int
from ._errors import BadRequest
from ._operations import EVENTS, NUMBER, Query, operation
from ._presence import Presence
from ._requests import engine_of, presence_of, session_of
from ._sse import event_response, stream_response

__all__ = ["routes"]


_AFTER = Query("lastEventId", NUMBER, description="Go on after this event; as Last-Event-ID.")


def _last_event_id(request: Request) -> int | None:
    """From the header, which a reconnecting reader sends, else from the query."""
    header = request.headers.get("last-event-id", "").strip()
    if header:
        try:
            return query_int({"Last-Event-ID": header}, "Last-Event-ID")
        except BadRequest:
            raise BadRequest("Last-Event-ID: must be the number of an event") from None
    return query_int(request.query_params, "lastEventId")


@operation(EVENTS, query=[_AFTER])
async def all_events(request: Request) -> Response:
    """Events of all sessions, numbered."""
    subscription = engine_of(request).log.subscribe(after=_last_event_id(request))
    return event_response(subscription)


@operation(EVENTS, query=[_AFTER])
async def global_events(request: Request) -> Response:
    """The same events in the envelope that opencode's terminal client reads."""
    subscription = engine_of(request).log.subscribe(after=_last_event_id(request))
    return event_response(subscription, wrapped=True)


@operation(EVENTS, query=[_AFTER])
async def session_events(request: Request) -> Response:
    """Events of a session and its children, numbered."""
    session = session_of(request)
    after = _last_event_id(request)
    subscription = engine_of(request).log.subscribe(session.id, after)
    return event_response(subscription)


async def _lease(presence: Presence) -> AsyncGenerator[str, None]:
    yield ": lease\n\n"
    await presence.closing.wait()


@operation(EVENTS)
async def lease(request: Request) -> Response:
    """While this is open, the engine stays."""
    return stream_response(_lease(presence_of(request)))


routes = [
    Route("/event", all_events),
    Route("/global/event", global_events),
    Route("/session/{id}/event", session_events),
    Route("/lease", lease),
]
