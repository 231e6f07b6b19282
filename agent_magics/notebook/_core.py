"""What the magics do, as functions: for loops, functions and programs of your own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ._errors import TurnFailed
from ._frontend import current_shell
from ._session import Connection, SessionKeeper, Wanted, keeper_of
from ._turn._background import BackgroundTurn, begin_turn, turns_of
from ._turn._permissions import Policy
from ._turn._reattach import start_or_reattach
from ._turn._turn import Begin, TurnSettings, run_turn

if TYPE_CHECKING:
    from pathlib import Path

    from ..client import SessionHandle, Turn, TurnInput
    from ..wire import AgentEvent, SendResult, ShellResult
    from ._data._data import Packed
    from ._magics import AgentMagics
    from ._replay._real_tools import RealTools
    from ._replay._recorder import Listener

__all__ = [
    "ask",
    "ask_in_background",
    "connection_of",
    "current_session",
    "follow",
    "setting",
    "settings_of",
    "shell",
]


def ask(
    prompt: TurnInput = "",
    *,
    session: str | SessionHandle | None = None,
    new: bool = False,
    title: str | None = None,
    model: str | None = None,
    agent: str | None = None,
    permissions: str | None = None,
    timeout: float | None = None,
    sandbox: str | None = None,
    network: bool | Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
    data: Mapping[str, Any] | None = None,
    large: bool = False,
    record: str | Path | None = None,
    replay: str | Path | None = None,
    speed: float = 1.0,
    step: bool = False,
    real_tools: bool = False,
) -> SendResult:
    """
    Give the agent a task and follow it here, as `%%agent` does; a `CommandCall` is one with a name.

    `session` is an id or a handle, by default the notebook's own session; `new` starts another
    one with `title`, `sandbox` and `network`, the hosts that its commands may reach. `agent` names
    who answers this turn ("plan" changes nothing). `permissions` is ask, once, always or reject,
    `timeout` the seconds after which the turn is stopped. `data` are tables, arrays, figures, text,
    functions and `Path`s by name: they are put into the container's /workspace/data and described
    to the model; more than 20 MB only with `large`. Settings that are not given are those of
    `%config AgentMagics`. `notes` are shown along with the turn.

    `record` names a file that gets the turn. `replay` names one that is shown again: no prompt is
    needed, no model and no engine. It runs at `speed` (0: at once), with `step` it waits for a
    person before each step, and with `real_tools` its commands and file changes are carried out
    again in the session's container.

    Raises `TurnFailed` when the turn did not complete, `TurnInterrupted` (a `KeyboardInterrupt`)
    when it was stopped, and IPython's `UsageError` for data that can't be sent.
    """
    from ._replay._recorder import listener_for

    keeper = keeper_of(current_shell())
    if replay is not None:
        if record is not None:
            raise UsageError("a turn is recorded or replayed, not both")
        wanted = _wanted(session, new, title, model, sandbox, network)
        tools = (lambda: _real_tools(session, wanted)) if real_tools else None
        return _replayed(prompt, replay, speed, step, notes, tools)
    if step or real_tools or speed != 1:
        raise UsageError("speed, step and real tools are for a replay: name its file")
    plan = _plan(
        prompt,
        session=session,
        new=new,
        title=title,
        model=model,
        agent=agent,
        permissions=permissions,
        timeout=timeout,
        sandbox=sandbox,
        network=network,
        notes=notes,
        data=data,
        large=large,
    )
    listener = listener_for(prompt, record, plan.settings.model)
    try:
        result = run_turn(lambda: plan.acquire(None), listener.wrap(plan.begin), plan.settings)
    except TurnFailed as failed:
        _forget_lost_session(keeper, failed)
        raise
    finally:
        listener.save()
    _show_made(listener, result)
    return result


def ask_in_background(
    prompt: TurnInput,
    *,
    name: str = "the background",
    after: Callable[[SendResult | None], None] | None = None,
    **options: Any,
) -> BackgroundTurn:
    """
    Give the agent a task and return at once; the cell goes on showing how it works.

    `options` are those of `ask()`, without recording and replaying. Turns of one session run one
    after the other. `name` is what the turn is called when its end is announced, `after` is called
    with its result.
    """
    plan = _plan(prompt, **options)
    return begin_turn(name, plan.acquire, plan.begin, plan.settings, after or (lambda result: None))


@dataclass(frozen=True, slots=True)
class _Plan:
    """A turn that is ready to run. `acquire` may wait for earlier turns of the same session."""

    acquire: Callable[[BackgroundTurn | None], SessionHandle]
    begin: Begin
    settings: TurnSettings


def _plan(
    prompt: TurnInput,
    *,
    session: str | SessionHandle | None = None,
    new: bool = False,
    title: str | None = None,
    model: str | None = None,
    agent: str | None = None,
    permissions: str | None = None,
    timeout: float | None = None,
    sandbox: str | None = None,
    network: bool | Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
    data: Mapping[str, Any] | None = None,
    large: bool = False,
) -> _Plan:
    magics = settings_of(current_shell())
    wanted = _wanted(session, new, title, model, sandbox, network)
    keeper, connection = keeper_of(current_shell()), connection_of(magics)
    settings = replace(_turn_settings(permissions, timeout), model=wanted.model, news=keeper.news)
    packed = _packed(data or {}, large)
    settings = replace(settings, notes=(*notes, *_notes_on(packed)))
    whole = _with_data(prompt, packed)
    turns = turns_of(current_shell())

    def acquire(mine: BackgroundTurn | None) -> SessionHandle:
        turns.place_those_before(mine)
        found = session
        if found is None or isinstance(found, str):
            found = keeper.acquire(connection, wanted)
        if mine is not None:
            mine.place(found.id)
        turns.wait_for_those_before(mine, found.id)
        return found

    def begin(session: SessionHandle, on_event: Callable[[AgentEvent], None]) -> Turn:
        for item in packed:
            for path, content in item.files.items():
                session.put_file(path, content)
            item.discard()
        return start_or_reattach(keeper, session, whole, on_event, model=wanted.model, agent=agent)

    return _Plan(acquire, begin, settings)


def _wanted(
    session: str | SessionHandle | None,
    new: bool,
    title: str | None,
    model: str | None,
    sandbox: str | None,
    network: bool | Sequence[str] | None,
) -> Wanted:
    magics = settings_of(current_shell())
    hosts = (network,) if isinstance(network, str) else network
    return Wanted(
        session_id=session if isinstance(session, str) else None,
        new=new,
        title=title,
        model=model or setting(magics, "model"),
        sandbox=sandbox or setting(magics, "sandbox"),
        network=hosts if hosts is None or isinstance(hosts, bool) else tuple(hosts),
    )


def _show_made(listener: Listener, result: SendResult) -> None:
    """Show the files that the turn made, below it."""
    from ._data._made import made_files, may_have_made, show_made_files
    from ._turn._wait import patiently

    wanted = setting(settings_of(current_shell()), "show_files")
    session = listener.session
    if not wanted or session is None or not may_have_made(result):
        return
    try:
        files = patiently(lambda: made_files(session, listener.message_id, result))
    except TurnFailed:  # other servers may not know what a turn changed; the turn itself is fine
        return
    show_made_files(files)


def _real_tools(session: str | SessionHandle | None, wanted: Wanted) -> RealTools:
    """For the container of this session, or of the notebook's. Blocks on the network."""
    from ._replay._real_tools import RealTools

    if session is not None and not isinstance(session, str):
        return RealTools(session)
    keeper, magics = keeper_of(current_shell()), settings_of(current_shell())
    return RealTools(keeper.acquire(connection_of(magics), wanted))


