"""The end of every turn: what is stored and told last, whoever ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_magics.wire import ErrorJSON

if TYPE_CHECKING:
    from ._services import Services
    from ._sessions import Session

__all__ = ["end_turn"]


def end_turn(
    services: Services, session: Session, message_id: str, error: ErrorJSON | None
) -> None:
    """Mark a turn as ended and say so: the last events of every turn, however it ended."""
    outcome = "completed"
    if error is not None:
        outcome = "aborted" if error["name"] == "MessageAbortedError" else "error"
    ended: dict[str, Any] = {"messageID": message_id, "outcome": outcome}
    with services.store.group():
        services.history.end(message_id)
        services.sessions.set_error(session, error if outcome == "error" else None)

        def publish(type: str, **properties: Any) -> None:
            services.log.publish(session.id, type, {"sessionID": session.id, **properties})

        if error is not None:
            ended["error"] = error
            publish("session.error", error=error)
        publish("turn.ended", **ended)
        publish("session.status", status={"type": "idle"})
        publish("session.idle")
