"""Options of magics: argparse that never exits, and text that is never split into words."""

from __future__ import annotations

import argparse
import difflib
import keyword
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from IPython.core.error import UsageError

from ._data._load import parse_wish

__all__ = [
    "PERMISSIONS",
    "SANDBOXES",
    "TURN_PARSERS",
    "MagicParser",
    "agent_parser",
    "choice",
    "fix_parser",
    "network",
    "number_from",
    "run_parser",
    "seconds",
    "session_id",
    "shell_parser",
]

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

    def notes_on(self, text: str) -> tuple[str, ...]:
        """What to tell about options that stand in the free text, where they do nothing."""
        names = {name for action in self._actions for name in action.option_strings}
        late = [word for word in text.split() if word.startswith("--") and word in names]
        return tuple(
            f"{name} is sent as a part of the text: options come before it"
            for name in dict.fromkeys(late)
        )

    def parse_words(self, line: str) -> argparse.Namespace:
        """Options and positional words in any order; every word may be quoted."""
        words: list[str] = []
        position = 0
        while True:
            position += len(line[position:]) - len(line[position:].lstrip())
            if position >= len(line):
                return self.parse_intermixed_args(words)
            word, position = self._word(line, position)
            if _OPTION.match(word):
                self._option(word.split("=", 1)[0])
            words.append(word)

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


def choice(*choices: str) -> Any:
    """One of these words, for `type=`."""

    def check(text: str) -> str:
        if text in choices:
            return text
        close = difflib.get_close_matches(text, choices, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}{hint}")

    return check


def seconds(text: str) -> float:
    """A time in seconds, for `type=`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: 1 as recorded, 2 twice, 0 at once")
    return value


def network(text: str) -> bool | tuple[str, ...]:
    """`on` (as configured), `off`, or hosts and groups with commas between them, for `type=`."""
    if text in ("on", "off"):
        return text == "on"
    hosts = tuple(host.strip() for host in text.split(",") if host.strip())
    if not hosts:
        raise argparse.ArgumentTypeError(f"{text!r} names no host: say python,example.org, on, off")
    return hosts


def _dotted(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a variable")
    return text


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name for a variable")
    return text


def number_from(least: int) -> Any:
    """A whole number that is at least `least`, for `type=`."""

    def check(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return check


def session_id(text: str) -> str:
    """The id of a session, for `type=`."""
    if not re.fullmatch(r"ses_\w{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no session id (ses_...)")
    return text


def _session_or_new(text: str) -> str:
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
        "text {name}; other braces are left alone. @name sends a table, an array, a figure, a\n"
        "function or a file along. The result is also in the variable _agent.",
    )
    add_turn_options(parser)
    _add_data_options(parser)
    parser.add_argument(
        "--raw", action="store_true", help="look for no {variables} and no @names in the prompt"
    )
    return parser


def _add_data_options(parser: MagicParser) -> None:
    add = parser.add_argument
    add(
        "--with",
        dest="data",
        metavar="NAMES",
        help="variables and files to send along, such as df,fig,'data/*.csv'; @name in the prompt "
        "does the same",
    )
    add("--large", action="store_true", help="send more than 20 MB")
    add(
        "--cells",
        metavar="CHOICE",
        help="cells to send along by their numbers (3 or 2-5,7), or outline, or all",
    )


def add_turn_options(parser: MagicParser) -> None:
    """What every magic takes that runs a turn."""
    add = parser.add_argument
    add("--session", metavar="ID", type=_session_or_new, help="go on with this session, or 'new'")
    add("--new", action="store_true", help="start a new session")
    add(
        "-b",
        "--background",
        action="store_true",
        help="return at once: the cell goes on showing the turn, %%agent_wait waits for it",
    )
    add("--title", metavar="TEXT", help="title of the session")
    add("--model", metavar="NAME", help="provider/model-id for this turn")
    add("--agent", metavar="NAME", help="agent for this turn: build, plan, explore or another")
    add("--out", metavar="NAME", type=_variable, help="variable that gets the result")
    add(
        "--get",
        metavar="PATH:NAME",
        action="append",
        type=parse_wish,
        help="load this file of the container into a variable afterwards",
    )
    add("--code", action="store_true", help="put the code that the agent proposes into a new cell")
    add(
        "--json",
        metavar="NAME",
        type=_dotted,
        help="the reply is data as this variable says: a pydantic model, a dataclass, a TypedDict "
        "or a JSON Schema; checked, and put into the variable of --out, else _agent_json",
    )
    add(
        "--permissions",
        metavar="POLICY",
        type=choice(*PERMISSIONS),
        help="ask, once, always or reject: how this turn's requests are answered",
    )
    add("--timeout", metavar="SECONDS", type=seconds, help="stop the turn after this time")
    add(
        "--sandbox",
        metavar="KIND",
        type=choice(*SANDBOXES),
        help="auto, bubblewrap, podman, docker, kubernetes or local (not isolated)",
    )
    add(
        "--network",
        metavar="HOSTS",
        type=network,
        help="with --new: hosts that commands may reach, such as python,example.org; on: as "
        "configured; off",
    )
    _add_replay_options(parser)


def _add_replay_options(parser: MagicParser) -> None:
    add = parser.add_argument
    add("--record", metavar="FILE", help="write the turn to this file, for --replay")
    add("--replay", metavar="FILE", help="show a recorded turn again; no model is asked")
    add(
        "--speed",
        metavar="FACTOR",
        type=_speed,
        help="replay: 1 as recorded, 2 twice as fast, 0 at once",
    )
    add("--step", action="store_true", help="replay: wait for a click or Enter before each step")
    add(
        "--real-tools",
        action="store_true",
        help="replay: run the recorded commands and file changes again in the session's container",
    )


def run_parser() -> MagicParser:
    """Options of `%agent_run`."""
    parser = MagicParser(
        "%agent_run",
        "%agent_run [options] [command [arguments]]",
        "Run a command: a prompt with a name, such as profile, review or explain, from the\n"
        "configuration, from Markdown files, or built in. Arguments by position, or name=value.\n"
        "Without a command: the list of them.",
    )
    add_turn_options(parser)
    return parser


def fix_parser() -> MagicParser:
    """Options of `%agent_fix`."""
    parser = MagicParser(
        "%agent_fix",
        "%agent_fix [options] [what else the agent should know]",
        "Show the agent the cell that failed last, its error, and what the variables are that it\n"
        "names: types, sizes, columns, keys. The agent proposes a cell that works, which is put\n"
        "into a new cell and not run. Nothing else of the notebook is sent.",
    )
    add_turn_options(parser)
    _add_data_options(parser)
    parser.add_argument("--bare", action="store_true", help="say nothing of the variables")
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
    add("--timeout", metavar="SECONDS", type=seconds, help="end the command after this time")
    add("--cwd", metavar="DIR", help="directory to run in (default: /workspace)")
    add("--out", metavar="NAME", type=_variable, help="variable that gets the result")
    return parser


TURN_PARSERS: dict[str, Callable[[], MagicParser]] = {
    "agent": agent_parser,
    "agent_fix": fix_parser,
    "agent_run": run_parser,
    "agent_shell": shell_parser,
}
"""What the magics for turns and commands accept, by their names."""
