"""What the magics that look at sessions and manage them do, once their options are read."""

from __future__ import annotations

import math
import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import UsageError

from ...widgets import Questions
from .._core import follow
from .._errors import TurnFailed
from .._frontend import current_shell
from .._options import session_id
from .._turn._background import asked_in_vain, turns_of
from .._turn._wait import patiently
from ._options import PARSERS, SESSION_OPTIONS
from ._tables import (
    changes_table,
    commands_table,
    messages_table,
    metrics_facts,
    models_table,
    rules_table,
    session_facts,
    sessions_table,
    todos_table,
)
from ._workbench import Workbench

if TYPE_CHECKING:
    from ...client import SessionHandle
    from ...wire import PermissionReply, SessionInfo
    from .._turn._background import BackgroundTurn

__all__ = [
    "agent_abort",
    "agent_messages",
    "agent_metrics",
    "agent_model",
    "agent_permissions",
    "agent_revert",
    "agent_session",
    "agent_summarize",
    "agent_todos",
    "agent_wait",
    "list_commands",
]


_LOOK = 0.5  # seconds between two looks at the turns that are waited for


def agent_session(options: Namespace) -> Any:
    for name, actions in SESSION_OPTIONS.items():
        if getattr(options, name) and options.action not in actions:
            parser = PARSERS["agent_session"]()
            parser.error(f"--{name} goes with {', '.join(actions)}, not with {options.action}")
    return _SESSION[options.action](Workbench(), options)


def agent_model(options: Namespace) -> Any:
    bench = Workbench()
    listed = patiently(lambda: bench.client().providers())
    if options.name:
        bench.choose_model(None if options.name == "default" else options.name, listed)
    return models_table(listed, bench.model)


def agent_todos(options: Namespace) -> Any:
    return todos_table(patiently(_session(options).get_todos))


def agent_metrics(options: Namespace) -> Any:
    return metrics_facts(patiently(_session(options).get_metrics))


def agent_messages(options: Namespace) -> Any:
    messages = patiently(_session(options).get_messages)
    return messages_table(messages[-options.last :] if options.last else messages)


def agent_revert(options: Namespace) -> Any:
    session = _session(options)
    if options.undo:
        if options.message:
            PARSERS["agent_revert"]().error("--undo takes no message: it undoes the last one")
        return _say(patiently(lambda: _bring_back(session)))
    message = options.message or _last_prompt(session)
    if options.preview:
        return changes_table(patiently(lambda: session.revert(message, True)), preview=True)
    return changes_table(patiently(lambda: session.revert(message)), preview=False)


def _bring_back(session: SessionHandle) -> str:
    before = len(session.get_messages())
    session.unrevert()
    count = len(session.get_messages()) - before
    if not count:
        return "Nothing is taken back in this session, or a later prompt has made it final."
    return f"{count} messages and their files are there again."


def agent_summarize(options: Namespace) -> None:
    session = _session(options)
    done = patiently(session.summarize, session.abort)
    _say(
        "The conversation is summarized: %agent_messages -n 1 shows how."
        if done
        else "The summary was aborted."
    )


def agent_wait(options: Namespace) -> Any:
    everything = turns_of(current_shell())
    turns = [*everything.announced, *everything]
    if not turns:
        raise UsageError("no turn runs in the background: %%agent -b begins one")
    end = math.inf if options.timeout is None else time.monotonic() + options.timeout
    while not patiently(lambda: _are_over(turns, end)):
        for turn in turns:
            turn.tell_of_question()
    if stuck := [turn.name for turn in turns if turn.is_stuck]:
        raise asked_in_vain(*stuck)
    if names := [turn.name for turn in turns if not turn.done]:
        raise TurnFailed(
            f"not over after {options.timeout:g} s: {', '.join(names)}", name="Timeout"
        )
    everything.announced.clear()
    sys.stdout.write("".join(t.tell() + t.summary for t in turns if not t.is_told))
    failed = [turn for turn in turns if turn.outcome != "completed"]
    if failed:
        raise TurnFailed("; ".join(f"{turn.name}: {turn.outcome}" for turn in failed))
    results = [turn.result() for turn in turns]
    return results[0] if len(results) == 1 else results


def _are_over(turns: Sequence[BackgroundTurn], end: float) -> bool:
    """
    Wait until all are over, one can't be waited for, or time is up.

    False when there is something to tell before the wait goes on.
    """
    for turn in turns:
        while not turn.done and time.monotonic() < end:
            if any(other.is_stuck for other in turns):
                return True
            if any(other.asks_in_vain and not other.is_told_to_ask for other in turns):
                return False
            turn.is_over_within(min(_LOOK, end - time.monotonic()))
    return True


def agent_abort(options: Namespace) -> None:
    stopped = patiently(_session(options).abort)
    _say("The turn is stopped." if stopped else "No turn runs in this session.")


