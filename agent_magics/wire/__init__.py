"""
The shapes on the wire between client and engine. No I/O, no dependencies.

Names and nesting are those of the opencode server's v1 API where it has them; what is ours
beyond it (numbered events, turns, tool output, metrics) is marked in the docstrings.
"""

from ._artifacts import *
from ._commands import *
from ._environ import *
from ._events import *
from ._json import *
from ._objects import *
from ._parts import *

PROTOCOL = 1
"""Major version of the protocol; a client refuses a server with a higher one."""

__all__ = [
    "MODEL_ENVIRON",
    "PROTOCOL",
    "AgentEvent",
    "Artifact",
    "ArtifactCreated",
    "ArtifactJSON",
    "Attachment",
    "CacheTokensJSON",
    "Command",
    "CommandJSON",
    "ErrorJSON",
    "EventJSON",
    "FileEntry",
    "FilePart",
    "Message",
    "MessageInfo",
    "MessageInfoJSON",
    "MessageJSON",
    "MetricsJSON",
    "ModelRefJSON",
    "Part",
    "PartJSON",
    "PermissionAsked",
    "PermissionReplied",
    "PermissionReply",
    "PermissionRequest",
    "PermissionRequestJSON",
    "ReasoningDelta",
    "ReasoningPart",
    "SendResult",
    "SessionInfo",
    "SessionJSON",
    "SessionMetrics",
    "ShellResult",
    "StatusChanged",
    "StepFinishPart",
    "StepFinished",
    "StepStartPart",
    "TextDelta",
    "TextPart",
    "Todo",
    "TodoJSON",
    "TodosUpdated",
    "Tokens",
    "TokensJSON",
    "ToolComplete",
    "ToolFailed",
    "ToolPart",
    "ToolStart",
    "ToolState",
    "ToolStateJSON",
    "ToolUpdate",
    "TurnEnded",
    "TurnStarted",
    "UnknownEvent",
    "UnknownPart",
    "WireError",
    "WireEvent",
    "part_from_json",
]
