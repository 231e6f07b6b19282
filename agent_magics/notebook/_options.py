"""Options of magics: argparse that never exits, and text that is never split into words."""

from __future__ import annotations

import argparse
import difflib
import keyword
import math
import re
from typing import Any, NoReturn

from IPython.core.error import UsageError

__all__ = ["MagicParser", "agent_parser", "shell_parser"]

PERMISSIONS = ("ask", "once", "always", "reject")
SANDBOXES = ("auto", "bubblewrap", "podman", "docker", "kubernetes", "local")

_OPTION = re.compile(r"--?[A-Za-z]")
_TOKEN = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+""")
_PIECE = re.compile(r""""((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)|([^\s"'\\]+)""")


class MagicParser(argparse.ArgumentParser):
    """
    Options first, then free text that is taken as it is.

    Raises IPython's `UsageError`, which notebooks show as one message without a traceback.
    """

    def __init__(self, prog: str, usage: str, description: str) -> None:
        super().__init__(
            prog=prog,
            usage=usage.replace("%", "%%"),
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this help")

    def parse_line(self, line: str) -> tuple[argparse.Namespace, str]:
        """The options that `line` begins with, and the rest of it unchanged."""
        words: list[str] = []
        position = 0
        while True:
            position += len(line[position:]) - len(line[position:].lstrip())
            rest = line[position:]
            if re.match(r"--(\s|$)", rest):  # the end of the options, explicitly
                return self.parse_args(words), rest[2:].lstrip()
            if not _OPTION.match(rest):
                return self.parse_args(words), rest
            word, position = self._word(line, position)
            words.append(word)
            option = self._option(word.split("=", 1)[0])
            if option.nargs is None and "=" not in word:
                position += len(line[position:]) - len(line[position:].lstrip())
                if position >= len(line):
                    self.error(f"option {word} needs a value")
                value, position = self._word(line, position)
                words[-1] = f"{word}={value}" if word.startswith("--") else f"{word}{value}"

    def _word(self, line: str, position: int) -> tuple[str, int]:
        match = _TOKEN.match(line, position)
        if match is None or (match.end() < len(line) and not line[match.end()].isspace()):
            self.error(f"a quote is not closed: {line[position:][:40]}")
        word = _PIECE.sub(_unquote, match[0])
        return word, match.end()

    def _option(self, name: str) -> argparse.Action:
        names = {text: action for action in self._actions for text in action.option_strings}
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.error(f"unknown option {name}{hint} (-- goes before text that begins with a dash)")
        return names[name]

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        raise UsageError(f"{self.prog}: {message}\n{self.format_usage().strip()}")


def _unquote(match: re.Match[str]) -> str:
    double, single, escaped, plain = match.groups()
    if double is not None:
        return re.sub(r'\\(["\\])', r"\1", double)
    return next(text for text in (single, escaped, plain) if text is not None)


def _choice(*choices: str) -> Any:
    def check(text: str) -> str:
        if text in choices:
            return text
        close = difflib.get_close_matches(text, choices, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}{hint}")

    return check


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name for a variable")
    return text


def _session_id(text: str) -> str:
    if text != "new" and not re.fullmatch(r"ses_\w{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no session id (ses_...), nor 'new'")
    return text


def agent_parser() -> MagicParser:
    """Options of `%agent` and `%%agent`."""
    parser = MagicParser(
        "%agent",
        "%agent [options] prompt   or   %%agent [options] and the prompt below",
        "Give the agent a task in the notebook's session and follow it in this cell.\n\n"
        "{name} in the prompt stands for the notebook's variable of that name, {{name}} for the\n"
        "text {name}; other braces are left alone. The result is also in the variable _agent.",
    )
    add = parser.add_argument
    add("--session", metavar="ID", type=_session_id, help="go on with this session, or 'new'")
    add("--new", action="store_true", help="start a new session")
    add("--title", metavar="TEXT", help="title of the session")
    add("--model", metavar="NAME", help="provider/model-id for this turn")
    add("--agent", metavar="NAME", help="agent for this turn: build, plan, explore or another")
    add("--out", metavar="NAME", type=_variable, help="variable that gets the result")
    add("--raw", action="store_true", help="send the prompt without looking for {variables}")
    add(
        "--permissions",
        metavar="POLICY",
        type=_choice(*PERMISSIONS),
        help="ask, once, always or reject: how this turn's requests are answered",
    )
    add("--timeout", metavar="SECONDS", type=_seconds, help="stop the turn after this time")
    add(
        "--sandbox",
        metavar="KIND",
        type=_choice(*SANDBOXES),
        help="auto, bubblewrap, podman, docker, kubernetes or local (not isolated)",
    )
    return parser


def shell_parser() -> MagicParser:
    """Options of `%agent_shell` and `%%agent_shell`."""
    parser = MagicParser(
        "%agent_shell",
        "%agent_shell [options] command   or   %%agent_shell [options] and a script below",
        "Run a command in the container of the notebook's session; no model is involved.\n"
        "The command reaches the container unchanged: no {variables}, no $expansion.",
    )
    add = parser.add_argument
    add("--timeout", metavar="SECONDS", type=_seconds, help="end the command after this time")
    add("--cwd", metavar="DIR", help="directory to run in (default: /workspace)")
    add("--out", metavar="NAME", type=_variable, help="variable that gets the result")
    return parser
