"""
Tab completion in the agent's magics: options, their values, sessions, models, agents, commands and
files, and variables in prompts.

What only the engine knows is asked for in the background, waited for briefly, and remembered for a
few seconds; the engine is not started for it.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._options import PERMISSIONS, SANDBOXES, TURN_PARSERS, MagicParser
from ._options import PARSERS, PERMISSION_ACTIONS, SESSION_ACTIONS

if TYPE_CHECKING:
    from ...client import Client
    from .._magics import AgentMagics
    from .._session import SessionKeeper

__all__ = ["Completion", "add_completion", "remove_completion"]

_PATIENCE = 1.0  # seconds
_FRESH = 10.0  # seconds
_MOST_FILES = 1000
_IDENTIFIER = "agent_magics"
_MAGIC_LINE = re.compile(r"\s*%%?(agent\w*)[ \t]+(.*)\Z", re.DOTALL)
_FIELD = re.compile(r"\{([^\W\d]\w*)?\Z")
_NAMED = re.compile(r"(?<![\w@/.])@([^\s@,;:()\[\]{}<>'\"`]*)\Z")
_OWN_WORDS = {"agent_permissions": PERMISSION_ACTIONS, "agent_session": SESSION_ACTIONS}

_ALL_PARSERS: Mapping[str, Callable[[], MagicParser]] = {**PARSERS, **TURN_PARSERS}


class Completion:
    """What can stand at the cursor. `magics` and `keeper` are those of the shell."""

    def __init__(self, magics: AgentMagics, keeper: SessionKeeper) -> None:
        self._magics = magics
        self._keeper = keeper
        self._known: dict[str, tuple[float, list[str]]] = {}

    def candidates(self, text: str, before: str, is_first_line: bool) -> tuple[str, list[str]]:
        """
        The fragment before the cursor and what it can become.

        `before` is the cursor's line up to the cursor, `text` the whole cell.
        """
        match = _MAGIC_LINE.match(before)
        if match is not None:
            name, rest = match.groups()
            if name in _ALL_PARSERS:
                return self._words(name, rest)
        is_prompt = text.lstrip().startswith("%%agent ") or text.lstrip().startswith("%%agent\n")
        if is_prompt and not is_first_line:
            return self._variables(before)
        return "", []

    def _words(self, name: str, rest: str) -> tuple[str, list[str]]:
        words = rest.split()
        fragment = "" if not words or rest[-1].isspace() else words.pop()
        parser = _ALL_PARSERS[name]()
        options = {text: action for action in parser._actions for text in action.option_strings}
        if fragment.startswith("-") and "=" not in fragment:
            return _matching(fragment, (text for text in options if text.startswith("--")))
        if fragment.startswith("--"):
            option, _, value = fragment.partition("=")
            action = options.get(option)
            return _matching(value, self._values(action.dest) if action is not None else ())
        previous = options.get(words[-1]) if words else None
        if previous is not None and previous.nargs is None:
            return _matching(fragment, self._values(previous.dest))
        if name == "agent":
            return self._variables(rest)
        return _matching(fragment, self._positional(name, words))

    def _positional(self, name: str, words: list[str]) -> Iterable[str]:
        plain = [word for word in words if not word.startswith("-")]
        if name in _OWN_WORDS and not plain:
            return _OWN_WORDS[name]
        if name == "agent_session" and plain[0] in ("use", "resume", "archive", "end"):
            return self._values("session")
        if name == "agent_permissions" and len(plain) == 1:
            kind = "rules" if plain[0] == "withdraw" else "requests"
            return self._ask(kind, _ids_of(kind, self._keeper))
        if name == "agent_model":
            return self._values("model")
        if name == "agent_run" and not plain:
            return self._ask("commands", lambda c: [found.name for found in c.list_commands()])
        if name in ("agent_get", "agent_files") and not plain:
            return self._ask("files", _paths(self._keeper))
        return ()

    def _values(self, dest: str) -> Iterable[str]:
        if dest == "permissions":
            return PERMISSIONS
        if dest == "sandbox":
            return SANDBOXES
        if dest in ("out", "json"):
            return self._magics.variables()
        if dest == "data":
            return [*self._magics.variables(), *_local_files("")]
        if dest in ("record", "replay"):
            return [path for path in _local_files("**/") if path.endswith(".jsonl")]
        if dest == "session":
            return self._ask("sessions", lambda c: [info.id for info in c.list_sessions()])
        if dest == "agent":
            return self._ask("agents", lambda c: [agent.name for agent in c.list_agents()])
        if dest == "model":
            return self._ask("models", _models)
        return ()

    def _variables(self, before: str) -> tuple[str, list[str]]:
        field = _FIELD.search(before)
        if field is None:
            named = _NAMED.search(before)
            names = [] if named is None else self._values("data")
            return _matching("" if named is None else named[1], names)
        return _matching(field[1] or "", self._magics.variables())

    def _ask(self, kind: str, question: Callable[[Client], list[str]]) -> list[str]:
        """The engine's answer, or what it answered last."""
        asked, known = self._known.get(kind, (0.0, []))
        client = self._keeper.open_client
        if client is None or time.monotonic() - asked < _FRESH:
            return known
        found: list[list[str]] = []

        def ask() -> None:
            try:
                found.append(question(client))
            except Exception:  # no completion is not worth an error in the middle of typing
                return

        thread = threading.Thread(target=ask, name="agent-magics completion", daemon=True)
        thread.start()
        thread.join(_PATIENCE)
        if found:
            self._known[kind] = (time.monotonic(), found[0])
        return found[0] if found else known


