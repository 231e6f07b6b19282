"""The magics: options and variables here, the work in `_core`. Kept cheap to import."""

from __future__ import annotations

import argparse
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable

from ._data._failures import FailureWatch
from ._data._names import named_in
from ._data._prompt import expand
from ._frontend import BACKGROUND_TURNS
from ._options import (
    SANDBOXES,
    TURN_PARSERS,
    MagicParser,
    agent_parser,
    fix_parser,
    run_parser,
    shell_parser,
)

if TYPE_CHECKING:
    from ..client import TurnInput

__all__ = ["AgentMagics"]


_JSON_RETRIES = 2
_IPYTHONS_OWN = re.compile(r"__.*|_+\d*|_i+\d*|_[iod]h")  # dunders, history of inputs and outputs


class _Secret(str):
    """Text that does not show itself in `%config`, which prints values into the notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class _SecretTrait(Unicode):  # type: ignore[misc]  # traitlets' base is untyped here
    def validate(self, obj: Any, value: Any) -> Any:
        return _Secret(super().validate(obj, value))


@magics_class
class AgentMagics(Magics, Configurable):  # type: ignore[misc]  # IPython's base is untyped here
    """Settings of `%%agent` and `%agent_shell`: `%config AgentMagics.model = "..."` sets one."""

    model = Unicode(
        None,
        allow_none=True,
        help="provider/model-id for every turn. Unset: the engine's configured or found model.",
    ).tag(config=True)
    sandbox = Enum(
        SANDBOXES,
        None,
        allow_none=True,
        help="Container of new sessions. 'local' is no container: the agent works as you do.",
    ).tag(config=True)
    permissions = Enum(
        ("ask", "once", "always", "reject"),
        "ask",
        help="The answer to the agent's permission requests: yours, or always this one.",
    ).tag(config=True)
    headless = Enum(
        ("reject", "once", "always"),
        "reject",
        help="The answer to permission requests where nobody can be asked (nbclient, papermill).",
    ).tag(config=True)
    permission_timeout = Float(
        None,
        allow_none=True,
        min=0,
        help=(
            "Seconds after which an unanswered request is rejected. Unset: no limit. "
            "A question at a terminal's prompt waits for its answer."
        ),
    ).tag(config=True)
    show_reasoning = Bool(True, help="Show the model's reasoning, folded.").tag(config=True)
    show_files = Bool(
        True, help="Show tables, Markdown and pictures that a turn made below it, as safe output."
    ).tag(config=True)
    url = Unicode(
        None, allow_none=True, help="Server to use. Unset: the embedded engine is started."
    ).tag(config=True)
    token = _SecretTrait(
        None,
        allow_none=True,
        help="Token for `url`. Better in the environment: AGENT_MAGICS_TOKEN.",
    ).tag(config=True)
    keep_tasks = Bool(
        True,
        help=(
            "Keep the notebook's own asyncio tasks running while a cell waits for the agent. "
            "Where there are any, its event loop runs inside the cell, by nest-asyncio2."
        ),
    ).tag(config=True)
    warm_up = Bool(
        True, help="Start the embedded engine in the background as soon as the magics are loaded."
    ).tag(config=True)

    def __init__(self, shell: Any = None, **options: Any) -> None:
        super().__init__(shell, **options)
        self.failures = FailureWatch()

    def announce(self, *_: Any) -> None:
        """For IPython's `post_run_cell`: tell which turns in the background have ended since."""
        # looked up on the shell: importing what makes them would take time, and another thread
        # may be at it
        if turns := getattr(self.shell, BACKGROUND_TURNS, None):
            turns.announce()

    @no_var_expand  # type: ignore[untyped-decorator]
    @needs_local_scope  # type: ignore[untyped-decorator]
    @line_cell_magic  # type: ignore[untyped-decorator]
    def agent(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> None:
        """Give the agent a task in the notebook's session."""
        options, text = agent_parser().parse_line(line)
        if options.help:
            return _print_help(agent_parser())
        prompt = _with_cell(text, cell)
        if not prompt.strip() and not options.replay:
            agent_parser().error("the prompt is empty")
        variables = self.variables(local_ns)
        notes: tuple[str, ...] = ()
        names: list[str] = []
        if not options.raw:
            names = named_in(prompt, variables)
            expansion = expand(prompt, variables)
            prompt = expansion.text
            notes = tuple(f"{{{name}}} is sent as it is" for name in expansion.unresolved)
        notes += agent_parser().notes_on(text)
        return self._turn(prompt, options, notes, self._data(options, variables, names))

    @no_var_expand  # type: ignore[untyped-decorator]
    @line_magic  # type: ignore[untyped-decorator]
    def agent_run(self, line: str) -> Any:
        """Run a command: a prompt with a name."""
        options, text = run_parser().parse_line(line)
        if options.help:
            return _print_help(run_parser())
        name, _, arguments = text.strip().partition(" ")
        if not name:
            from ._manage._sessions import list_commands

            return list_commands()
        from ..client import CommandCall

        notes = run_parser().notes_on(text)
        return self._turn(CommandCall(name, arguments.strip() or None), options, notes)

    @no_var_expand  # type: ignore[untyped-decorator]
    @line_magic  # type: ignore[untyped-decorator]
    def agent_fix(self, line: str) -> None:
        """Show the agent the cell that failed last, and have it propose one that works."""
        options, text = fix_parser().parse_line(line)
        if options.help:
            return _print_help(fix_parser())
        failed = self.failures.last
        if failed is None:
            raise UsageError("no cell has failed since the magics were loaded")
        variables = self.variables()
        data = self._data(options, variables)
        options.code = not (options.background or options.json)
        told = ""
        if not options.bare:
            from ._data._facts import facts_of

            told = facts_of(failed.names(), variables)
        return self._turn(failed.prompt(text, told), options, data=data)

    def _data(
        self,
        options: argparse.Namespace,
        variables: Mapping[str, Any],
        names: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What `--with`, `--cells` and `names` mean; with `names` as they stand in a prompt."""
        if options.replay:  # nothing is sent
            return {}
        listed = [name.strip() for name in (options.data or "").split(",") if name.strip()]
        if not (listed or names or options.cells):
            return {}
        from ._data._cells import chosen_cells
        from ._data._data import chosen

        found = chosen(dict.fromkeys([*listed, *names]), variables)
        if options.cells:
            found["cells"] = chosen_cells(self.shell.user_ns["In"], options.cells)
        return found

    def _turn(
        self,
        prompt: TurnInput,
        options: argparse.Namespace,
        notes: tuple[str, ...] = (),
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a turn with the options that all magics for turns have in common."""
        from ._core import ask, ask_in_background
        from ._data._structured import ask_structured, named_shape
        from ._errors import TurnFailed

        chosen: dict[str, Any] = {
            "session": None if options.session == "new" else options.session,
            "new": options.new or options.session == "new",
            "title": options.title,
            "model": options.model,
            "agent": options.agent,
            "permissions": options.permissions,
            "timeout": options.timeout,
            "sandbox": options.sandbox,
            "network": options.network,
            "notes": notes,
            "data": data,
            "large": bool(data) and options.large,
        }
        store = self._store(options.out)
        if options.background:
            if options.get or options.code or options.json:
                agent_parser().error("-b goes with none of --get, --code, --json: use them later")
            if options.record or options.replay:
                agent_parser().error("-b goes with neither --record nor --replay")
            number = max(1, len(self.shell.user_ns["In"]) - 1)  # execution_count is the next one's
            name = f"In[{number}]"
            turn = ask_in_background(prompt, name=name, after=store, **chosen)
            self.shell.user_ns["_agent_turn"] = turn
            return
        chosen |= _recording_options(options)
        shape = named_shape(options.json, self.variables()) if options.json else None
        try:
            if shape is None:
                result = ask(prompt, **chosen)
            else:
                reply = ask_structured(prompt, shape, _JSON_RETRIES, chosen)
                result = reply.result
        except TurnFailed as failed:
            store(failed.result)
            raise
        store(result)
        if shape is not None:
            self.shell.user_ns[options.out or "_agent_json"] = reply.value
        for path, name in options.get or ():
            self._fetch(path, name)
        if options.code:
            from ._data._code import propose

            if not propose(self.shell, result.text):
                sys.stderr.write("The agent's answer has no block of Python code.\n")

    @no_var_expand  # type: ignore[untyped-decorator]
    @line_cell_magic  # type: ignore[untyped-decorator]
    def agent_shell(self, line: str, cell: str | None = None) -> None:
        """Run a command in the container of the notebook's session."""
        from ._core import shell

        options, text = shell_parser().parse_line(line)
        if options.help:
            return _print_help(shell_parser())
        command = _with_cell(text, cell)
        if not command.strip():
            shell_parser().error("the command is empty")
        result = shell(command, timeout=options.timeout, cwd=options.cwd)
        if options.out:
            self.shell.user_ns[options.out] = result
        return None

    def _fetch(self, path: str, name: str) -> None:
        """A file of the notebook's session becomes a variable."""
        from ._data._load import load
        from ._manage._workbench import Workbench
        from ._turn._wait import patiently

        session = Workbench().session()
        data = patiently(lambda: session.get_file_buffer(path))
        self.shell.user_ns[name] = load(path, data)

    def variables(self, local_ns: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """What the user defined: without IPython's own names and without dunder names."""
        hidden = getattr(self.shell, "user_ns_hidden", {})
        user_ns = {
            name: value
            for name, value in self.shell.user_ns.items()
            if not _IPYTHONS_OWN.fullmatch(name) and not (name in hidden and hidden[name] is value)
        }
        if local_ns is None or local_ns is self.shell.user_ns:
            return user_ns
        return ChainMap(dict(local_ns), user_ns)

    def _store(self, name: str | None) -> Callable[[Any], None]:
        def store(result: Any) -> None:
            if result is None:
                return
            self.shell.user_ns["_agent"] = result
            if name:
                self.shell.user_ns[name] = result

        return store


def _with_cell(text: str, cell: str | None) -> str:
    """Text of the magic's own line, then the cell without its last line break."""
    if cell is None:
        return text
    body = cell.removesuffix("\n")
    return f"{text}\n{body}" if text else body


def _recording_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `ask()` takes for `--record` and `--replay`."""
    if not options.replay and (options.step or options.real_tools or options.speed is not None):
        agent_parser().error("--speed, --step and --real-tools go with --replay")
    return {
        "record": options.record,
        "replay": options.replay,
        "speed": 1.0 if options.speed is None else options.speed,
        "step": options.step,
        "real_tools": options.real_tools,
    }


def _print_help(parser: MagicParser) -> None:
    sys.stdout.write(parser.format_help())


def _help_of(parser: Callable[[], MagicParser]) -> Callable[[], str]:
    return lambda: parser().format_help()


for _name, _parser in TURN_PARSERS.items():
    # What `%agent?` shows: IPython asks for it when it is wanted, and only then it is made.
    AgentMagics.__dict__[_name].getdoc = _help_of(_parser)
