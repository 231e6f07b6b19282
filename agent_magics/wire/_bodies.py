"""
What a client sends: the JSON of request bodies, in the names of the opencode server's v1 API.

Keys that a server does not know are ignored; null counts as absent. `Annotated` adds what a type
cannot say, as JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ._agents import AgentConfig, Unattended
from ._json import ModelRefJSON, PermissionReply

__all__ = [
    "AbortBody",
    "CommandBody",
    "ExecBody",
    "FileInputJSON",
    "ForkBody",
    "InterruptBody",
    "NewSessionBody",
    "PermissionAnswerBody",
    "PermissionReplyBody",
    "PromptBody",
    "RevertBody",
    "RuleJSON",
    "SessionChangeBody",
    "SummarizeBody",
    "TextInputJSON",
]


class SessionModelJSON(TypedDict):
    providerID: str
    id: str


class PythonJSON(TypedDict):
    """An interpreter to offer in the container, and what of the host it needs to see."""

    executable: Annotated[str, {"pattern": "^/"}]
    prefixes: NotRequired[list[str]]


class RuleJSON(TypedDict):
    """A permission rule: `permission` names a tool, `pattern` what it is used on (`*`, `?`)."""

    permission: str
    pattern: str
    action: Literal["allow", "ask", "deny"]


class NewSessionBody(TypedDict):
    """`limits`: of the container, in the names of the configuration; they can only be lowered."""

    title: NotRequired[str]
    parentID: NotRequired[str]
    agent: NotRequired[str]
    agentConfig: NotRequired[AgentConfig]
    model: NotRequired[SessionModelJSON]
    sandbox: NotRequired[Literal["auto", "bubblewrap", "podman", "docker", "kubernetes", "local"]]
    network: NotRequired[bool | list[str]]
    python: NotRequired[PythonJSON]
    permission: NotRequired[list[RuleJSON]]
    metadata: NotRequired[dict[str, Any]]
    limits: NotRequired[dict[str, int | float | str]]


class ArchivedJSON(TypedDict):
    archived: NotRequired[Annotated[int, {"minimum": 0, "description": "0: not archived"}]]


class SessionChangeBody(TypedDict):
    title: NotRequired[str]
    time: NotRequired[ArchivedJSON]


class TextInputJSON(TypedDict):
    type: Literal["text"]
    text: str


class FileInputJSON(TypedDict):
    """`url` is a data: URL, or file:///path of a file in the container."""

    type: Literal["file"]
    mime: str
    url: Annotated[str, {"pattern": "^(data:|file:///)"}]
    filename: NotRequired[str]


class PromptBody(TypedDict):
    """
    `environ`: credentials of the caller's for this turn; they are not stored.

    `onPermission` says what becomes of requests of this turn. Sent again under the same
    `messageID` nothing happens: the prompt was accepted. The id of a message that a revert took
    back is refused for ever, 409 MessageRemovedError, and so is that of any other message, 409
    ConflictError.
    """

    parts: Annotated[list[TextInputJSON | FileInputJSON], {"minItems": 1}]
    messageID: NotRequired[Annotated[str, {"pattern": "^msg_[A-Za-z0-9_]{1,60}$"}]]
    model: NotRequired[ModelRefJSON]
    agent: NotRequired[str]
    onPermission: NotRequired[Unattended]
    environ: NotRequired[dict[str, str]]


class CommandBody(TypedDict):
    """`arguments`: one line, values by position, or values by name. `model`: provider/model-id."""

    command: Annotated[str, {"minLength": 1}]
    arguments: NotRequired[str | list[Any] | dict[str, Any]]
    parts: NotRequired[list[FileInputJSON]]
    messageID: NotRequired[Annotated[str, {"pattern": "^msg_[A-Za-z0-9_]{1,60}$"}]]
    model: NotRequired[str | ModelRefJSON]
    agent: NotRequired[str]
    onPermission: NotRequired[Unattended]
    environ: NotRequired[dict[str, str]]


class SummarizeBody(TypedDict):
    """Without a model the session's."""

    providerID: NotRequired[str]
    modelID: NotRequired[str]
    auto: NotRequired[bool]
    environ: NotRequired[dict[str, str]]


class AbortBody(TypedDict):
    """With `messageID` only the turn of that prompt is stopped."""

    messageID: NotRequired[str]


class PermissionReplyBody(TypedDict):
    reply: PermissionReply
    message: NotRequired[str]


class PermissionAnswerBody(TypedDict):
    response: PermissionReply


class ExecBody(TypedDict):
    """A command for the container's shell. `stdin` is base64."""

    command: Annotated[str, {"minLength": 1}]
    timeout: NotRequired[
        Annotated[float, {"minimum": 1, "maximum": 86_400_000, "description": "milliseconds"}]
    ]
    cwd: NotRequired[str]
    env: NotRequired[dict[str, str]]
    stdin: NotRequired[Annotated[str, {"contentEncoding": "base64"}]]


class InterruptBody(TypedDict):
    """`kill` ends the command at once; else it gets SIGINT and some seconds to end by itself."""

    kill: NotRequired[bool]


class RevertBody(TypedDict):
    """The first message to go; an answer means the prompt that it answers."""

    messageID: str


class ForkBody(TypedDict):
    """With a message, the copy ends before its turn."""

    messageID: NotRequired[str]