def _matching(fragment: str, values: Iterable[str]) -> tuple[str, list[str]]:
    return fragment, [v for v in values if v.startswith(fragment) and _is_one_word(v)]


def _is_one_word(text: str) -> bool:
    """
    Whether it is one word of a magic's line, and all of it can be seen.

    A completion is put into the cell: a name with a line end, say of an agent's file, would put
    code there.
    """
    from ...widgets import visible

    return visible(text) == text and not any(char.isspace() for char in text)


def _local_files(below: str) -> list[str]:
    """Files of the current directory whose names need no quotes; `below`: a pattern of folders."""
    files = (path for path in Path().glob(f"{below}*") if path.is_file())
    return sorted(
        str(path) for path in itertools.islice(files, _MOST_FILES) if " " not in path.name
    )


def _models(client: Client) -> list[str]:
    providers = client.providers().get("providers") or ()
    return [f"{p['id']}/{model}" for p in providers for model in p.get("models") or {}]


def _ids_of(kind: str, keeper: SessionKeeper) -> Callable[[Client], list[str]]:
    def ask(client: Client) -> list[str]:
        session = keeper.current
        if session is None:
            return []
        found = session.get_rules() if kind == "rules" else session.get_permissions()
        return [item.id for item in found]

    return ask


def _paths(keeper: SessionKeeper) -> Callable[[Client], list[str]]:
    def ask(client: Client) -> list[str]:
        files = [] if keeper.current is None else keeper.current.list_files(recursive=True)
        return [file.path.removeprefix("/workspace/") for file in files if " " not in file.path]

    return ask


def add_completion(shell: Any, magics: AgentMagics, keeper: SessionKeeper) -> None:
    """Have the shell's completer ask us first, and nobody else where we know something."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    completion = Completion(magics, keeper)

    @context_matcher(identifier=_IDENTIFIER, priority=200)  # type: ignore[untyped-decorator]
    def matcher(context: Any) -> dict[str, Any]:
        fragment, found = completion.candidates(
            context.full_text, context.text_until_cursor, context.cursor_line == 0
        )
        completions = [SimpleCompletion(text, type="agent") for text in found]
        return {
            "completions": completions,
            "matched_fragment": fragment,
            "suppress": bool(completions),
            "ordered": False,
        }

    remove_completion(shell)
    shell.Completer.custom_matchers.append(matcher)


def remove_completion(shell: Any) -> None:
    """The reverse of `add_completion`."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != _IDENTIFIER]