def _replayed(
    prompt: TurnInput,
    file: str | Path,
    speed: float,
    step: bool,
    notes: tuple[str, ...],
    tools: Callable[[], RealTools] | None,
) -> SendResult:
    from pathlib import Path

    from ._replay._recording import prompt_text, read_recording
    from ._replay._replay import Pace, replay_turn

    if not 0 <= speed < math.inf:
        raise ValueError(f"speed is 0 or more, not {speed}")
    recording = read_recording(Path(file).expanduser())
    asked = prompt_text(prompt).strip()
    if asked and not recording.prompt.strip().startswith(asked):
        notes = (*notes, "The recording answers another prompt than the one in this cell.")
    shows = setting(settings_of(current_shell()), "show_reasoning") is not False
    pace = Pace(speed, step)
    return replay_turn(recording, pace, show_reasoning=shows, notes=notes, tools=tools)


def follow(
    session: SessionHandle, *, permissions: str | None = None, timeout: float | None = None
) -> SendResult | None:
    """
    Show the turn that runs in `session`, else its last one, from the beginning, in this cell.

    None when there has been no turn. Arguments and errors as in `ask()`; Stop ends the turn.
    """
    found: list[Turn | None] = []

    def begin(session: SessionHandle, on_event: Callable[[AgentEvent], None]) -> Turn:
        found.append(session.follow(on_event=on_event))
        if found[0] is None:
            raise LookupError("There has been no turn in this session.")
        return found[0]

    try:
        return run_turn(lambda: session, begin, _turn_settings(permissions, timeout))
    except TurnFailed:
        if found == [None]:
            return None
        raise


