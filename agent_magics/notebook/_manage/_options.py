"""Options of the magics that look at sessions and manage them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .._options import SANDBOXES, MagicParser, choice, network, number_from, seconds, session_id

__all__ = ["PARSERS", "PERMISSION_ACTIONS", "SESSION_ACTIONS", "SESSION_OPTIONS"]


def _parser(name: str, usage: str, description: str, *, session: bool = True) -> MagicParser:
    parser = MagicParser(f"%{name}", f"%{name} {usage}".rstrip(), description)
    if session:
        parser.add_argument(
            "--session", metavar="ID", type=session_id, help="of this session, not the notebook's"
        )
    return parser


def _session() -> MagicParser:
    parser = _parser(
        "agent_session",
        "[list | new | use | resume | fork | rename | archive | end] [...]",
        "The notebook's session, or what is to become of it.\n\n"
        "  %agent_session                 show the notebook's session\n"
        "  %agent_session list            all sessions; --all with the archived ones\n"
        "  %agent_session new [TITLE]     start another one and go on with it\n"
        "  %agent_session use ID          go on with this one\n"
        "  %agent_session resume [ID]     the same, and show the turn that still runs there, or\n"
        "                                 its last one; without an id the session used last\n"
        "  %agent_session fork [TITLE]    go on with a copy; the original stays as it is\n"
        "  %agent_session rename TITLE\n"
        "  %agent_session archive         out of the list; --undo takes it back\n"
        "  %agent_session end [ID]        delete it, its container and its files for good",
    )
    add = parser.add_argument
    add("action", nargs="?", default="show", type=choice(*SESSION_ACTIONS), help=argparse.SUPPRESS)
    add("words", nargs="*", help=argparse.SUPPRESS)
    add("--all", action="store_true", help="list: with the archived ones")
    add("--undo", action="store_true", help="archive: back into the list")
    add("--model", metavar="NAME", help="new: provider/model-id of the session")
    add("--agent", metavar="NAME", help="new: the session's agent")
    add("--sandbox", metavar="KIND", type=choice(*SANDBOXES), help="new: kind of container")
    add(
        "--network",
        metavar="HOSTS",
        type=network,
        help="new: hosts that its commands may reach, such as python,example.org; on: as "
        "configured; off",
    )
    return parser


SESSION_OPTIONS = {
    "agent": ("new",),
    "all": ("list",),
    "model": ("new",),
    "network": ("new",),
    "sandbox": ("new",),
    "undo": ("archive",),
}
"""The actions that an option of `%agent_session` belongs to."""
SESSION_ACTIONS = ("show", "list", "new", "use", "resume", "fork", "rename", "archive", "end")


def _model() -> MagicParser:
    parser = _parser(
        "agent_model",
        "[NAME]",
        "The models that can be used here; with a NAME (provider/model-id) the model of all\n"
        "further turns of this notebook. `default` goes back to the engine's own choice.",
        session=False,
    )
    parser.add_argument("name", nargs="?", help=argparse.SUPPRESS)
    return parser


def _messages() -> MagicParser:
    parser = _parser("agent_messages", "[-n COUNT]", "The messages of the session, oldest first.")
    parser.add_argument("-n", "--last", metavar="COUNT", type=number_from(1), help="only the last")
    return parser


def _permissions() -> MagicParser:
    parser = _parser(
        "agent_permissions",
        "[pending | rules | withdraw ID | once ID | always ID | reject ID [WHY]]",
        "What the agent waits to be allowed, and what it may do without asking.\n\n"
        "  %agent_permissions             open requests\n"
        "  %agent_permissions rules       what 'always' answers allow in this session\n"
        "  %agent_permissions withdraw ID take one of these back; `all` for all of them\n"
        "  %agent_permissions once ID     answer a request; so do always and reject",
    )
    parser.add_argument(
        "action", nargs="?", default="pending", type=choice(*PERMISSION_ACTIONS), help="see above"
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    return parser


PERMISSION_ACTIONS = ("pending", "rules", "withdraw", "once", "always", "reject")


def _revert() -> MagicParser:
    parser = _parser(
        "agent_revert",
        "[MESSAGE] [--preview | --undo]",
        "Take back a message and everything after it, files included. MESSAGE is an id of\n"
        "%agent_messages, by default the last one that you sent.",
    )
    add = parser.add_argument
    add("message", nargs="?", help=argparse.SUPPRESS)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--preview", action="store_true", help="only show what would change")
    how.add_argument("--undo", action="store_true", help="bring back what was taken back last")
    return parser


def _files() -> MagicParser:
    parser = _parser(
        "agent_files", "[PATH] [-r]", "Files of the session's container (default: /workspace)."
    )
    parser.add_argument("path", nargs="?", default="/workspace", help=argparse.SUPPRESS)
    parser.add_argument("-r", "--recursive", action="store_true", help="everything below, too")
    return parser


def _get() -> MagicParser:
    parser = _parser(
        "agent_get",
        "PATH [TARGET]",
        "Copy a file out of the container: to TARGET, a file or a directory on this computer\n"
        "(default: the current directory).",
    )
    add = parser.add_argument
    add("path", help=argparse.SUPPRESS)
    add("target", nargs="?", default=".", help=argparse.SUPPRESS)
    add("--force", action="store_true", help="overwrite a file that is there")
    return parser


def _put() -> MagicParser:
    parser = _parser(
        "agent_put",
        "FILE [...] [--to DIR]",
        "Copy files of this computer into the container; patterns such as *.csv are expanded.",
    )
    parser.add_argument("files", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--to", metavar="DIR", default="/workspace", help="default: /workspace")
    return parser


def _artifacts() -> MagicParser:
    parser = _parser(
        "agent_artifacts",
        "[KEY [TARGET]]",
        "The named results of the session; with a KEY copy one to TARGET, a file or a\n"
        "directory on this computer (default: the current directory).",
    )
    add = parser.add_argument
    add("key", nargs="?", help=argparse.SUPPRESS)
    add("target", nargs="?", default=".", help=argparse.SUPPRESS)
    add("--force", action="store_true", help="overwrite a file that is there")
    return parser


def _wait() -> MagicParser:
    parser = _parser(
        "agent_wait",
        "[--timeout SECONDS]",
        "Wait until the turns in the background (%%agent -b) are over; returns their results,\n"
        "also of those that have ended since the last time.\n"
        "Their buttons work meanwhile. Stop ends the waiting, not the turns.",
        session=False,
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="give up after this time"
    )
    return parser


def _export() -> MagicParser:
    parser = _parser(
        "agent_export",
        "FILE",
        "Write the session's conversation to FILE: .md and .html for people, .json for programs.",
    )
    parser.add_argument("file", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    return parser


def _help() -> MagicParser:
    parser = _parser(
        "agent_help",
        "[MAGIC]",
        "All magics of the agent; with the name of a MAGIC what it does and its options.",
        session=False,
    )
    parser.add_argument("name", nargs="?", help=argparse.SUPPRESS)
    return parser


def _simple(name: str, description: str, *, session: bool = True) -> Callable[[], MagicParser]:
    return lambda: _parser(name, "", description, session=session)


PARSERS: dict[str, Callable[[], MagicParser]] = {
    "agent_abort": _simple("agent_abort", "Stop the turn that runs in the session."),
    "agent_artifacts": _artifacts,
    "agent_config": _simple(
        "agent_config", "The settings of the magics and their values.", session=False
    ),
    "agent_doctor": _simple(
        "agent_doctor",
        "Check containers, models and the engine on this machine; says what to do next.",
        session=False,
    ),
    "agent_export": _export,
    "agent_files": _files,
    "agent_get": _get,
    "agent_help": _help,
    "agent_messages": _messages,
    "agent_metrics": _simple("agent_metrics", "Tokens, cost and tool calls of the session."),
    "agent_model": _model,
    "agent_permissions": _permissions,
    "agent_put": _put,
    "agent_revert": _revert,
    "agent_session": _session,
    "agent_summarize": _simple(
        "agent_summarize", "Have the model summarize the conversation, to make room in its context."
    ),
    "agent_wait": _wait,
    "agent_todos": _simple("agent_todos", "The agent's plan in the session."),
}
"""What each of these magics accepts, by its name."""
