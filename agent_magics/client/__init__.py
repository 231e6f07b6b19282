"""
The client: sessions with an agent, over a Unix socket or a URL.

    from agent_magics.client import Client

    client = Client()                       # finds or starts this user's embedded engine
    session = client.create_session("My session")
    result = session.send("Look around", on_text=lambda delta: print(delta, end=""))

`AsyncClient` is the same for asyncio. Everything that can go wrong is an `AgentError`.
"""

from __future__ import annotations

from ._agents import AgentChoice, AsyncAgentHandle
from ._async_client import AsyncClient
from ._async_session import AsyncSessionHandle
from ._async_turn import AsyncTurn, AsyncTurnStream
from ._callbacks import StreamCallbacks
from ._command_call import CommandCall, TurnInput
from ._endpoint import Endpoint, Health
from ._errors import (
    AgentError,
    AgentNotFound,
    ApiError,
    ArtifactNotFound,
    AuthError,
    BadRequest,
    Busy,
    CommandArguments,
    CommandFailed,
    CommandNotFound,
    Conflict,
    ConnectionFailed,
    EngineNotResponding,
    EngineStartError,
    FileMissing,
    MessageNotFound,
    MessageRemoved,
    ModelNotFound,
    NoSpace,
    NotFound,
    NotText,
    PermissionNotFound,
    ProtocolError,
    ProtocolMismatch,
    ProviderAuth,
    RateLimited,
    RevertConflict,
    RuleNotFound,
    SandboxUnavailable,
    ServerError,
    SessionNotFound,
    StoreDamaged,
    TaskNotFound,
    TooLarge,
    UnknownArgument,
)
from ._inputs import FileInput, PromptInput, TextInput
from ._launch import EngineLauncher, ensure_engine
from ._shell import AsyncShellStream, ShellOutput
from ._state_dir import StateDir
from ._stream import StreamPolicy
from ._sync import Client
from ._sync_agents import AgentHandle, Task
from ._sync_session import SessionHandle, ShellStream, Turn, TurnStream
from ._tasks import AsyncTask

__all__ = [
    "AgentChoice",
    "AgentError",
    "AgentHandle",
    "AgentNotFound",
    "ApiError",
    "ArtifactNotFound",
    "AsyncAgentHandle",
    "AsyncClient",
    "AsyncSessionHandle",
    "AsyncShellStream",
    "AsyncTask",
    "AsyncTurn",
    "AsyncTurnStream",
    "AuthError",
    "BadRequest",
    "Busy",
    "Client",
    "CommandArguments",
    "CommandCall",
    "CommandFailed",
    "CommandNotFound",
    "Conflict",
    "ConnectionFailed",
    "Endpoint",
    "EngineLauncher",
    "EngineNotResponding",
    "EngineStartError",
    "FileInput",
    "FileMissing",
    "Health",
    "MessageNotFound",
    "MessageRemoved",
    "ModelNotFound",
    "NoSpace",
    "NotFound",
    "NotText",
    "PermissionNotFound",
    "PromptInput",
    "ProtocolError",
    "ProtocolMismatch",
    "ProviderAuth",
    "RateLimited",
    "RevertConflict",
    "RuleNotFound",
    "SandboxUnavailable",
    "ServerError",
    "SessionHandle",
    "SessionNotFound",
    "ShellOutput",
    "ShellStream",
    "StateDir",
    "StoreDamaged",
    "StreamCallbacks",
    "StreamPolicy",
    "Task",
    "TaskNotFound",
    "TextInput",
    "TooLarge",
    "Turn",
    "TurnInput",
    "TurnStream",
    "UnknownArgument",
    "ensure_engine",
]
