"""What a session's handle knows of its sub-agents and of the answers that stand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_magics.wire import PermissionRule, SessionInfo

from ._errors import RuleNotFound, SessionNotFound
from ._protocol import parse, session_path, status_name

if TYPE_CHECKING:
    from ._api import Api
    from ._async_session import AsyncSessionHandle
    from ._sync import Client

__all__ = ["AsyncFamily", "Family"]


class AsyncFamily:
    """The part of `AsyncSessionHandle` that is about child sessions and standing rules."""

    id: str
    _api: Api

    async def get_children(self) -> list[SessionInfo]:
        """The sessions of this session's sub-agents, oldest first."""
        children, statuses = await asyncio.gather(
            self._api.get_json(session_path(self.id, "children"), missing=SessionNotFound),
            self._api.get_json("/session/status"),
        )
        return parse(
            lambda: [SessionInfo.from_json(c, status_name(statuses, c["id"])) for c in children]
        )

    async def get_rules(self) -> list[PermissionRule]:
        """What "always" answers allowed in this session and for its sub-agents, oldest first."""
        await self._api.require_engine("standing rules")
        rules = await self._api.get_json(session_path(self.id, "rule"), missing=SessionNotFound)
        return parse(lambda: [PermissionRule.from_json(rule) for rule in rules])

    async def withdraw_rule(self, rule_id: str) -> None:
        """Take an "always" answer back: the agent asks again. Raises `RuleNotFound`."""
        await self._api.require_engine("standing rules")
        await self._api.request(
            "DELETE", session_path(self.id, "rule"), params={"id": rule_id}, missing=RuleNotFound
        )


class Family:
    """The part of `SessionHandle` that is about child sessions and standing rules."""

    _client: Client
    _core: AsyncSessionHandle

    def get_children(self) -> list[SessionInfo]:
        """The sessions of this session's sub-agents, oldest first."""
        return self._client.run(self._core.get_children())

    def get_rules(self) -> list[PermissionRule]:
        """What "always" answers allowed in this session and for its sub-agents, oldest first."""
        return self._client.run(self._core.get_rules())

    def withdraw_rule(self, rule_id: str) -> None:
        """Take an "always" answer back: the agent asks again. Raises `RuleNotFound`."""
        self._client.run(self._core.withdraw_rule(rule_id))
