"""
The JSON shapes, exactly as they travel: names and nesting of the opencode server's v1 API.

Only `wire` and the engine speak these; users hold the dataclasses of `_objects`.
Times are integers in milliseconds since the Unix epoch.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "ArtifactChangeJSON",
    "ArtifactJSON",
    "CacheTokensJSON",
    "CommandJSON",
    "ErrorJSON",
    "EventJSON",
    "FileDiffJSON",
    "FileJSON",
    "HealthJSON",
    "LastTurnJSON",
    "McpStatusJSON",
    "MessageInfoJSON",
    "MessageJSON",
    "MetricsJSON",
    "ModelRefJSON",
    "PartJSON",
    "PermissionReply",
    "PermissionRequestJSON",
    "RevertJSON",
    "SessionJSON",
    "ShellJSON",
    "SkippedJSON",
    "TodoJSON",
    "TokensJSON",
    "ToolStateJSON",
]

PermissionReply = Literal["once", "always", "reject"]


class CacheTokensJSON(TypedDict):
    read: int
    write: int


class TokensJSON(TypedDict):
    input: int
    output: int
    reasoning: int
    cache: CacheTokensJSON


class ErrorJSON(TypedDict):
    """`name` is one of opencode's error names; `data["message"]` is a sentence for people."""

    name: str
    data: dict[str, Any]


class ModelRefJSON(TypedDict):
    providerID: str
    modelID: str


class SessionTimeJSON(TypedDict):
    created: int
    updated: int
    archived: NotRequired[int]


class NetworkJSON(TypedDict):
    """Ours. Hosts that need no asking, beside those of the server's configuration."""

    allow: list[str]


class SessionJSON(TypedDict):
    """
    `error` (ours): what the last turn failed with; without it, it did not fail. `skipped` (ours):
    what a fork could not copy.
    """

    id: str
    title: str
    version: str
    directory: str
    parentID: NotRequired[str]
    agent: NotRequired[str]
    model: NotRequired[dict[str, str]]
    cost: float | None
    tokens: TokensJSON
    time: SessionTimeJSON
    metadata: NotRequired[dict[str, Any]]
    sandbox: NotRequired[dict[str, Any]]
    network: NotRequired[NetworkJSON]
    revert: NotRequired[dict[str, Any]]
    error: NotRequired[ErrorJSON]
    reverted: NotRequired[RevertJSON]
    skipped: NotRequired[list[SkippedJSON]]


class MessageTimeJSON(TypedDict):
    created: int
    completed: NotRequired[int]


class MessageInfoJSON(TypedDict):
    id: str
    sessionID: str
    role: Literal["user", "assistant"]
    time: MessageTimeJSON
    agent: NotRequired[str]
    parentID: NotRequired[str]
    model: NotRequired[ModelRefJSON]
    providerID: NotRequired[str]
    modelID: NotRequired[str]
    cost: NotRequired[float | None]
    tokens: NotRequired[TokensJSON]
    finish: NotRequired[str]
    error: NotRequired[ErrorJSON]
    summary: NotRequired[bool]


class PartTimeJSON(TypedDict):
    start: int
    end: NotRequired[int]


class ToolStateJSON(TypedDict):
    status: Literal["pending", "running", "completed", "error"]
    input: dict[str, Any]
    raw: NotRequired[str]
    title: NotRequired[str]
    output: NotRequired[str]
    error: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]
    time: NotRequired[PartTimeJSON]


class PartJSON(TypedDict):
    """Every part type in one shape; `type` says which of the optional keys are there."""

    id: str
    messageID: str
    sessionID: str
    type: str
    text: NotRequired[str]
    synthetic: NotRequired[bool]
    time: NotRequired[PartTimeJSON]
    tool: NotRequired[str]
    callID: NotRequired[str]
    state: NotRequired[ToolStateJSON]
    mime: NotRequired[str]
    filename: NotRequired[str]
    url: NotRequired[str]
    auto: NotRequired[bool]
    reason: NotRequired[str]
    tokens: NotRequired[TokensJSON]
    cost: NotRequired[float | None]
    context: NotRequired[ContextJSON]


class MessageJSON(TypedDict):
    info: MessageInfoJSON
    parts: list[PartJSON]


class TodoJSON(TypedDict):
    content: str
    status: str
    priority: str


class ToolCallRefJSON(TypedDict):
    messageID: str
    callID: str


class PermissionRequestJSON(TypedDict):
    id: str
    sessionID: str
    permission: str
    patterns: list[str]
    metadata: dict[str, Any]
    always: list[str]
    tool: NotRequired[ToolCallRefJSON]
    agent: NotRequired[str]
    parentID: NotRequired[str]
    sessionTitle: NotRequired[str]
    reason: NotRequired[str]


class ArtifactTimeJSON(TypedDict):
    created: int


class ArtifactJSON(TypedDict):
    """Ours. `source`: published or folder."""

    key: str
    path: str
    mime: str
    size: int
    description: str
    source: str
    time: ArtifactTimeJSON


class CommandJSON(TypedDict):
    """`origin` (ours): builtin, user or workspace. `hints`: the template's placeholders."""

    name: str
    template: str
    hints: list[str]
    description: NotRequired[str]
    source: NotRequired[str]
    origin: NotRequired[str]
    agent: NotRequired[str]
    model: NotRequired[str]


class McpStatusJSON(TypedDict):
    """How an MCP server stands. `status` may also be `pending` (ours): not needed so far."""

    status: Literal["connected", "disabled", "failed", "pending"]
    error: NotRequired[str]


class ContextJSON(TypedDict):
    used: int | None
    limit: int | None


class MetricsJSON(TypedDict):
    sessionID: str
    messages: int
    steps: int
    toolCalls: int
    toolUsage: dict[str, int]
    tokens: TokensJSON
    cost: float | None
    context: ContextJSON
    children: NotRequired[list[Any]]


class FileDiffJSON(TypedDict):
    """A changed file; `file` is relative to the workspace, `patch` a unified diff or empty."""

    file: str
    patch: str
    additions: int
    deletions: int
    status: Literal["added", "deleted", "modified"]


class SkippedJSON(TypedDict):
    path: str
    reason: str


class ArtifactChangeJSON(TypedDict):
    """What becomes of a published artifact: gone, back, or with its earlier content."""

    key: str
    status: Literal["added", "deleted", "modified"]


class RevertJSON(TypedDict):
    """What a revert does, or would do. Ours."""

    messageID: str
    messages: int
    files: list[FileDiffJSON]
    conflicts: list[str]
    skipped: list[SkippedJSON]
    artifacts: NotRequired[list[ArtifactChangeJSON]]


class EventJSON(TypedDict):
    """The `data:` of one SSE frame. `seq` repeats the frame's `id:`; unnumbered frames lack it."""

    id: str
    type: str
    properties: dict[str, Any]
    seq: NotRequired[int]
    sessionID: NotRequired[str]
    time: NotRequired[int]


class HealthJSON(TypedDict):
    """`engine` and `protocol` are ours: a server without them is taken for opencode's."""

    healthy: bool
    version: str
    engine: str
    protocol: int


class LastTurnJSON(TypedDict):
    """Ours: the message that began a turn, and the number of the session's event before it."""

    messageID: str
    after: int
    running: bool


class ShellJSON(TypedDict):
    stdout: str
    stderr: str
    exitCode: int
    timedOut: bool
    truncated: bool


class FileJSON(TypedDict):
    path: str
    kind: Literal["file", "directory", "link", "other"]
    size: int
    mtime: int
