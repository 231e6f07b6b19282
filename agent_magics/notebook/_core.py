"""What the magics do, as functions: for loops, functions and programs of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import TurnFailed
from ._frontend import current_shell
from ._permissions import Policy
from ._session import Connection, SessionKeeper, Wanted, keeper_of
from ._turn import TurnSettings, run_turn

if TYPE_CHECKING:
    from ..client import PromptInput, SessionHandle
    from ..wire import SendResult, ShellResult
    from ._magics import AgentMagics

__all__ = ["ask", "current_session", "shell"]


def ask(
    prompt: PromptInput,
    *,
    session: str | SessionHandle | None = None,
    new: bool = False,
    title: str | None = None,
    model: str | None = None,
    agent: str | None = None,
    permissions: str | None = None,
    timeout: float | None = None,
    sandbox: str | None = None,
    notes: tuple[str, ...] = (),
) -> SendResult:
    """
    Give the agent a task and follow it here, as `%%agent` does.

    `session` is an id or a handle, by default the notebook's own session; `new` starts another
    one with `title` and `sandbox`. `agent` names who answers this turn ("plan" changes nothing).
    `permissions` is ask, once, always or reject, `timeout` the seconds after which the turn is
    stopped. Settings that are not given are those of `%config AgentMagics`. `notes` are shown
    along with the turn.

    Raises `TurnFailed` when the turn did not complete, `TurnInterrupted` (a `KeyboardInterrupt`)
    when it was stopped.
    """
    magics = _magics()
    wanted = Wanted(
        session_id=session if isinstance(session, str) else None,
        new=new,
        title=title,
        model=model or _setting(magics, "model"),
        sandbox=sandbox or _setting(magics, "sandbox"),
    )
    if permissions not in (None, "ask", "once", "always", "reject"):
        raise ValueError(f"permissions is ask, once, always or reject, not {permissions!r}")
    settings = TurnSettings(
        model=wanted.model,
        agent=agent,
        policy=Policy(
            turn=permissions or _setting(magics, "permissions") or "ask",
            nobody=_setting(magics, "headless") or "reject",
            timeout=_setting(magics, "permission_timeout"),
        ),
        timeout=timeout,
        show_reasoning=_setting(magics, "show_reasoning") is not False,
        notes=notes,
    )
    keeper, connection = keeper_of(current_shell()), _connection(magics)

    def acquire() -> SessionHandle:
        if session is None or isinstance(session, str):
            return keeper.acquire(connection, wanted)
        return session

    try:
        return run_turn(acquire, prompt, settings)
    except TurnFailed as failed:
        _forget_lost_session(keeper, failed)
        raise


def shell(command: str, *, timeout: float | None = None, cwd: str | None = None) -> ShellResult:
    """
    Run `command` in the container of the notebook's session and print its output live.

    As `%agent_shell` does; `timeout` in seconds. Raises `TurnFailed` when it could not be run.
    """
    from ._shell import ShellSettings, run_shell

    magics = _magics()
    keeper, connection = keeper_of(current_shell()), _connection(magics)
    wanted = Wanted(model=_setting(magics, "model"), sandbox=_setting(magics, "sandbox"))
    settings = ShellSettings(timeout, cwd)
    try:
        return run_shell(lambda: keeper.acquire(connection, wanted), command, settings)
    except TurnFailed as failed:
        _forget_lost_session(keeper, failed)
        raise


def current_session() -> SessionHandle:
    """The notebook's session, made now if no cell needed one yet. Raises the client's errors."""
    magics = _magics()
    wanted = Wanted(model=_setting(magics, "model"), sandbox=_setting(magics, "sandbox"))
    return keeper_of(current_shell()).acquire(_connection(magics), wanted)


def _forget_lost_session(keeper: SessionKeeper, failed: TurnFailed) -> None:
    lost = failed.name in ("SessionNotFound", "SessionNotFoundError")
    if lost and keeper.current is not None:
        keeper.forget(keeper.current)


def _magics() -> AgentMagics | None:
    """The loaded magics, whose traits are the settings; `None` outside IPython."""
    registry: dict[str, Any] = getattr(
        getattr(current_shell(), "magics_manager", None), "registry", {}
    )
    return registry.get("AgentMagics")


def _setting(magics: AgentMagics | None, name: str) -> Any:
    return None if magics is None else getattr(magics, name)


def _connection(magics: AgentMagics | None) -> Connection:
    return Connection(_setting(magics, "url"), _setting(magics, "token"))
