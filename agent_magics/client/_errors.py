"""
What can go wrong, as types.

    AgentError
     ├─ ConnectionFailed           no answer: refused, cut, silent
     │   ├─ EngineStartError       the embedded engine could not be started
     │   └─ EngineNotResponding    its process runs and does not answer: `pid`
     ├─ NotText                    a file or artifact is no UTF-8 text; its bytes can be had
     ├─ UnknownArgument            a name or word that a call doesn't take; also a `TypeError`
     ├─ ProtocolError              an answer that makes no sense
     │   └─ ProtocolMismatch       client and engine are of different generations
     ├─ CommandFailed              the turn of a command failed; `result` has what it brought
     └─ ApiError                   the server said no: `status`, `name`, `data`
         ├─ BadRequest             400, 422; also raised before anything is sent
         │   └─ CommandArguments   a command's arguments are missing or have unknown names
         ├─ AuthError              401, 403
         ├─ ProviderAuth           the model provider's key is missing or wrong
         ├─ NotFound               404
         │   ├─ SessionNotFound
         │   ├─ ArtifactNotFound
         │   ├─ CommandNotFound
         │   ├─ MessageNotFound
         │   ├─ TaskNotFound
         │   ├─ PermissionNotFound
         │   ├─ RuleNotFound
         │   ├─ FileMissing
         │   ├─ ModelNotFound
         │   └─ AgentNotFound
         ├─ Busy                   409, a turn is running in this session
         ├─ Conflict               409, an id is taken
         │   └─ MessageRemoved     409, the message was taken back by a revert
         ├─ RevertConflict         409, others changed the files since: `paths`
         ├─ TooLarge               413
         ├─ RateLimited            429, `retry_after` in seconds
         ├─ StoreDamaged           409, 503, a part of what the server keeps can't be read
         ├─ SandboxUnavailable     no container can run here, `next_step` says what to do
         └─ ServerError            5xx
             └─ NoSpace            507, the engine can store nothing: a full disk, for example

The error of a turn that was accepted and then failed is not raised: it is `SendResult.error`.
Only `run_command()`, which returns no result, raises it as `CommandFailed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from agent_magics.wire import SendResult

__all__ = [
    "AgentError",
    "AgentNotFound",
    "ApiError",
    "ArtifactNotFound",
    "AuthError",
    "BadRequest",
    "Busy",
    "CommandArguments",
    "CommandFailed",
    "CommandNotFound",
    "Conflict",
    "ConnectionFailed",
    "EngineNotResponding",
    "EngineStartError",
    "FileMissing",
    "MessageNotFound",
    "MessageRemoved",
    "ModelNotFound",
    "NoSpace",
    "NotFound",
    "NotText",
    "PermissionNotFound",
    "ProtocolError",
    "ProtocolMismatch",
    "ProviderAuth",
    "RateLimited",
    "RevertConflict",
    "RuleNotFound",
    "SandboxUnavailable",
    "ServerError",
    "SessionNotFound",
    "StoreDamaged",
    "TaskNotFound",
    "TooLarge",
    "UnknownArgument",
]


class AgentError(Exception):
    """
    Root of everything this package raises. `str(error)` is one sentence for people.

    Each can be pickled and copied, with all that it knows.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[AgentError], args: tuple[Any, ...], state: Mapping[str, Any]
) -> AgentError:
    """An error as it was, however its class is made."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConnectionFailed(AgentError):
    """The server could not be reached, or the connection broke and could not be restored."""


class EngineStartError(ConnectionFailed):
    """The embedded engine could not be started; the message says why and names its log."""


class EngineNotResponding(ConnectionFailed):
    """
    The embedded engine's process `pid` runs, but has not answered in time: busy, or stopped.

    What was asked may still be done, and its turns may go on. The message has the command that ends
    the process.
    """

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid

    @classmethod
    def after(cls, seconds: float, pid: int) -> EngineNotResponding:
        """For a process that has been silent for so many seconds."""
        return cls(
            f"The engine (process {pid}) has not answered for {seconds:.0f} s. It is busy or was "
            f"stopped; its turns are kept. Try again later, or end it: kill -9 {pid}",
            pid,
        )


class ProtocolError(AgentError):
    """The server's answer is not what the protocol says."""


class ProtocolMismatch(ProtocolError):
    """Client and engine speak different major versions; the message says what to upgrade."""


class NotText(AgentError, ValueError):
    """What was asked for as text is not UTF-8; the message names the method for its bytes."""


class CommandFailed(AgentError):
    """The turn that a command started failed or was aborted; `result` has what it brought."""

    def __init__(self, message: str, result: SendResult) -> None:
        super().__init__(message)
        self.result = result


class ApiError(AgentError):
    """
    The server refused a request.

    `status` is the HTTP status (0 when the request was refused before it was sent), `name` the
    server's error name, `data` its details.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        name: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.name = name or type(self).__name__
        self.data: Mapping[str, Any] = data or {}


class BadRequest(ApiError):
    """The request itself is wrong: an empty prompt, an unknown field, a bad value."""


class UnknownArgument(AgentError, TypeError):
    """A call got a name or a word that it doesn't take; the message says which it takes."""


