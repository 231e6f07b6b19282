"""
How a cell fails.

    UsageError (IPython's own)    wrong options or an empty prompt: one line on stderr
    TurnFailed (RuntimeError)     the agent's turn or the way to it failed: one line, no traceback
      InvalidReply                the reply is not the JSON that was asked for
    TurnInterrupted (KeyboardInterrupt)   Stop; "Run All" ends, as after any Stop

IPython asks an exception for its traceback through `_render_traceback_`; that is how the last two
stay one line in every front end while the cell still counts as failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._text import one_line

if TYPE_CHECKING:
    from ..wire import SendResult

__all__ = ["InvalidReply", "TurnFailed", "TurnInterrupted", "describe"]


_NEXT_STEPS = {
    "ArtifactNotFound": "%agent_artifacts shows what there is.",
    "FileMissing": "%agent_files shows what there is.",
    "MessageNotFound": "%agent_messages shows what there is.",
    "ModelNotFound": "%agent_model shows what there is.",
    "PermissionNotFound": "%agent_permissions shows what is still open.",
    "RuleNotFound": "%agent_permissions rules shows what there is.",
    "SessionNotFound": "%agent_session list shows what there is.",
}
"""What to do after an error of the client, by the name of its class."""


class TurnFailed(RuntimeError):
    """
    A turn, or a command in the session's container, ended in an error.

    `name` is the error's name on the wire (`ProviderAuthError`, say) or the exception's class;
    `result` is what had arrived until then, `None` when the turn never started.
    """

    def __init__(self, message: str, *, name: str = "", result: SendResult | None = None) -> None:
        super().__init__(one_line(message))
        self.name = name
        self.result = result

    def _render_traceback_(self) -> list[str]:
        label = f"agent: {one_line(self.name, 60)}: " if self.name else "agent: "
        return [label + str(self)]


class InvalidReply(TurnFailed):
    """
    The turn completed, and its reply is not the JSON that was asked for, also when asked again.

    `raw` is the text of the last reply, `problems` says what is wrong with it, a line for each.
    """

    def __init__(self, problems: str, *, result: SendResult) -> None:
        message = f"the reply is not the JSON that was asked for: {problems}"
        super().__init__(message, name="InvalidReply", result=result)
        self.problems = problems
        self.raw = result.text


class TurnInterrupted(KeyboardInterrupt):
    """Stop was pressed: the turn is aborted, what had arrived is shown."""

    def __init__(self, message: str = "the turn was stopped") -> None:
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        return [f"agent: {one_line(str(self))}"]


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or "no further details"


def describe(error: BaseException) -> TurnFailed:
    """`error` of the client as a failure of the cell; the cause stays reachable."""
    message = _words(error)
    hint = getattr(error, "next_step", "") or _NEXT_STEPS.get(type(error).__name__, "")
    if hint and hint not in message:
        message = f"{message.rstrip('.')}. {hint}"
    failed = TurnFailed(message, name=str(getattr(error, "name", "") or type(error).__name__))
    failed.__cause__ = error
    return failed
