"""A turn that somebody else began, or this client before it was closed: followed from its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import SessionNotFound
from ._protocol import as_mapping, parse, session_path
from ._runner import TurnRunner

if TYPE_CHECKING:
    from ._api import Api

__all__ = ["TurnFollower", "find_turn"]


class TurnFollower(TurnRunner):
    """
    Follows the turn of `message_id`, which the server has begun after event number `after`.

    A turn that is over is told all the same, from its first event to its end.
    """

    def __init__(self, api: Api, session_id: str, message_id: str, after: int) -> None:
        super().__init__(api, session_id, {}, message_id, str(after))
        self.accepted = self._sending = True

    async def _send(self) -> None:
        """It runs already."""


async def find_turn(api: Api, session_id: str, *, only_running: bool) -> TurnFollower | None:
    """The turn that runs in the session, else, unless `only_running`, the last one."""
    await api.require_engine("following a turn")
    found = await api.get_json(session_path(session_id, "turn"), missing=SessionNotFound)
    if found is None:
        return None
    turn = as_mapping(found)
    if only_running and not turn.get("running"):
        return None
    return parse(lambda: TurnFollower(api, session_id, str(turn["messageID"]), int(turn["after"])))