class CommandArguments(BadRequest):
    """The command needs more arguments (`missing`), or has none of that name (`unknown`)."""

    @property
    def missing(self) -> list[str]:
        """The placeholders without a value, such as "$path"."""
        return [str(name) for name in self.data.get("missing") or ()]

    @property
    def unknown(self) -> list[str]:
        """The names that the command doesn't take."""
        return [str(name) for name in self.data.get("unknown") or ()]


class AuthError(ApiError):
    """The token is missing or wrong, or this host may not ask."""


class ProviderAuth(ApiError):
    """The model's provider has no key or refused it; the message names the variable to set."""


class NotFound(ApiError):
    """There is no such thing on the server."""


class SessionNotFound(NotFound):
    pass


class ArtifactNotFound(NotFound):
    """Unknown key; the message and `data["keys"]` list what there is."""


class CommandNotFound(NotFound):
    """Unknown command; the message and `data["commands"]` list what there is."""


class MessageNotFound(NotFound):
    """The session has no such message."""


class PermissionNotFound(NotFound):
    """The permission request is unknown or already settled."""


class TaskNotFound(NotFound):
    """There is no such task, or its session was ended."""


class RuleNotFound(NotFound):
    """There is no such standing rule, or it was withdrawn."""


class AgentNotFound(NotFound):
    """Unknown agent; the message lists those that there are."""


class FileMissing(NotFound):
    """No such file in the container."""


class ModelNotFound(NotFound):
    """Unknown `provider/model-id`; the message lists what there is."""


class Busy(ApiError):
    """The session is in the middle of a turn."""


class Conflict(ApiError):
    """Something else has the id that was given."""


class MessageRemoved(Conflict):
    """
    A prompt was sent again whose turn was taken back by a revert meanwhile. It did not begin a
    turn; sent as a new message it will.
    """


class RevertConflict(ApiError):
    """Somebody else changed files since that would be overwritten. Nothing has changed."""

    @property
    def paths(self) -> tuple[str, ...]:
        """These files, relative to /workspace."""
        return tuple(str(path) for path in self.data.get("paths") or ())


class TooLarge(ApiError):
    pass


class RateLimited(ApiError):
    """Too many requests; `retry_after` is the server's wish in seconds, `None` if it has none."""

    @property
    def retry_after(self) -> float | None:
        value = self.data.get("retryAfter")
        return float(value) if isinstance(value, int | float) else None


class SandboxUnavailable(ApiError):
    """The session's container cannot run here."""

    @property
    def next_step(self) -> str:
        """What the user can do about it."""
        return str(self.data.get("nextStep") or "")

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.next_step}" if self.next_step else message


class StoreDamaged(ApiError):
    """
    A part of what the server keeps on its disk can't be read; the message says what can be saved,
    and how. Other sessions work.
    """


class ServerError(ApiError):
    """The server failed; `data["ref"]`, when there, is also in the engine's log."""


class NoSpace(ServerError):
    """
    The engine, or the session's container, can store nothing more; the message says what to do.

    Reading, and ending sessions, works meanwhile; afterwards everything goes on.
    """


_BY_NAME: dict[str, type[ApiError]] = {
    "AgentNotFoundError": AgentNotFound,
    "BadRequest": BadRequest,
    "BadRequestError": BadRequest,
    "ArtifactNotFoundError": ArtifactNotFound,
    "CommandArgumentsError": CommandArguments,
    "CommandNotFoundError": CommandNotFound,
    "ConflictError": Conflict,
    "FileNotFoundError": FileMissing,
    "FilePermissionError": ApiError,
    "MessageNotFoundError": MessageNotFound,
    "MessageRemovedError": MessageRemoved,
    "ModelNotFoundError": ModelNotFound,
    "NoSpaceError": NoSpace,
    "PermissionNotFoundError": PermissionNotFound,
    "ProviderAuthError": ProviderAuth,
    "RevertConflictError": RevertConflict,
    "RuleNotFoundError": RuleNotFound,
    "SandboxUnavailableError": SandboxUnavailable,
    "SessionBusyError": Busy,
    "SessionNotFoundError": SessionNotFound,
    "StoreDamagedError": StoreDamaged,
}

_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: AuthError,
    403: AuthError,
    404: NotFound,
    409: Busy,
    413: TooLarge,
    422: BadRequest,
    429: RateLimited,
}


def error_from_response(
    response: httpx.Response, *, missing: type[NotFound] = NotFound
) -> ApiError:
    """
    The typed error of a response with an error status, whose body has been read.

    The server's error name decides, then the status. `missing` is what a plain 404 means for the
    request that was made.
    """
    status = response.status_code
    body = _error_body(response)
    detail = body.get("data")
    data: dict[str, Any] = dict(detail) if isinstance(detail, Mapping) else {}
    name = str(body.get("name") or body.get("_tag") or "")
    message = data.get("message") or body.get("message")
    if not message:
        message = f"the server answered {status} {response.reason_phrase}".rstrip()
    retry_after = response.headers.get("retry-after", "")
    if status == 429 and retry_after.isdecimal():
        data.setdefault("retryAfter", int(retry_after))
    kind = _BY_NAME.get(name) or _BY_STATUS.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else ApiError
    if kind is NotFound:  # what was asked for is missing, or the whole session
        whole = "sessionID" in data and missing is not TaskNotFound  # a task is its session
        kind = SessionNotFound if whole else missing
    return kind(str(message), status=status, name=name, data=data)


def _error_body(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}