def list_commands() -> Any:
    """What `%agent_run` can run in the notebook's session."""
    bench = Workbench()
    return commands_table(patiently(lambda: bench.client().list_commands(bench.current_id or None)))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _session(options: Namespace) -> SessionHandle:
    return Workbench().session(options.session)


def _last_prompt(session: SessionHandle) -> str:
    prompts = [m.info.id for m in patiently(session.get_messages) if m.info.role == "user"]
    if not prompts:
        raise UsageError("there is no message to take back in this session")
    return prompts[-1]


# -- %agent_session


def _words(options: Namespace, most: int, what: str = "") -> str | None:
    """The words after the action as one text."""
    if len(options.words) > most:
        takes = f"takes {what}" if what else "takes nothing more"
        PARSERS["agent_session"]().error(f"{options.action} {takes}: {options.words[-1]!r}")
    return " ".join(options.words) or None


def _named(bench: Workbench, options: Namespace) -> SessionHandle:
    return bench.session(_id(options) or options.session)


def _id(options: Namespace) -> str | None:
    word = _words(options, 1, "one id")
    try:
        return session_id(word) if word else None
    except ArgumentTypeError as error:
        raise UsageError(f"%agent_session: {error}; %agent_session list shows them") from None


def _facts(session: SessionHandle) -> Any:
    return session_facts(patiently(session.get_info))


def _show(bench: Workbench, options: Namespace) -> Any:
    _words(options, 0)
    return _facts(bench.session(options.session))


def _list(bench: Workbench, options: Namespace) -> Any:
    _words(options, 0)
    sessions = patiently(lambda: bench.client().list_sessions())

    def is_shown(info: SessionInfo) -> bool:
        return options.all or not info.archived or info.id == bench.current_id

    shown = [info for info in sessions if is_shown(info)]
    return sessions_table(shown, bench.current_id, len(sessions) - len(shown))


def _new(bench: Workbench, options: Namespace) -> Any:
    title = _words(options, 100)
    make = partial(
        bench.new,
        title,
        model=options.model,
        sandbox=options.sandbox,
        agent=options.agent,
        network=options.network,
    )
    return _facts(patiently(make))


def _use(bench: Workbench, options: Namespace) -> Any:
    session = _named(bench, options)
    patiently(lambda: bench.use(session))
    return _facts(session)


def _resume(bench: Workbench, options: Namespace) -> Any:
    chosen = _id(options) or options.session

    def resume() -> SessionHandle:
        found = bench.client().session(chosen) if chosen else bench.current or bench.earlier()
        if found is None:
            raise LookupError
        bench.use(found)
        return found

    try:
        session = patiently(resume)
    except LookupError:
        raise UsageError(
            "there is no session to go on with: %agent_session new makes one"
        ) from None
    follow(session)
    return _facts(session)


def _fork(bench: Workbench, options: Namespace) -> Any:
    title = _words(options, 100)
    original = bench.session(options.session)

    def fork() -> SessionHandle:
        copy = bench.client().fork_session(original.id)
        if title:
            copy.update(title=title)
        bench.use(copy)
        return copy

    copy = patiently(fork)
    return session_facts(patiently(copy.get_info), copy.skipped)


def _rename(bench: Workbench, options: Namespace) -> Any:
    title = _words(options, 100)
    if not title:
        PARSERS["agent_session"]().error("rename needs a title")
    session = bench.session(options.session)
    patiently(lambda: session.update(title=title))
    return _facts(session)


def _archive(bench: Workbench, options: Namespace) -> Any:
    session = _named(bench, options)
    patiently(lambda: session.update(archived=not options.undo))
    return _facts(session)


def _end(bench: Workbench, options: Namespace) -> None:
    session = _named(bench, options)
    patiently(lambda: bench.end(session))
    _say(f"The session {session.id} is deleted, with its container and its files.")


_SESSION = {
    "archive": _archive,
    "end": _end,
    "fork": _fork,
    "list": _list,
    "new": _new,
    "rename": _rename,
    "resume": _resume,
    "show": _show,
    "use": _use,
}


# -- %agent_permissions


def agent_permissions(options: Namespace) -> Any:
    session, action, words = _session(options), options.action, options.words
    parser = PARSERS["agent_permissions"]()
    if action in ("pending", "rules"):
        if words:
            parser.error(f"{action} takes nothing more: {words[0]!r}")
    elif not words:
        parser.error(f"{action} needs an id")
    elif action == "withdraw":
        wanted = [r.id for r in patiently(session.get_rules)] if words == ["all"] else words
        patiently(lambda: _withdraw(session, wanted))
    else:
        reply, message = cast("PermissionReply", action), " ".join(words[1:]) or None
        patiently(lambda: session.reply_to_permission(words[0], reply, message))
    if action in ("rules", "withdraw"):
        return rules_table(patiently(session.get_rules))
    return Questions(patiently(session.get_permissions))


def _withdraw(session: SessionHandle, rules: list[str]) -> None:
    for rule in rules:
        session.withdraw_rule(rule)
