"""
The shapes on the wire between client and engine. No I/O, no dependencies.

Names and nesting are those of the opencode server's v1 API where it has them; what is ours
beyond it (numbered events, turns, tool output, metrics) is marked in the docstrings.
"""

from ._agents import *
from ._artifacts import *
from ._bodies import *
from ._commands import *
from ._environ import *
from ._events import *
from ._json import *
from ._loopback import *
from ._names import *
from ._objects import *
from ._parts import *
from ._revert import *

PROTOCOL = 1
"""Major version of the protocol; a client refuses a server with a higher one."""

__all__ = [
    "MODEL_ENVIRON",
    "PROTOCOL",
    "AbortBody",
    "AgentConfig",
    "AgentEvent",
    "AgentInfo",
    "Artifact",
    "ArtifactChange",
    "ArtifactChangeJSON",
    "ArtifactCreated",
    "ArtifactJSON",
    "Attachment",
    "CacheTokensJSON",
    "Command",
    "CommandBody",
    "CommandJSON",
    "Compacted",
    "CompactionPart",
    "ErrorJSON",
    "EventJSON",
    "ExecBody",
    "FileDiff",
    "FileDiffJSON",
    "FileEntry",
    "FileInputJSON",
    "FileJSON",
    "FilePart",
    "ForkBody",
    "HealthJSON",
    "InterruptBody",
    "LastTurnJSON",
    "McpStatusJSON",
    "Message",
    "MessageInfo",
    "MessageInfoJSON",
    "MessageJSON",
    "MetricsJSON",
    "ModelRefJSON",
    "NewSessionBody",
    "Part",
    "PartJSON",
    "PermissionAnswerBody",
    "PermissionAsked",
    "PermissionReplied",
    "PermissionReply",
    "PermissionReplyBody",
    "PermissionRequest",
    "PermissionRequestJSON",
    "PermissionRule",
    "PermissionRuleJSON",
    "PromptBody",
    "ReasoningDelta",
    "ReasoningPart",
    "RevertBody",
    "RevertJSON",
    "RevertPreview",
    "RevertResult",
    "RuleJSON",
    "SendResult",
    "SessionChangeBody",
    "SessionInfo",
    "SessionJSON",
    "SessionMetrics",
    "ShellJSON",
    "ShellResult",
    "SkippedFile",
    "SkippedJSON",
    "StatusChanged",
    "StepFinishPart",
    "StepFinished",
    "StepStartPart",
    "SummarizeBody",
    "TaskInfo",
    "TaskStatus",
    "TextDelta",
    "TextInputJSON",
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
    "Unattended",
    "UnknownEvent",
    "UnknownPart",
    "WireError",
    "WireEvent",
    "is_loopback",
    "part_from_json",
    "spelled_name",
    "unspelled_name",
]
