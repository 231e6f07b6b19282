"""What turns need from the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai import Agent

    from ._agents import AgentBook
    from ._artifacts import ArtifactBook
    from ._checkpoints import Checkpoints
    from ._config import CompactionConfig, LimitsConfig
    from ._containers import Containers
    from ._history import History
    from ._log import EventLog
    from ._messages import MessageBook
    from ._permissions import Permissions
    from ._retry import RetryPolicy
    from ._sessions import SessionBook
    from ._skills import SkillBook
    from ._store import Store
    from ._subagents import SubAgents
    from ._turn import Turn

__all__ = ["Services"]


@dataclass(frozen=True)
class Services:
    """The parts of an engine that its turns share."""

    store: Store
    log: EventLog
    sessions: SessionBook
    messages: MessageBook
    permissions: Permissions
    containers: Containers
    checkpoints: Checkpoints
    history: History
    agent: Agent[Turn, str]
    agents: AgentBook
    subagents: SubAgents
    artifacts: ArtifactBook
    skills: SkillBook
    tool_title: Callable[[str, dict[str, Any]], str]
    retry: RetryPolicy
    compaction: CompactionConfig
    limits: LimitsConfig