def _packed(data: Mapping[str, Any], large: bool) -> list[Packed]:
    if not data:
        return []
    from ._data._data import pack, too_large, too_large_to_pack

    if not large and (question := too_large_to_pack(data)):
        raise UsageError(question)
    packed = [pack(name, value) for name, value in data.items()]
    if not large and (question := too_large(packed)):
        raise UsageError(question)
    return packed


def _notes_on(packed: list[Packed]) -> tuple[str, ...]:
    """What the user is told of the data that goes along."""
    if not packed:
        return ()
    from ._data._data import sent_note

    return (sent_note(packed), *(item.note for item in packed if item.note))


def _with_data(prompt: TurnInput, packed: list[Packed]) -> TurnInput:
    if not packed:
        return prompt
    from ._data._data import with_data

    return with_data(prompt, packed)


def _turn_settings(permissions: str | None, timeout: float | None) -> TurnSettings:
    if permissions not in (None, "ask", "once", "always", "reject"):
        raise ValueError(f"permissions is ask, once, always or reject, not {permissions!r}")
    magics = settings_of(current_shell())
    policy = Policy(
        turn=permissions or setting(magics, "permissions") or "ask",
        nobody=setting(magics, "headless") or "reject",
        timeout=setting(magics, "permission_timeout"),
    )
    show_reasoning = setting(magics, "show_reasoning") is not False
    return TurnSettings(policy=policy, timeout=timeout, show_reasoning=show_reasoning)


def shell(command: str, *, timeout: float | None = None, cwd: str | None = None) -> ShellResult:
    """
    Run `command` in the container of the notebook's session and print its output live.

    As `%agent_shell` does; `timeout` in seconds. Raises `TurnFailed` when it could not be run.
    """
    from ._turn._shell import ShellSettings, run_shell

    magics = settings_of(current_shell())
    keeper, connection = keeper_of(current_shell()), connection_of(magics)
    wanted = Wanted(model=setting(magics, "model"), sandbox=setting(magics, "sandbox"))
    settings = ShellSettings(timeout, cwd)
    try:
        return run_shell(lambda: keeper.acquire(connection, wanted), command, settings)
    except TurnFailed as failed:
        _forget_lost_session(keeper, failed)
        raise


def current_session() -> SessionHandle:
    """The notebook's session, made now if no cell needed one yet. Raises the client's errors."""
    magics = settings_of(current_shell())
    wanted = Wanted(model=setting(magics, "model"), sandbox=setting(magics, "sandbox"))
    return keeper_of(current_shell()).acquire(connection_of(magics), wanted)


def _forget_lost_session(keeper: SessionKeeper, failed: TurnFailed) -> None:
    lost = failed.name in ("SessionNotFound", "SessionNotFoundError")
    if lost and keeper.current is not None:
        keeper.forget(keeper.current)


def settings_of(shell: Any) -> AgentMagics | None:
    """The loaded magics, whose traits are the settings; `None` outside IPython."""
    registry: dict[str, Any] = getattr(getattr(shell, "magics_manager", None), "registry", {})
    return registry.get("AgentMagics")


def setting(magics: AgentMagics | None, name: str) -> Any:
    """A setting of `%config AgentMagics`; `None` outside IPython."""
    return None if magics is None else getattr(magics, name)


def connection_of(magics: AgentMagics | None) -> Connection:
    """Where the settings say that the engine is."""
    return Connection(setting(magics, "url"), setting(magics, "token"))
