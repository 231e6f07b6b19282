"""
Every error that a client can see, and the one place that turns exceptions into it.

An error on the wire is `{"name", "data": {"message", ...}}` with a status. A mistake of the client
is always a 4xx. Anything unforeseen is a 500 with a reference that also stands in the log.
"""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent_magics.sandbox import SandboxError, SandboxGone, SandboxUnavailable
from agent_magics.wire import ErrorJSON

from ._database import StoreDamaged, StoreError, StoreFull
from ._ids import new_id

if TYPE_CHECKING:
    from ._sessions import Session

__all__ = [
    "AgentNotFound",
    "ApiError",
    "ArtifactNotFound",
    "BadRequest",
    "CommandArguments",
    "CommandNotFound",
    "Conflict",
    "ContextOverflow",
    "Forbidden",
    "MessageNotFound",
    "MessageRemoved",
    "NotFound",
    "PermissionNotFound",
    "RevertConflict",
    "RuleNotFound",
    "SessionBusy",
    "SessionDamaged",
    "TooLarge",
    "TurnLimit",
    "Unauthorized",
    "file_errors",
    "from_exception",
    "log_unforeseen",
    "refuse_damaged",
]

log = logging.getLogger(__name__)


class ApiError(Exception):
    """Root of what a request can fail with. `data` is sent beside the message."""

    status = 500
    name = "UnknownError"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        name: str | None = None,
        headers: dict[str, str] | None = None,
        **data: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.name = name or self.name
        self.headers = headers
        self.data = data

    def to_json(self) -> ErrorJSON:
        return {"name": self.name, "data": {"message": self.message, **self.data}}


class BadRequest(ApiError):
    status, name = 400, "BadRequest"


class Unauthorized(ApiError):
    status, name = 401, "UnauthorizedError"


class Forbidden(ApiError):
    status, name = 403, "ForbiddenError"


class NotFound(ApiError):
    status, name = 404, "NotFoundError"


class ArtifactNotFound(ApiError):
    status, name = 404, "ArtifactNotFoundError"


class CommandNotFound(ApiError):
    status, name = 404, "CommandNotFoundError"


class CommandArguments(ApiError):
    status, name = 400, "CommandArgumentsError"


class MessageNotFound(NotFound):
    name = "MessageNotFoundError"


class AgentNotFound(ApiError):
    status, name = 404, "AgentNotFoundError"


class RuleNotFound(ApiError):
    status, name = 404, "RuleNotFoundError"


class PermissionNotFound(ApiError):
    status, name = 404, "PermissionNotFoundError"


class Conflict(ApiError):
    status, name = 409, "ConflictError"


class MessageRemoved(Conflict):
    """The message was taken back by a revert; its id can't be used again."""

    name = "MessageRemovedError"


class SessionBusy(ApiError):
    status, name = 409, "SessionBusyError"


class SessionDamaged(ApiError):
    """The store lost what the session is allowed to do; the message says how to go on with it."""

    status, name = 409, "StoreDamagedError"


class RevertConflict(ApiError):
    """Reverting would overwrite what somebody else wrote: `paths`, below the workspace."""

    status, name = 409, "RevertConflictError"


class TooLarge(ApiError):
    status, name = 413, "TooLargeError"


class ContextOverflow(ApiError):
    """What the model has to see is larger than its context window."""

    status, name = 413, "ContextOverflowError"


class TurnLimit(ApiError):
    """A turn has used all that it may. `data` has the `limit`'s name and its `value`."""

    status, name = 422, "TurnLimitError"


def log_unforeseen(error: BaseException, doing: str) -> str:
    """
    Log where an unforeseen error came from and return the reference to it.

    The texts of exceptions may quote prompts or keys, so only types and places are logged.
    """
    ref = new_id("err")
    chain: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        places = [
            f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(seen.__traceback__)
        ]
        chain.append(
            f"{type(seen).__module__}.{type(seen).__qualname__} at {' < '.join(places[::-1])}"
        )
        seen = seen.__context__ if seen.__cause__ is None else seen.__cause__
    log.error("%s while %s: %s", ref, doing, " | caused by ".join(chain))
    return ref


def from_exception(error: Exception, doing: str) -> ApiError:
    """The error to answer with, whatever was raised while `doing` something."""
    if isinstance(error, ApiError):
        return error
    found = _from_models(error) or _from_sandbox(error) or _from_storage(error)
    if found is not None:
        return found
    ref = log_unforeseen(error, doing)
    return ApiError(f"Unexpected error in the engine; its log has more under {ref}.", ref=ref)


def _from_models(error: Exception) -> ApiError | None:
    from .models import ModelError, ModelNotFound, ProviderAuth

    if not isinstance(error, ModelError):
        return None
    auth = isinstance(error, ProviderAuth)
    status = 404 if isinstance(error, ModelNotFound) else 401 if auth else 400
    return ApiError(error.message, status=status, name=error.wire_name, **error.data)


def _from_sandbox(error: Exception) -> ApiError | None:
    if isinstance(error, SandboxUnavailable):
        return ApiError(
            error.reason, status=503, name="SandboxUnavailableError", nextStep=error.next_step
        )
    if isinstance(error, SandboxGone):
        message = (
            f"The session's container was stopped ({error}); it starts again with the next call."
        )
        return ApiError(message, status=503, name="SandboxGoneError")
    if isinstance(error, SandboxError):
        return ApiError(str(error), status=503, name="SandboxError")
    return None


def _from_storage(error: Exception) -> ApiError | None:
    """Something can't be stored or read: the database says so, or the disk beside it."""
    if isinstance(error, StoreFull):
        return ApiError(str(error), status=507, name="NoSpaceError")
    if isinstance(error, StoreDamaged):
        return ApiError(str(error), status=503, name="StoreDamagedError")
    if isinstance(error, StoreError):
        return ApiError(str(error), status=503, name="StoreError")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        place = f": {error.filename}" if error.filename else ""
        return ApiError(
            f"{error.strerror}{place}. Make room (end sessions, delete files), then try again.",
            status=507,
            name="NoSpaceError",
        )
    return None


def refuse_damaged(session: Session) -> None:
    """Raises SessionDamaged where the session's record can't be read."""
    if session.damage:
        raise SessionDamaged(session.damage, sessionID=session.id)


@contextmanager
def file_errors() -> Iterator[None]:
    """Turns what the container's file operations raise into errors of the request."""
    try:
        yield
    except OSError as error:
        status, name = _file_status(error)
        what = error.strerror or type(error).__name__
        named = error.filename or (error.args[0] if len(error.args) == 1 else "")
        message = f"{what}: {named}" if named else what
        raise ApiError(message, status=status, name=name) from error


def _file_status(error: OSError) -> tuple[int, str]:
    if isinstance(error, FileNotFoundError):
        return 404, "FileNotFoundError"
    if isinstance(error, IsADirectoryError):
        return 400, "IsADirectoryError"
    if isinstance(error, NotADirectoryError):
        return 400, "NotADirectoryError"
    if isinstance(error, PermissionError):
        return 403, "FilePermissionError"
    if error.errno == errno.EFBIG:
        return 413, "TooLargeError"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 507, "NoSpaceError"
    return 400, "FileError"
